"""Things that come in before the face from above, below or the side: hands, hair, cloths, hats, books.

Each is made of `u`, across its way, and `v`, along it, both (h, w) in units of the face with the origin at the face's
centre; v grows the way it comes.
"""

from collections.abc import Callable

import numpy as np

from fertool.occlusion.geometry import Face
from fertool.occlusion.occluders import Paint, Thing
from fertool.occlusion.patterns import cloth_colour, coloured, hair_colour, noise, rounded, step, wander

_FINGER = 0.3  # width of a finger
_SLANT, _HAND_SLANT = 7, 18  # by how many degrees (sd) things, and arms, come aslant


def make(kind: str, rng: np.random.Generator, face: Face, skin: np.ndarray) -> Thing:
    """Return something that covers the face from one side.

    Args:
        kind: "upper", "bottom" or "left-right".
        skin: (3,) the colour of hands.
    """
    right, down = face.axes
    if kind == "left-right" and rng.random() < 0.25:
        return _both_hands(rng, face, skin)
    style = _STYLES[kind][rng.integers(len(_STYLES[kind]))]
    way = {"upper": (0, 1), "bottom": (0, -1)}.get(kind) or (rng.choice([-1, 1]), 0)
    slant = np.radians(rng.normal(0, _HAND_SLANT if style in (_fingers, _flat_hand) else _SLANT))
    a, b = np.array([[np.cos(slant), -np.sin(slant)], [np.sin(slant), np.cos(slant)]]) @ way
    v = (a * right + b * down).astype(np.float32)
    u = (-b * right + a * down).astype(np.float32)
    if kind == "left-right":  # u points up: fingers on a cheek do, mostly
        u = -np.sign(a) * u * (1 if rng.random() < 0.85 else -1)
    elif rng.random() < 0.5:
        u = -u
    return style(rng, u, v, skin)


def _cloth(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return a scarf, shawl or blanket with folds, a hem, and perhaps a pattern."""
    colour, other = cloth_colour(rng), cloth_colour(rng)
    edge = 0.12 * wander(rng, u, 0.8) + rng.normal(0, 0.06) * u**2
    slope, folds = rng.normal(0, 0.3), rng.uniform(1.2, 2.6)
    bends = noise(rng, u.shape, 5)
    weave = noise(rng, u.shape, 70)
    pattern, period = rng.choice(["plain", "stripes", "checks"], p=[0.5, 0.3, 0.2]), rng.uniform(0.2, 0.6)
    strength = rng.uniform(0.1, 0.25)

    def paint(depth: np.ndarray) -> np.ndarray:
        waves = np.sin(2 * np.pi * (folds * (depth + slope * u) + 0.25 * bends))
        shade = 0.92 + strength * waves + 0.04 * weave + 0.25 * step(-depth, -0.05, 0.05) - 0.2 * np.exp(-depth / 0.05)
        mix = np.zeros_like(u)
        if pattern != "plain":
            mix = step(np.sin(2 * np.pi * (depth + 0.03 * bends) / period), 0.3, 0.2)
        if pattern == "checks":
            mix = 0.5 * mix + 0.5 * step(np.sin(2 * np.pi * (u + 0.03 * bends) / period), 0.3, 0.2)
        return coloured(colour, shade) * (1 - mix[..., None]) + coloured(other, shade) * mix[..., None]

    return Thing("cloth", v - edge, paint)


def _knit(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return the ribbed edge of a woollen hat or a collar, and stitches behind it."""
    colour = cloth_colour(rng)
    edge = rng.uniform(-0.05, 0.14) * (1 - u**2) + 0.02 * wander(rng, u, 3)
    rib, band, rough = rng.uniform(0.1, 0.2), rng.uniform(0.35, 0.7), noise(rng, u.shape, 60)

    def paint(depth: np.ndarray) -> np.ndarray:
        ribs = np.abs(np.sin(np.pi * u / rib))
        stitches = np.abs(np.sin(np.pi * u / rib) * np.cos(np.pi * (depth + 0.35 * rib * ribs) / rib))
        fold = step(depth, band, 0.04)
        shade = 0.62 + 0.38 * (ribs * (1 - fold) + stitches * fold) + 0.05 * rough
        shade *= 1 - 0.35 * np.exp(-(((depth - band - 0.04) / 0.05) ** 2)) - 0.25 * np.exp(-depth / 0.05)
        return coloured(colour, shade)

    return Thing("knitwear", v - edge, paint)


def _cap(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return a cap: its visor, seen from below or from the front, and the crown above."""
    colour, visor = cloth_colour(rng), cloth_colour(rng)
    if rng.random() < 0.6:
        visor = 0.8 * colour
    edge = rng.uniform(-0.1, 0.28) * (1 - u**2 / 1.6)
    deep, panels, rough = rng.uniform(0.25, 0.5), rng.uniform(0.7, 1.1), noise(rng, u.shape, 40)

    def paint(depth: np.ndarray) -> np.ndarray:
        crown = step(depth, deep * (1 - 0.35 * np.minimum(u**2, 2)), 0.03)[..., None]
        seam = 1 - 0.25 * np.exp(-(((np.abs(u) % panels) / 0.025) ** 2))
        stitch = 1 - 0.12 * np.exp(-((((depth % 0.07) - 0.035) / 0.012) ** 2))
        lit = 0.7 + 0.25 * step(depth, 0.04, 0.05) - 0.12 * u**2 + 0.03 * rough
        dome = (1.0 - 0.16 * u**2 + 0.04 * rough) * seam - 0.3 * np.exp(-np.abs(depth - deep) / 0.06)
        return coloured(visor, lit * stitch) * (1 - crown) + coloured(colour, dome) * crown

    return Thing("cap", v - edge, paint, shadow=0.5)


def _hair(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return hair hanging into the face."""
    edge = 0.2 * wander(rng, u, 1.2) + 0.16 * wander(rng, u, 5) + 0.06 * wander(rng, u, 16)
    return Thing("hair", v - edge, _strands(rng, u + rng.normal(0, 0.12) * v, v), shadow=0.25)


def _side_hair(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return long hair that falls over one side of the face."""
    swing = 0.25 * wander(rng, u, 0.5) + rng.normal(0, 0.15) * u
    edge = swing + 0.03 * wander(rng, u, 4)
    return Thing("hair", v - edge, _strands(rng, v - swing + 0.04 * wander(rng, u, 1), u), shadow=0.25)


def _strands(rng: np.random.Generator, side: np.ndarray, along: np.ndarray) -> Paint:
    """Paint of hair: `side` tells the strands apart, `along` goes with them."""
    colour = hair_colour(rng)
    strand = side + 0.08 * noise(rng, side.shape, 3)
    coarse, fine = wander(rng, strand, 7), wander(rng, strand, 24)
    shine, bumps = rng.uniform(-0.6, 0.6), noise(rng, side.shape, 4)

    def paint(depth: np.ndarray) -> np.ndarray:
        gloss = np.exp(-(((along - shine + 0.2 * coarse) / 0.22) ** 2))
        shade = 0.85 + 0.22 * coarse + 0.22 * fine + 0.1 * bumps
        return coloured(colour, np.clip(shade, 0.25, 1.6)) + coloured(0.16 + 0.25 * colour, gloss * (0.6 + 0.4 * fine))

    return paint


def _fingers(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return one or two hands, their fingers pointing the way they come; a sleeve follows."""
    width = _FINGER * rng.uniform(0.9, 1.1)
    two = rng.random() < 0.45
    middle = rng.normal(0, 0.15)
    spread = rng.normal(0, 0.05)
    local = u + spread * np.abs(v) - middle
    hands = [-2.15 * width, 2.15 * width] if two else [0.0]
    tips, place = np.full_like(u, -1.3), np.zeros_like(u)
    for at in hands:
        mirror = rng.choice([-1, 1])
        for i, reach in enumerate((0.0, 0.14, 0.09, -0.12)):
            s = (local - at) / width - mirror * (i - 1.5)
            mine = np.abs(s) <= 0.5
            tip = reach + rng.normal(0, 0.03) - 0.6 * width * (1 - np.sqrt(np.clip(1 - (2 * s) ** 2, 0, 1)))
            tips, place = np.where(mine, tip, tips), np.where(mine, 2 * s, place)
    hand = (np.abs(local) < (4 if two else 2) * width).astype(np.float32)
    sleeve, rough = cloth_colour(rng), noise(rng, u.shape, 8)

    def paint(depth: np.ndarray) -> np.ndarray:
        palm = step(depth, 1.1, 0.3)
        shade = rounded(place) * (1 - palm) + palm * (0.95 + 0.05 * rough)
        creases = sum(np.exp(-(((depth - at + 0.03 * place**2) / 0.02) ** 2)) for at in (0.36, 0.42, 0.78, 0.84))
        nail = step(0.05 - np.abs(depth - 0.12) + 0.05 * (1 - np.abs(place) * 1.7), 0.045, 0.03) * (np.abs(place) < 0.6)
        shade = shade * (1 - 0.1 * creases * (1 - palm)) + 0.1 * nail + 0.02 * rough
        flesh = coloured(skin, shade)
        flesh[..., 1:] *= (1 - 0.05 * np.exp(-((depth / 0.12) ** 2)))[..., None]  # finger tips are redder
        cuff = np.maximum(1 - hand, step(depth, 2.2, 0.05))[..., None]
        return flesh * (1 - cuff) + coloured(sleeve, 0.9 + 0.12 * rough) * cuff

    return Thing("hands" if two else "hand", v - tips, paint)


def _flat_hand(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return a hand laid across, its fingers towards positive u: the index is its edge, the others follow behind."""
    tip = rng.uniform(0.2, 1.1)
    past = np.maximum(u - tip, 0)
    edge = 0.06 * wander(rng, u, 0.6) - np.minimum(4 * past**2, 1.6)
    field, paint = _stack(rng, u, v - edge, skin, tip)
    return Thing("hand", field, paint)


def _both_hands(rng: np.random.Generator, face: Face, skin: np.ndarray) -> Thing:
    """Return a hand on each cheek, its fingers pointing up."""
    _, down = face.axes
    tip = rng.uniform(0.0, 0.7)  # above the centre
    past = np.maximum(-down - tip, 0)
    lean = rng.uniform(-0.15, 0.3) * down
    field = 1.15 - np.abs(face.around) * 1.15 + np.minimum(4 * past**2, 1.0) + lean + 0.03 * noise(rng, down.shape, 3)
    field, paint = _stack(rng, -down, field.astype(np.float32), skin, tip)
    return Thing("hands", field, paint)


def _stack(
    rng: np.random.Generator, u: np.ndarray, field: np.ndarray, skin: np.ndarray, tip: float
) -> tuple[np.ndarray, Paint]:
    """Return field and paint of fingers that lie one behind another, their tips towards positive u."""
    width = _FINGER * rng.uniform(0.9, 1.1)
    ends = tip - 0.05 + rng.normal(0, 0.08, 4)
    rough, sleeve = noise(rng, u.shape, 6), cloth_colour(rng)

    def paint(depth: np.ndarray) -> np.ndarray:
        number = np.clip(depth / width, 0, 3.999)
        position = 2 * (number % 1) - 1
        palm = np.maximum(step(depth, 4 * width, 0.1), step(-u, 1.1 - tip, 0.4))
        shade = rounded(position) * (1 - palm) + palm * (0.92 + 0.04 * rough)
        end = np.abs(u - ends[number.astype(int)])
        shade = shade * (1 - 0.12 * np.exp(-(((end - 0.45) / 0.02) ** 2)) * (1 - palm)) + 0.02 * rough
        cuff = step(-u, 2.1 - tip, 0.05)[..., None]
        return coloured(skin, shade) * (1 - cuff) + coloured(sleeve, 0.9 + 0.12 * rough) * cuff

    return field, paint


def _board(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, skin: np.ndarray) -> Thing:
    """Return a book, a sheet of paper or a tablet: a straight edge, and what is printed on it."""
    name = ("book", "paper", "tablet")[rng.integers(3)]
    middle, half = rng.normal(0, 0.15), rng.uniform(1.35, 1.9)
    corner = 0.12 if name == "tablet" else 0.02
    past = np.maximum(np.abs(u - middle) - half + corner, 0)
    edge = -np.minimum(past**2 / max(corner, 0.02), 2.0)
    colour = {"book": cloth_colour(rng), "paper": np.full(3, rng.uniform(0.82, 0.97), np.float32)}.get(name)
    colour = np.full(3, rng.uniform(0.1, 0.3), np.float32) if colour is None else colour
    ink = np.clip(colour + (0.5 if colour.mean() < 0.5 else -0.5), 0.05, 0.95)
    start, pitch, tall = rng.uniform(0.25, 0.5), *((rng.uniform(0.12, 0.18), 0.4) if name == "paper" else (0.5, 0.45))
    ragged = wander(rng, np.floor((v + 8) / pitch), 2.0, reach=64)
    slope = rng.normal(0, 0.1)

    def paint(depth: np.ndarray) -> np.ndarray:
        row = (depth - start) / pitch
        words = (row > 0) & (row % 1 < tall) & (np.abs(u - middle) < 0.85 * half - 0.25 - 0.2 * ragged)
        words &= (row < 40) if name == "paper" else (row < 2)
        shade = 1 + slope * (u - middle) - 0.06 * depth
        flat = coloured(colour, shade)
        if name == "tablet":
            flat = flat + coloured(np.full(3, 0.12), step(np.sin(3 * (u + 0.5 * depth)), 0.3, 0.3) * (depth > 0.1))
        else:
            flat = np.where(words[..., None], 0.35 * flat + 0.65 * ink, flat)
        rim = np.exp(-((depth / 0.03) ** 2)) * (0.35 if name == "book" else 0.15)
        return flat * (1 - rim[..., None]) + rim[..., None]

    return Thing(name, v - edge, paint)


_Style = Callable[[np.random.Generator, np.ndarray, np.ndarray, np.ndarray], Thing]
_STYLES: dict[str, tuple[_Style, ...]] = {
    "upper": (_cap, _knit, _hair, _fingers, _flat_hand, _cloth, _board),
    "bottom": (_cloth, _knit, _fingers, _fingers, _flat_hand, _board),
    "left-right": (_side_hair, _fingers, _flat_hand, _flat_hand, _cloth, _board),
}
