"""The supervised descent method: landmarks found by a few learned steps downhill.

Xiong & De la Torre, "Supervised Descent Method and Its Applications to Face Alignment", CVPR 2013. From a mean shape
laid over the face, each step goes by x ← x + R φ(x) + b (eq. 7): φ are SIFT-like descriptors around the present points,
and R, b a ridge regression of the way that was still to go, over many faces and many perturbed starts (eq. 8).

Everything happens on a cut-out of fixed size in which the mean shape always lies in the same place: a start that is
off is a cut-out that is turned, scaled or shifted. The descriptors are SIFT's histograms of oriented gradients, their
cells read from maps that are smoothed once for a whole cut-out (as in DAISY; Tola, Lepetit & Fua, PAMI 2010): one step
at 68 points takes a millisecond, a sixth of what OpenCV's SIFT takes, which smooths again for every call. They are not
turned to a dominant direction, for the cut-out is upright already.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool import artefact
from fertool.errors import ArtefactError, DataError
from fertool.faces.align import apply, remap, similarity, warp
from fertool.pool import cores
from fertool.regions.points import KNOWN_SETS, five_points

#: side of the cut-out, and the distance between the eyes of the mean shape in it, in pixels
SIZE, EYES = 128, 40

_EYE_LINE = 0.36  # of the cut-out's height
_CLOSE_UP = 192  # side of what is kept of a face to train on, at the same scale: room for perturbed cut-outs
_CELLS, _DIRECTIONS = 3, 8  # a descriptor has 3 × 3 cells, each a histogram of 8 directions
_FLAT = 1.0  # grey levels: gradients weaker than this are noise, not edges

#: which landmark is which in the mirror
MIRRORED = {
    68: np.array(
        [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37]
        + [36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
    ),
    5: np.array([1, 0, 2, 4, 3]),
}


@dataclass(frozen=True)
class Step:
    """One step of the descent.

    Attributes:
        cell: side of a descriptor's cell, as a fraction of `EYES`.
        weights: (D, 2K) float32, D = K · 72 values of all descriptors. bias: (2K,) float32.
    """

    cell: float
    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Cascade:
    """What was learned.

    Attributes:
        mean: (K, 2) the mean shape in pixels of the cut-out.
        steps: in the order they are taken.
    """

    mean: np.ndarray
    steps: tuple[Step, ...]

    def descend(self, cut_out: np.ndarray) -> np.ndarray:
        """Return (K, 2) landmarks in a (SIZE, SIZE) uint8 grey cut-out, found from the mean shape."""
        points, edges = self.mean, _edges(cut_out)
        for step in self.steps:
            move = _describe(edges, points, step.cell) @ step.weights + step.bias
            points = points + move.reshape(points.shape)
        return points


def load(path: Path) -> Cascade:
    """Return a cascade from a file that `fertool fit-sdm` wrote.

    Raises:
        ArtefactError: no such file, one of another kind, or one whose arrays do not fit together.
    """
    stored = artefact.read(path, "landmarks")
    mean, cells = np.array(stored["mean"], dtype=np.float64), np.array(stored["cells"], dtype=np.float64)
    steps = []
    if mean.ndim == 2 and mean.shape[1] == 2 and len(mean) in KNOWN_SETS and cells.ndim == 1 and (cells > 0).all():
        shapes = ((len(mean) * _CELLS**2 * _DIRECTIONS, mean.size), (mean.size,))
        for i, cell in enumerate(cells.tolist()):
            parts = [stored[f"steps/{i}/{name}"] for name in ("weights", "bias")]
            if tuple(p.shape for p in parts) == shapes and all(np.isfinite(p).all() for p in parts):
                steps.append(Step(cell, *(np.array(p, dtype=np.float32) for p in parts)))
    if not steps or len(steps) < len(cells) or not np.isfinite(mean).all():
        raise ArtefactError(f"the steps in {path} do not fit its mean shape", "make it again with fertool fit-sdm")
    return Cascade(mean, tuple(steps))


def mean_shape(shapes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of some (K, 2) shapes but for turn, scale and shift, upright in pixels of the cut-out."""
    mean = np.asarray(shapes[0], dtype=np.float64)
    eyes = np.array([(-0.5, 0), (0.5, 0)]) * EYES + (SIZE / 2, _EYE_LINE * SIZE) - 0.5
    for _ in range(5):
        mean = np.mean([apply(similarity(s, mean), s) for s in shapes], axis=0)
        mean = apply(similarity(five_points(mean[None])[0, :2], eyes), mean)
    return mean


@dataclass(frozen=True)
class Face:
    """A face to learn from: (192, 192) uint8 grey pixels at the scale of the cut-out, and (K, 2) landmarks in them."""

    pixels: np.ndarray
    points: np.ndarray

    def mirrored(self) -> "Face":
        """Return the face in the mirror. K must be one of `MIRRORED`."""
        points = self.points[MIRRORED[len(self.points)]] * (-1, 1) + (_CLOSE_UP - 1, 0)
        return Face(np.ascontiguousarray(self.pixels[:, ::-1]), points)


def close_up(image: np.ndarray, points: np.ndarray, mean: np.ndarray) -> Face:
    """Return what is needed of an (H, W) or (H, W, 3) uint8 image to learn from a face with (K, 2) landmarks."""
    import cv2

    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    matrix = similarity(points, mean)
    matrix[:, 2] += (_CLOSE_UP - SIZE) / 2
    return Face(warp(image, matrix, _CLOSE_UP), apply(matrix, points))


def error(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean distance (N,) between landmarks (N, K, 2), as a fraction of the true distance between the eyes.

    The eyes are their outer corners where K is 68, else their centres.
    """
    corners = truth[:, [36, 45]] if truth.shape[1] == 68 else five_points(truth)[:, :2]
    span = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    return np.linalg.norm(found - truth, axis=2).mean(axis=1) / span


def fit(
    faces: Sequence[Face],
    mean: np.ndarray,
    *,
    cells: Sequence[float],
    perturbations: int,
    rotation: float,
    scale: float,
    shift: float,
    ridge: float,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Cascade, list[float]]:
    """Learn a cascade.

    Args:
        mean: (K, 2) the mean shape in pixels of the cut-out.
        cells: sides of a descriptor's cells, one number for each step.
        perturbations: number of perturbed initial shapes per face.
        rotation, scale, shift: standard deviations of the perturbations, in degrees, of the logarithm of the scale, and
            as a fraction of the distance between the eyes.
        ridge: λ of the regression, relative to the sum of squares of a descriptor's value over all initial shapes.
        advance: called after every step.

    Returns:
        The cascade, and the mean `error` at the start and after every step, over all initial shapes.
    """
    import cv2

    rng = np.random.default_rng(seed)
    chosen = np.repeat(np.arange(len(faces)), perturbations).tolist()
    ways = [_perturbed(similarity(faces[i].points, mean), rng, rotation, scale, shift) for i in chosen]
    truth = np.stack([apply(way, faces[i].points) for way, i in zip(ways, chosen, strict=True)])
    points = np.repeat(mean[None], len(chosen), axis=0)
    steps, errors = [], [float(error(points, truth).mean())]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # initial shapes are spread over threads already
    try:
        for cell in cells:
            look = np.empty((len(chosen), len(mean) * _CELLS**2 * _DIRECTIONS), np.float32)

            def see(n: int, look: np.ndarray = look, points: np.ndarray = points, cell: float = cell) -> None:
                pixels = faces[chosen[n]].pixels
                cut_out = cv2.warpAffine(pixels, ways[n], (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
                look[n] = _describe(_edges(cut_out), points[n], cell)

            with ThreadPoolExecutor(cores()) as pool:
                list(pool.map(see, range(len(chosen))))
            weights, bias = _ridge(look, (truth - points).reshape(len(chosen), -1), ridge)
            steps.append(Step(float(cell), weights, bias))
            points = points + (look @ weights + bias).reshape(points.shape)
            errors.append(float(error(points, truth).mean()))
            advance()
    finally:
        cv2.setNumThreads(threads)
    return Cascade(mean, tuple(steps)), errors


def _perturbed(matrix: np.ndarray, rng: np.random.Generator, rotation: float, scale: float, shift: float) -> np.ndarray:
    """Return a transform to the cut-out, followed by a random similarity about the cut-out's middle."""
    angle, grow = np.radians(rng.normal(0, rotation)), np.exp(rng.normal(0, scale))
    about = grow * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (SIZE - 1) / 2
    moved = about @ (matrix[:, 2] - middle) + middle + rng.normal(0, shift, 2) * EYES
    return np.column_stack([about @ matrix[:, :2], moved])


def _ridge(look: np.ndarray, way: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (D, M) and bias (M,) that predict (N, M) from (N, D), solved in the smaller of N and D dimensions.

    `look` is centred in place.
    """
    centre, goal = look.mean(axis=0), way.mean(axis=0)
    look -= centre
    rest = (way - goal).astype(np.float32)
    tall = len(look) > look.shape[1]
    products = look.T @ look if tall else look @ look.T
    spread = np.trace(products) / look.shape[1]
    if not spread > 0:
        raise DataError("the images are the same around all landmarks: there is nothing to regress on")
    products.flat[:: len(products) + 1] += ridge * spread
    weights = np.linalg.solve(products, look.T @ rest) if tall else look.T @ np.linalg.solve(products, rest)
    look += centre
    return weights, (goal - centre @ weights).astype(np.float32)


def _edges(cut_out: np.ndarray) -> np.ndarray:
    """Return (H, W, 8) float32: how fast a grey image brightens in each of eight directions, 0 where it darkens."""
    import cv2

    across, down = (cv2.Sobel(cut_out, cv2.CV_32F, *order, ksize=1) for order in ((1, 0), (0, 1)))
    return np.maximum(np.stack([across, down], axis=-1) @ _TOWARDS, 0)


_ANGLES = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
_TOWARDS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)]).astype(np.float32)


def _describe(edges: np.ndarray, points: np.ndarray, cell: float) -> np.ndarray:
    """Return (K · 72,) float32: around each point 3 × 3 histograms of directions, together of length 1."""
    import cv2

    side = cell * EYES
    reach = 2 * int(np.ceil(1.25 * side)) + 1
    smooth = cv2.GaussianBlur(edges, (reach, reach), side / 2)
    offsets = (np.arange(_CELLS) - (_CELLS - 1) / 2) * side
    around = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)
    at = (points[:, None] + around).astype(np.float32)
    found = remap(smooth, at).reshape(len(points), -1)
    return (found / (np.linalg.norm(found, axis=1, keepdims=True) + _FLAT)).ravel()
