"""Draw things over a face until a chosen fraction of it is covered."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np

from fertool.occlusion import eyewear, foreground
from fertool.occlusion.geometry import Face, face_of
from fertool.occlusion.occluders import Thing

_SHADOW = 0.12  # how far a shadow reaches, in units of the face
_SHARP = 0.4  # pixels by which even sharp pictures are blurred


@dataclass(frozen=True)
class Covered:
    """A face with something drawn over it.

    Attributes:
        image: (H, W, C) uint8.
        thing: what was drawn.
        covered: the fraction of the face's area, as far as it lies in the image, that is covered.
    """

    image: np.ndarray
    thing: str
    covered: float


def cover(
    image: np.ndarray, landmarks: np.ndarray, kind: str, severities: Sequence[float], *, key: str, blur: float = 0.0
) -> Iterator[Covered]:
    """Cover a face in one way, more and less of it.

    The same thing comes further or grows with the severity; only of what is worn there are several, as spectacles
    never cover half a face. The same arguments give the same pixels.

    Args:
        image: (H, W, C) uint8, grey or RGB.
        landmarks: (K, 2) in pixels of it, see `geometry.face_of`.
        kind: one of `fertool.subsets.OCCLUSIONS`.
        severities: fractions of the face's area between 0 and 1.
        key: decides what is drawn and how it looks.
        blur: how far the face itself is blurred, in pixels (sigma): what is drawn is not sharper.
    """
    face = face_of(landmarks, image.shape[:2])
    light = _light(image, face)
    seed = list(hashlib.blake2b(f"{key}\0{kind}".encode(), digest_size=16).digest())
    things: Iterable[Thing]
    if kind == "glasses-mask":
        things = eyewear.make(np.random.default_rng(seed), face, severities)
    else:
        things = repeat(foreground.make(kind, np.random.default_rng(seed), face, _skin(image, face, light)))
    for thing, severity in zip(things, severities, strict=False):
        yield _draw(image, face, thing, _level(thing, face, severity), light, blur)


def _level(thing: Thing, face: Face, severity: float) -> float:
    """Return the level at which the occluder covers the requested share of the face, or comes nearest to it."""
    field = thing.field[face.area]
    if not len(field):
        return thing.levels[0]
    if thing.glass is not None:  # glass that lies beyond the edge counts as what it hides
        glass = thing.glass[face.area]
        order = np.argsort(field)
        hidden = np.cumsum(1 - glass[order]) + glass.sum()
        place = int(np.searchsorted(hidden, severity * len(field)))
        level = field[order[min(place, len(field) - 1)]]
    else:
        place = min(int(severity * len(field)), len(field) - 1)
        level = np.partition(field, place)[place]
    finite = np.nanmax(field[np.isfinite(field)], initial=thing.levels[0])
    return float(np.clip(level, thing.levels[0], min(thing.levels[1], finite)))


def _draw(image: np.ndarray, face: Face, thing: Thing, level: float, light: np.ndarray, blur: float) -> Covered:
    depth = level - thing.field
    soft = 1.5 / (face.finer * face.unit)
    opaque = np.clip(depth / soft + 0.5, 0, 1)
    if thing.glass is not None:
        opaque = np.maximum(opaque, thing.glass)
    shadow = thing.shadow * np.exp(np.minimum(depth, 0) / _SHADOW) * (1 - opaque)
    colours = np.clip(thing.paint(np.maximum(depth, 0)) * light[..., None], 0, 1)
    if image.shape[-1] == 1:
        colours = (colours @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    layers = np.concatenate([colours * opaque[..., None], opaque[..., None], shadow[..., None]], axis=-1)
    height, width = face.shape
    layers = cv2.resize(layers.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    if face.finer == 1 or blur > _SHARP:
        layers = cv2.GaussianBlur(layers, (0, 0), max(blur, _SHARP))
    over, cover_, dark = layers[..., :-2], layers[..., -2:-1], layers[..., -1:]
    made = image * (1 - dark) * (1 - cover_) + 255 * over
    area = cv2.resize(face.area.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    covered = float((cover_[..., 0] * area).sum() / max(area.sum(), 1e-6))
    return Covered(np.clip(made + 0.5, 0, 255).astype(np.uint8), thing.name, covered)


def _light(image: np.ndarray, face: Face) -> np.ndarray:
    """Return (h, w) how light falls on the face, as a factor around 1: the plane nearest to its brightness."""
    grey = image.mean(axis=-1)
    area = cv2.resize(face.area.astype(np.uint8), grey.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    if area.sum() < 9:
        return np.ones(face.grid.shape[:2], np.float32)
    y, x = np.nonzero(area)
    known = np.column_stack([x, y, np.ones_like(x)]).astype(float)
    a, b, c = np.linalg.lstsq(known, grey[area], rcond=None)[0]
    mean = max(float(grey[area].mean()), 1.0)
    plane = (a * face.grid[..., 0] + b * face.grid[..., 1] + c) / mean
    exposure = np.clip(mean / 128, 0.55, 1.25)
    return (np.clip(plane, 0.6, 1.4) * exposure).astype(np.float32)


def _skin(image: np.ndarray, face: Face, light: np.ndarray) -> np.ndarray:
    """Return (3,) colour of the face's skin, as it would be under even light: of hands it is, too."""
    nose, cheeks, brows = face.points[[27, 28, 29, 30]], face.points[[1, 3, 13, 15]], face.points[[20, 23]]
    spots = np.concatenate([nose, 0.5 * cheeks + 0.5 * face.points[30], brows - 0.3 * face.unit * face.down])
    x, y = np.clip(spots.round().astype(int), 0, np.array(face.shape[::-1]) - 1).T
    colour = np.median(image[y, x], axis=0) / 255
    lit = np.median(light[y * face.finer, x * face.finer])
    return np.resize(np.clip(colour / lit, 0.12, 0.95), 3).astype(np.float32)
