"""Who is rendered: the shape of a head and its colours, drawn from a subject's number alone."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fertool.rendering.head import Head, load_head
from fertool.rendering.scene import muted

# skin of young adults in sRGB, light to dark, and where on that scale the peoples of the shape targets lie
_SKINS = np.array(
    [(238, 207, 190), (226, 184, 160), (206, 160, 128), (178, 128, 96), (134, 90, 64), (92, 60, 44)], float
)
_SKIN_RANGE = {"caucasian": (0.0, 2.4), "asian": (0.8, 3.0), "african": (3.2, 5.0)}
_HAIRS = np.array([(22, 18, 17), (46, 32, 25), (88, 60, 40), (150, 112, 70), (128, 62, 36), (150, 148, 146)], float)
_IRISES = np.array([(58, 36, 22), (92, 60, 34), (74, 92, 60), (84, 118, 142), (106, 118, 124)], float)

# the hairline on the base head: y of its edge over z, from the forehead past the temple and the ear to the nape
_HAIRLINE = np.array([(-0.5, -1.1), (0.0, -0.95), (0.4, -0.72), (0.62, -0.3), (0.8, 0.1), (1.0, 0.15), (1.25, -0.1)])
_NAPE = np.array([(1.5, 0.5), (1.8, 0.95), (2.7, 1.15)])


@dataclass(frozen=True)
class Person:
    """One subject.

    Attributes:
        seed: the subject's number.
        neutral: (V, 3) vertices of the head at rest, hair included, in the frame of `fertool.rendering.head`.
        age: 0 young to 1 old.
        skin, lips, iris, hair, cloth: (3,) linear RGB reflectance.
        hairline: how far the forehead's hairline has gone back; None for a shaved head.
        long_hair: vertices (M, 3) and triangles (K, 3) of hair that hangs down, or None.
        brow: half width of the eyebrows. brow_density, beard, freckles, blush: 0..1.
    """

    seed: int
    neutral: np.ndarray
    age: float
    skin: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray
    hairline: float | None
    long_hair: tuple[np.ndarray, np.ndarray] | None
    brow: float
    brow_density: float
    beard: float
    freckles: float
    blush: float


@lru_cache(64)
def person(seed: int) -> Person:
    """Return the subject with this number: always the same."""
    rng = np.random.default_rng([seed, 1])
    head = load_head()

    man = rng.random() < 0.5
    age = float(rng.beta(1.2, 2.0))
    races = rng.dirichlet([0.35, 0.35, 0.35])
    race_names = ("caucasian", "african", "asian")
    gender = float(np.clip((0.9 if man else 0.1) + rng.normal(0, 0.12), 0, 1))
    shape = head.rest.copy()
    for name, race in zip(race_names, races, strict=True):
        for sex, g in (("male", gender), ("female", 1 - gender)):
            for time, a in (("old", age), ("young", 1 - age)):
                shape += race * g * a * head.macros[name, sex, time]
    for low, high in head.sliders.values():
        amount = float(np.clip(rng.normal(0, 0.27), -0.8, 0.8))
        shape += abs(amount) * (high if amount > 0 else low)
    shape = _upright(shape, head)

    place = sum(w * rng.uniform(*_SKIN_RANGE[n]) for n, w in zip(race_names, races, strict=True))
    skin = _linear(_between(_SKINS, place) * rng.uniform(0.94, 1.04, 3))
    dark = place / (len(_SKINS) - 1)
    lips = skin * np.array([0.92, 0.62, 0.62]) * rng.uniform(0.8, 1.05)
    if not man and rng.random() < 0.4:  # lipstick
        lips = _linear(np.array([rng.uniform(120, 180), rng.uniform(30, 70), rng.uniform(45, 80)]))
    grey = age > 0.55 and rng.random() < 0.6
    hair = _HAIRS[5] if grey else _HAIRS[rng.choice(5, p=_hair_chances(dark))]
    hair = _linear(hair * rng.uniform(0.8, 1.15))
    iris = _linear(_IRISES[0 if rng.random() < dark + 0.2 else rng.integers(1, 5)] * rng.uniform(0.9, 1.2))

    shaved = man and rng.random() < 0.15
    hairline = None if shaved else float(rng.uniform(-0.05, 0.15) + (rng.uniform(0, 0.35) * age if man else 0))
    thickness = 0.0 if shaved else float(rng.uniform(0.04, 0.14) if man else rng.uniform(0.08, 0.2))
    neutral = (
        shape
        if hairline is None
        else shape + thickness * _scalp(head.rest, hairline)[:, None] * normals(shape, head.triangles)
    )
    long = not man and rng.random() < 0.7

    return Person(
        seed=seed,
        neutral=neutral.astype(np.float32),
        age=age,
        skin=skin,
        lips=lips,
        iris=iris,
        hair=hair,
        cloth=muted(rng),
        hairline=hairline,
        long_hair=_long_hair(shape, thickness, rng) if long else None,
        brow=float(rng.uniform(0.032, 0.055) if man else rng.uniform(0.022, 0.042)),
        brow_density=float(rng.uniform(0.6, 0.95)),
        beard=float(rng.choice([0, 0.25, 0.5, 0.85], p=[0.45, 0.25, 0.15, 0.15])) if man else 0.0,
        freckles=float(rng.uniform(0, 0.25) * (1 - dark)),
        blush=float(rng.uniform(0.2, 1.0)),
    )


def normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return (V, 3) outward unit normals, each the area-weighted mean over a vertex's triangles."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    corners = triangles.ravel()
    summed = np.stack(
        [np.bincount(corners, np.repeat(face[:, k], 3), minlength=len(vertices)) for k in range(3)], axis=1
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


def above_hairline(rest: np.ndarray, hairline: float) -> np.ndarray:
    """Return how far points (N, 3) of the base head lie inside the hair (positive) or outside, in interocular units."""
    z, y = rest[:, 2], rest[:, 1]
    curve = np.concatenate([_HAIRLINE, _NAPE])
    back = hairline * np.interp(z, [0.3, 0.7], [1, 0])
    return np.interp(z, curve[:, 0], curve[:, 1]) - back - y


def _scalp(rest: np.ndarray, hairline: float) -> np.ndarray:
    """Return (V,) 0..1: where hair stands off the skull, rising from the hairline; not at the ears and sideburns."""
    ears = (np.abs(rest[:, 0]) > 1.1) & (rest[:, 1] > -0.15) & (rest[:, 2] > 0.9) & (rest[:, 2] < 1.6)
    above_ears = np.where(rest[:, 2] < 1.1, np.clip(-(rest[:, 1] + 0.1) / 0.4, 0, 1), 1)
    return np.clip(above_hairline(rest, hairline) / 0.35, 0, 1) * above_ears * ~ears


def _long_hair(shape: np.ndarray, thickness: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a sheet around the back and sides of the head that hangs from above the ears."""
    length = rng.uniform(1.3, 3.6)
    reach = np.radians(rng.uniform(93, 108))
    around, down = 41, 18
    angle = np.linspace(-reach, reach, around)
    level = np.linspace(0, 1, down)[:, None]
    half = np.abs(shape[(np.abs(shape[:, 1] + 0.6) < 0.2), 0]).max() + thickness
    # it leaves the hair on the skull from inside, passes over the ears, then falls
    out = 0.07 - 0.35 * np.exp(-level / 0.12) + rng.uniform(0.0, 0.2) * level**1.5 + 0.14 * np.sin(np.pi * level)
    wave = 1 + 0.02 * np.sin(14 * angle + rng.uniform(0, 6)) * level
    x = (half + out) * np.sin(angle) * wave
    y = -0.9 + (length + 0.9) * level + 0.04 * np.sin(9 * angle + rng.uniform(0, 6)) * level
    z = 1.05 + (1.45 + thickness + out - 0.45 * level) * np.cos(angle)
    vertices = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)
    at = np.arange(down * around).reshape(down, around)
    a, b, c, d = at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return vertices.astype(np.float32), triangles.astype(np.int32)


def _upright(shape: np.ndarray, head: Head) -> np.ndarray:
    """Turn a head like the base head, then move and scale it to put the eyeballs in place."""
    face = (head.rest[:, 1] > -1.2) & (head.rest[:, 1] < 2.0) & (head.rest[:, 2] < 1.0)
    mine, base = (p[face] - p[face].mean(0) for p in (shape, head.rest))
    u, _, v = np.linalg.svd(base.T.astype(np.float64) @ mine)
    shape = shape @ (u @ v).T
    left, right = ((shape[e].min(0) + shape[e].max(0)) / 2 for e in head.eyeballs)
    return (shape - (left + right) / 2) / np.linalg.norm(left - right)


def _hair_chances(dark: float) -> list[float]:
    black = 0.3 + 0.65 * dark
    rest = np.array([0.4, 0.3, 0.2, 0.1]) * (1 - black)
    return [black, *rest]


def _between(colours: np.ndarray, place: float) -> np.ndarray:
    index = np.arange(len(colours))
    return np.array([np.interp(place, index, colours[:, k]) for k in range(3)])


def _linear(srgb: np.ndarray) -> np.ndarray:
    """Return sRGB 0..255 as linear reflectance 0..1 (a power of 2.2)."""
    return (np.clip(srgb, 0, 255) / 255) ** 2.2
