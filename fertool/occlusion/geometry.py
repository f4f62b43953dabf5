"""Where a face lies in its image: its axes, its unit, its area, told by its landmarks.

Coordinates of a face are those of `fertool.faces.mean_head`: the unit is the distance between the eyes of a mean
head, which is laid over the landmarks as an affine camera would show it. Turned and tilted faces are so measured along
their own axes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from fertool.faces.align import apply, similarity
from fertool.faces.mean_head import POINTS
from fertool.regions.points import FARTHEST, five_points

_FLAT = 1e-3  # pixels: a camera that shows the distance between the eyes so short shows nothing of the head
_GRID = 144  # working pixels along the longer side of a small face
_FOREHEAD = 0.95  # its height, as a fraction of the way from the eyebrows to the base of the nose
_ARC = np.array([0.5, 0.8, 0.93, 1.0, 1.0, 1.0, 1.0, 0.93, 0.8, 0.5])  # of that height, over the ten brow points


@dataclass(frozen=True)
class Face:
    """A face on a grid of working pixels.

    Attributes:
        points: (68, 2) x, y in pixels of the face.
        shape: height and width of the face.
        finer: working pixels per pixel of the face.
    """

    points: np.ndarray
    shape: tuple[int, int]
    finer: int

    @cached_property
    def camera(self) -> np.ndarray:
        """(2, 4): points of the mean head, and a one, to pixels of the face."""
        known = np.column_stack([POINTS, np.ones(len(POINTS))])
        return np.linalg.lstsq(known, self.points, rcond=None)[0].T

    @cached_property
    def down(self) -> np.ndarray:
        """(2,) the face's downward direction in the image, of length 1.

        Landmarks on a line across tell it by what lies at a right angle to them; landmarks in one place do not tell
        it, and the face counts as upright.
        """
        across, down = self.camera[:, 0], self.camera[:, 1]
        for way in (down, np.array([-across[1], across[0]])):
            if (length := np.linalg.norm(way)) > _FLAT:
                return way / length
        return np.array([0.0, 1.0])

    @property
    def across(self) -> np.ndarray:
        """(2,) the direction at a right angle to `down`, to the image's right."""
        return np.array([self.down[1], -self.down[0]])

    @cached_property
    def unit(self) -> float:
        """Pixels between the eyes, were the head not turned to the side; at least 1."""
        return max(float(np.linalg.norm(self.camera[:, 1])), float(np.linalg.norm(self.camera[:, 0])), 1.0)

    @property
    def centre(self) -> np.ndarray:
        """(2,) the middle of the face, on the bridge of the nose's way to its tip."""
        return self.points[[27, 30, 33]].mean(axis=0)

    @cached_property
    def grid(self) -> np.ndarray:
        """(h, w, 2) x, y of the working pixels, in pixels of the face."""
        height, width = (self.finer * side for side in self.shape)
        x = (np.arange(width, dtype=np.float32) + 0.5) / self.finer - 0.5
        y = (np.arange(height, dtype=np.float32) + 0.5) / self.finer - 0.5
        return np.stack(np.meshgrid(x, y), axis=-1)

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """How far each working pixel lies to the right of the centre and below it, (h, w) each, in units."""
        away = (self.grid - self.centre.astype(np.float32)) / np.float32(self.unit)
        return away @ self.across.astype(np.float32), away @ self.down.astype(np.float32)

    @property
    def outline(self) -> np.ndarray:
        """(37, 2) what the area of the face is the hull of: its landmarks' hull and the forehead."""
        brows, nose = self.points[17:27], self.points[33]
        height = _FOREHEAD * max(float((nose - brows.mean(axis=0)) @ self.down), 0.3 * self.unit)
        forehead = brows - height * _ARC[:, None] * self.down
        return np.concatenate([self.points[:27], forehead])

    @cached_property
    def area(self) -> np.ndarray:
        """(h, w) bool: the part of the face that lies in the image."""
        hull = cv2.convexHull(self.outline.astype(np.float32))[:, 0]
        pixels = ((hull + 0.5) * self.finer - 0.5) * 16
        mask = np.zeros(self.grid.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.clip(pixels, -(2**20), 2**20).round().astype(np.int32), 1, shift=4)
        return mask.astype(bool)

    @cached_property
    def around(self) -> np.ndarray:
        """Return (h, w): how far each pixel lies from the ridge of the nose (0) to the outline of the jaw (±1).

        Left is negative. This holds on turned heads, too; beyond the outline the values continue.
        """
        right, down = self.axes
        places = (self.points - self.centre) / self.unit
        x, y = places @ self.across, places @ self.down
        ridge = _along(down, y, x, [27, 29, 33, 51, 57, 8])
        left, rest = (_along(down, y, x, jaw) for jaw in (range(0, 8), range(16, 8, -1)))
        off = right - ridge
        reach = np.where(off < 0, ridge - left, rest - ridge)
        return (off / np.maximum(reach, 0.25)).astype(np.float32)


def face_of(landmarks: np.ndarray, shape: tuple[int, int]) -> Face:
    """Return the face that landmarks describe, to be drawn on about `_GRID` working pixels or more.

    Args:
        landmarks: (K, 2) x, y in pixels of the face, finite, K of `fertool.regions.points.KNOWN_SETS`. Of fewer than
            68 only eyes, nose and mouth are used, and a frontal mean head is laid over them: its outline does not
            follow a turn to the side.
        shape: height and width of the face in pixels.
    """
    points = np.clip(np.asarray(landmarks, dtype=np.float64), -FARTHEST, FARTHEST)
    if len(points) != 68:
        points = _laid_over(five_points(points[None])[0])
    return Face(points, shape, max(1, round(_GRID / max(shape))))


def _laid_over(five: np.ndarray) -> np.ndarray:
    """Return (68, 2) the mean head seen from the front, moved, turned and scaled onto eyes, nose and mouth corners."""
    flat = POINTS[:, :2]
    return apply(similarity(five_points(flat[None])[0], five), flat)


def _along(at: np.ndarray, y: np.ndarray, x: np.ndarray, points: Iterable[int]) -> np.ndarray:
    """Return x of a line through points, where its y is `at`; its ends continue straight up and down."""
    order = sorted(points, key=lambda p: y[p])
    return np.interp(at, y[order], x[order]).astype(np.float32)
