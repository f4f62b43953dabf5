"""A turned face seen from the front.

After Hassner et al., "Effective Face Frontalization in Unconstrained Images" (CVPR 2015): one surface serves for all
faces, the head's pose is found by its landmarks, each pixel of the frontal view is looked up where the surface shows
it in the image, and what the image hides is taken from the other half of the face. The surface is rigid:
what a face has of its own, and its expression, is carried over and not fitted away.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fertool.faces import align, pose
from fertool.faces.mean_head import POINTS, rotation
from fertool.regions.points import usable

#: points of the mean head between and beyond its landmarks, one half of them; in the frame of `head_points`
_BETWEEN = (
    (0.0, -1.2, -0.16), (0.0, -0.85, -0.33), (0.0, -0.5, -0.44), (0.4, -1.2, -0.08), (0.4, -0.85, -0.27),
    (0.45, -0.5, -0.40), (0.8, -1.0, 0.09), (0.8, -0.5, -0.14), (1.0, -0.75, 0.32), (1.02, -0.25, 0.21),
    (0.5, 0.35, -0.25), (0.8, 0.2, -0.11), (0.8, 0.5, -0.17), (0.8, 0.85, -0.14), (1.0, 0.4, 0.03), (1.0, 0.75, 0.11),
    (0.6, 0.6, -0.28), (0.6, 0.9, -0.28), (0.6, 1.2, -0.24), (0.8, 1.15, -0.04), (0.5, 1.5, -0.21), (0.25, 1.65, -0.34),
)  # fmt: skip

_BACK = 1.2  # no part of the surface lies further back: behind the ears
_LEFT, _TOP, _STEP, _WIDE, _HIGH = -2.0, -2.5, 0.05, 81, 111  # of the grid on which the surface is kept
_STEEPEST = 0.5  # cosine: a head that looks further away has too little of its front in the image

# what counts as seen, as (not at all, wholly): the cosine between surface and camera; in distances between the eyes,
# how far something nearer lies before it, and how far it lies inside the outline that the landmarks draw
_FACING, _BEFORE, _INSIDE = (0.3, 0.6), (0.3, 0.15), (-0.07, 0.05)
_FOREHEAD, _TEMPLES = 1.0, 0.6  # how far the outline goes on above brows and jaw
_BIN = 0.06  # what lies so close together in the image hides one another
_SOFT = 0.03  # distances between the eyes over which hidden and seen are blended

_TINY = 1e-12  # what is shorter has no direction

_FINER, _ROOM = 2, 0.5  # the image is first cut out so much finer than the output, and wider on each side


@dataclass(frozen=True)
class Frontal:
    """The frontal view of a face.

    Attributes:
        marks: (68, 2) landmarks in pixels of the image.
        turn, scale, shift: (3, 3), number, (2,): p → scale · (turn p)_xy + shift takes the mean head to the image.
        seat: (2, 3) x, y of a head that looks ahead → output.
        shape: height and width of the output.
    """

    marks: np.ndarray
    turn: np.ndarray
    scale: float
    shift: np.ndarray
    seat: np.ndarray
    shape: tuple[int, int]

    @property
    def landmarks(self) -> np.ndarray:
        """(68, 2) in pixels of the output: those of the image, each at its depth on the mean head."""
        return align.apply(self.seat, _ahead(self.marks, self.turn, self.scale, self.shift))

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3) image → output, of the plane in which eyes and mouth lie."""
        plane = self.scale * np.column_stack([self.turn[:2, :2], self.turn[:2, 2] * POINTS[36:, 2].mean()])
        back = align.invert(plane + np.pad(self.shift[:, None], ((0, 0), (2, 0))))
        return np.column_stack([self.seat[:, :2] @ back[:, :2], align.apply(self.seat, back[:, 2])])

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Return the (height, width[, 3]) uint8 frontal view out of an (H, W[, 3]) image."""
        height, width = self.shape
        near = self.matrix * _FINER
        near[:, 2] += _FINER * (_ROOM * np.array([width, height]) + 0.5) - 0.5
        canvas = [round(side * _FINER * (1 + 2 * _ROOM)) for side in (width, height)]
        close = align.warp(image, near, *canvas)

        places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
        surface = _surface(align.apply(align.invert(self.seat), places))
        turned = self.scale * surface @ self.turn.T
        where = (turned[..., :2] + self.shift).astype(np.float32)
        at = align.apply(near, where).astype(np.float32)
        drawn = align.remap(close, at).astype(np.float32)
        seen = self._seen(surface, turned, where)
        mirrored = np.clip(seen[:, ::-1] - seen, 0, 1)
        mirrored = mirrored[..., None] if drawn.ndim == 3 else mirrored
        return np.rint(drawn + mirrored * (drawn[:, ::-1] - drawn)).astype(np.uint8)

    def _seen(self, surface: np.ndarray, turned: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return (height, width) 0..1: how well the image shows each point of the surface."""
        import cv2

        outward = np.cross(np.gradient(surface, axis=0), np.gradient(surface, axis=1))
        outward /= np.maximum(np.linalg.norm(outward, axis=2, keepdims=True), _TINY)
        facing = -outward @ self.turn[2]
        bins = np.floor(where / (_BIN * self.scale)).astype(int)
        bins -= bins.min(axis=(0, 1))
        nearest = np.full(bins.max(axis=(0, 1)) + 1, np.inf)
        np.minimum.at(nearest, (bins[..., 0], bins[..., 1]), turned[..., 2])
        before = (turned[..., 2] - nearest[bins[..., 0], bins[..., 1]]) / self.scale
        seen = _rise(facing, *_FACING) * _rise(before, *_BEFORE) * _rise(self._inside(where), *_INSIDE)
        soft = _SOFT * np.sqrt(np.linalg.det(self.seat[:, :2]))
        return cv2.GaussianBlur(seen, (0, 0), max(soft, 0.3))

    def _inside(self, where: np.ndarray) -> np.ndarray:
        """Return how far (H, W, 2) places of the image lie inside the face's outline, in distances between the eyes.

        Landmarks of the jaw slide to the visible outline of a turned head: beyond it is background.
        """
        import cv2

        up = -self.scale * self.turn[:2, 1]
        above = [self.marks[17:27] + _FOREHEAD * up, self.marks[[0, 16]] + _TEMPLES * up]
        corners = cv2.convexHull(np.concatenate([self.marks, *above]).astype(np.float32))[:, 0]
        edges = np.roll(corners, -1, axis=0) - corners
        inward = np.stack([-edges[:, 1], edges[:, 0]], axis=1)
        inward /= np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), _TINY)
        inward *= np.sign(((corners.mean(axis=0) - corners) * inward).sum(axis=1, keepdims=True))
        far = (corners * inward).sum(axis=1)
        return np.min([where @ n - f for n, f in zip(inward, far, strict=True)], axis=0) / self.scale


def see(
    marks: np.ndarray,
    template: str,
    size: int,
    height: int | None = None,
    angles: tuple[float, float, float] | None = None,
) -> Frontal | None:
    """Return the frontal view of the face with these (68, 2) landmarks, its eyes and mouth brought to a template.

    Args:
        template, size, height: see `align.align`.
        angles: pitch, yaw and roll in degrees; None finds them by the landmarks.

    Returns:
        None if landmarks or pose are missing, the landmarks coincide, or the head is turned too far (by 60°).
    """
    if angles is None:
        angles, _ = pose.estimate(marks)
    if not (np.isfinite(angles).all() and usable(marks)):
        return None
    turn = rotation(*angles)
    if turn[2, 2] < _STEEPEST:
        return None
    trust = np.where(np.arange(68) < 17, 0.1, 1.0)[:, None]  # the jaw slides along the head
    flat = POINTS @ turn[:2].T
    of_head, of_marks = (np.average(p, axis=0, weights=trust[:, 0]) for p in (flat, marks))
    scale = float((trust * (flat - of_head) * (marks - of_marks)).sum() / (trust * (flat - of_head) ** 2).sum())
    if scale <= 0:
        return None
    shift = of_marks - scale * of_head
    seat = align.align(_ahead(marks, turn, scale, shift), template, size, "similarity", height)
    return None if seat is None else Frontal(marks, turn, scale, shift, seat, (height or size, size))


def _ahead(marks: np.ndarray, turn: np.ndarray, scale: float, shift: np.ndarray) -> np.ndarray:
    """Return x, y (68, 2) in the head's frame of landmarks (68, 2) in the image, their depths being the mean head's."""
    flat = (marks - shift) / scale - POINTS[:, 2:] * turn[:2, 2]
    return flat @ np.linalg.inv(turn[:2, :2]).T


def _surface(places: np.ndarray) -> np.ndarray:
    """Return the mean head's surface (H, W, 3) at x, y (H, W, 2) of the head's frame."""
    at = ((places - (_LEFT, _TOP)) / _STEP).astype(np.float32)
    depth = align.remap(_depths(), at)
    return np.concatenate([places, depth[..., None]], axis=-1)


@lru_cache(1)
def _depths() -> np.ndarray:
    """Return z of the surface on a grid: the thin plate through the mean head's points (Bookstein, PAMI 1989)."""
    half = np.array(_BETWEEN)
    points = np.concatenate([POINTS, half, half[half[:, 0] > 0] * (-1, 1, 1)])
    known, count = points[:, :2], len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _bend(known, known) + 1e-3 * np.eye(count)
    system[:count, count:] = np.column_stack([np.ones(count), known])
    system[count:, :count] = system[:count, count:].T
    solved = np.linalg.solve(system, np.append(points[:, 2], (0, 0, 0)))
    x, y = _LEFT + _STEP * np.arange(_WIDE), _TOP + _STEP * np.arange(_HIGH)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    depth = _bend(grid, known) @ solved[:count] + solved[count] + grid @ solved[count + 1 :]
    return np.minimum(depth, _BACK).reshape(_HIGH, _WIDE).astype(np.float32)


def _bend(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return r² log r² between points (n, 2) and (m, 2)."""
    squares = ((a[:, None] - b) ** 2).sum(axis=2)
    return squares * np.log(np.maximum(squares, 1e-12))


def _rise(x: np.ndarray, nothing: float, whole: float) -> np.ndarray:
    """Return 0 at and beyond `nothing`, 1 at and beyond `whole`, smooth between."""
    t = np.clip((x - nothing) / (whole - nothing), 0, 1)
    return t * t * (3 - 2 * t)
