"""What is worn on the face: spectacles, sunglasses, medical masks. They follow the landmarks, turn and all."""

from collections.abc import Sequence

import numpy as np

from fertool.occlusion.geometry import Face
from fertool.occlusion.occluders import Thing
from fertool.occlusion.patterns import coloured, noise, step

_LENS = np.array([[0.37, 0.26], [0.42, 0.33]])  # half width and height of a lens: from, to
_HIDDEN = 0.15  # sine of the turn from which on the far ear is behind the face
_FRONT = -0.42  # depth of the lenses on the mean head


def make(rng: np.random.Generator, face: Face, severities: Sequence[float]) -> list[Thing]:
    """Return for each fraction of the face that is to be covered, what covers about so much.

    Spectacles up to a tenth of it, sunglasses up to a fifth, then a mask, and from 0.45 on both.
    """
    mask = _mask(rng, face)
    clear, dark = (_glasses(np.random.default_rng(rng.integers(2**32)), face, dark=dark) for dark in (False, True))
    both = _both(mask, dark)
    return [clear if s < 0.1 else dark if s < 0.2 else mask if s < 0.45 else both for s in severities]


def _glasses(rng: np.random.Generator, face: Face, *, dark: bool) -> Thing:
    """Return spectacles, whose rims grow thicker with the level, or sunglasses, whose lenses grow larger."""
    power = rng.choice([2.0, 2.6, 4.0])
    half = rng.uniform(*_LENS)
    rim = rng.uniform(0.02, 0.06)
    tint = rng.uniform(0.86, 0.98) if dark else rng.uniform(0.05, 0.2)
    frame = np.array([(0.05, 0.05, 0.06), (0.22, 0.13, 0.08), (0.55, 0.55, 0.58), (0.45, 0.1, 0.12)][rng.integers(4)])
    lens_colour = np.array([(0.05, 0.05, 0.06), (0.14, 0.09, 0.05), (0.07, 0.1, 0.14)][rng.integers(3)], np.float32)
    drop = rng.uniform(0.0, 0.06)

    camera, x, y = _plane(face)
    eyes = [_on_plane(camera, face.points[s].mean(axis=0)) for s in (slice(36, 42), slice(42, 48))]
    gap = max((eyes[1] - eyes[0])[0] / 2 - 0.09, 0.2)  # the lenses do not run into one another
    half = half * min(1, gap / half[0])
    size, lens, height = np.full(x.shape, np.inf, np.float32), np.full(x.shape, 9.0, np.float32), np.zeros_like(x)
    for ex, ey in eyes:
        a, b = (x - ex) / half[0], (y - ey - drop) / half[1]
        norm = (np.abs(a) ** power + np.abs(b) ** power) ** (1 / power)
        if not dark:
            size = np.minimum(size, np.abs(norm - 1) * half.mean())
        height, lens = np.where(norm < lens, b, height), np.minimum(lens, norm)
    if dark:
        size = (lens - 1) * half.mean()
    thick = rim if dark else 0.0  # the level makes the rest of spectacles
    (lx, ly), (rx, ry) = eyes[0] + [half[0], 0.02], eyes[1] + [-half[0], 0.02]
    bridge = _from_line(x, y - 0.12 * np.square(x - (lx + rx) / 2), (lx, ly), (rx, ry)) - thick
    grown = np.minimum(size, np.minimum(bridge, _temples(face, eyes, half, 0.6 * thick)))
    glass = np.where((lens < 1) & ~dark, tint, 0).astype(np.float32)
    glare, at = rng.uniform(0, 0.5), rng.uniform(-0.5, 0.3)

    def paint(depth: np.ndarray) -> np.ndarray:
        # the rim is what lies just behind the edge of sunglasses, all of spectacles but their glass
        inside = step(depth, 1.6 * rim, 0.02) if dark else (lens < 1) * step(-depth, 0.0, 0.02)
        shine = glare * np.exp(-(((height + 0.35 * x - at) / 0.18) ** 2))
        ground = coloured(lens_colour if dark else np.full(3, 0.75, np.float32), 1.15 - 0.3 * height)
        lenses = ground + shine[..., None] * (0.55 - 0.2 * ground)
        edge = coloured(frame.astype(np.float32), 1 + 0.3 * np.cos(9 * x) * np.cos(7 * y))
        return lenses * inside[..., None] + edge * (1 - inside[..., None])

    if dark:
        return Thing("sunglasses", grown, paint, shadow=0.15, levels=(-0.12, 0.2))
    return Thing("spectacles", grown, paint, glass=glass, shadow=0.15, levels=(0.012, 0.1))


def _temples(face: Face, eyes: list[np.ndarray], half: np.ndarray, thick: float) -> np.ndarray:
    """Return the way to the temples of the glasses, as far as they lie beside the head in the image."""
    nearest = np.full(face.grid.shape[:2], np.inf, np.float32)
    sidewards = face.camera[:, 2] @ face.across
    for side, (ex, ey) in zip((-1, 1), eyes, strict=True):
        if side * sidewards > 0:  # its far end shows outside its hinge
            ends = [(ex + side * half[0], ey - 0.03, _FRONT + 0.1), (side * 1.15, 0.05, 0.85)]
            a, b = (face.camera @ [*end, 1] for end in ends)
            pixels = face.grid
            nearest = np.minimum(nearest, _from_line(pixels[..., 0], pixels[..., 1], a, b) / face.unit - thick)
    return nearest


def _mask(rng: np.random.Generator, face: Face) -> Thing:
    """Return a medical or cloth mask: its upper edge rises with the level, from below the nose to below the eyes."""
    around = face.around
    _, down = face.axes
    nose, lift = rng.uniform(0.2, 0.34), rng.uniform(1.3, 2.0)
    edge = down - nose * np.clip(np.abs(around), 0, 1.3) ** lift
    below = _below_chin(face)
    field = np.where((np.abs(around) < 1.04) & below, -edge, np.inf).astype(np.float32)
    colours = [(0.9, 0.92, 0.94), (0.55, 0.74, 0.84), (0.1, 0.1, 0.12), (0.86, 0.72, 0.76), (0.6, 0.75, 0.68)]
    colour = np.array(colours[rng.choice(5, p=[0.3, 0.3, 0.2, 0.1, 0.1])], np.float32) * rng.uniform(0.9, 1.05)
    pleats, rough = rng.random() < 0.7, noise(rng, down.shape, 8)
    loops = np.full(down.shape, np.inf, np.float32)
    for side, outer, inner in ((-1, 0, 2), (1, 16, 14), (-1, 1, 5), (1, 15, 11)):
        if side * (face.camera[:, 2] @ face.across) < -_HIDDEN * face.unit:
            continue
        a, b = face.points[outer], face.points[inner]
        away = _from_line(face.grid[..., 0], face.grid[..., 1], a, b) / face.unit
        loops = np.minimum(loops, np.where(np.abs(around) > 1.0, away, np.inf))

    def paint(depth: np.ndarray) -> np.ndarray:
        shade = 1.02 - 0.22 * around**2 + 0.05 * rough - 0.08 * np.clip(down - 1.0, 0, 1)
        if pleats:
            for at in (0.32, 0.5, 0.68):
                line = (depth / 1.35 - at - 0.08 * (1 - around**2)) / 0.02
                shade = shade - 0.14 * np.exp(-(line**2)) * (np.abs(around) < 0.9) + 0.06 * np.exp(-((line + 1.5) ** 2))
        hem = np.exp(-(((depth - 0.06) / 0.015) ** 2))
        return coloured(colour, shade - 0.12 * hem)

    glass = (loops < 0.02).astype(np.float32) * 0.9
    return Thing("mask", field, paint, glass=glass, shadow=0.3, levels=(-1.05, 0.12))


def _below_chin(face: Face) -> np.ndarray:
    """Return (h, w) bool: above the lower edge of the jaw, a little widened as a mask reaches under the chin."""
    right, down = face.axes
    places = (face.points[:17] - face.centre) / face.unit
    x, y = places @ face.across, places @ face.down
    order = np.argsort(x[3:14]) + 3
    return down < np.interp(right, x[order], y[order] + 0.06)


def _both(mask: Thing, glasses: Thing) -> Thing:
    """Return sunglasses of their usual size, and a mask whose upper edge rises."""
    worn = glasses.field <= 0
    field = np.where(worn, -9.0, mask.field).astype(np.float32)

    def paint(depth: np.ndarray) -> np.ndarray:
        return np.where(worn[..., None], glasses.paint(-glasses.field), mask.paint(depth))

    return Thing("mask and sunglasses", field, paint, glass=mask.glass, shadow=0.25, levels=mask.levels)


def _plane(face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the affine view (2, 3) of the plane the lenses lie in, and each working pixel's x and y on it."""
    camera = face.camera @ np.array([[1, 0, 0], [0, 1, 0], [0, 0, _FRONT], [0, 0, 1.0]])
    flat = face.grid - camera[:, 2].astype(np.float32)
    back = np.linalg.pinv(camera[:, :2], rcond=0.15).astype(np.float32)
    return camera, flat @ back[0], flat @ back[1]


def _on_plane(camera: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    return np.linalg.pinv(camera[:, :2], rcond=0.15) @ (pixel - camera[:, 2])


def _from_line(
    x: np.ndarray, y: np.ndarray, a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return the distance of points from the line between a and b."""
    (ax, ay), (dx, dy) = a, np.subtract(b, a)
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.hypot(x - ax - t * dx, y - ay - t * dy).astype(np.float32)
