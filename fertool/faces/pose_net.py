"""Head pose from pixels: what MTCNN's last network sees of a face, and two small networks that tell the turn from it.

The features come from images (`fertool.faces.onet`); what they mean for the pose was learned from rendered heads
only, whose turn is known (`tests/bench/teach_pose.py`). The rough network corrects where the head is, how large it is
and how far it leans; the fine one looks at it again, upright and in the middle. Every look is a mean of the face
and its mirror image, so the mirror image of an image has exactly the mirrored pose.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fertool.detectors import detector_class
from fertool.faces import onet
from fertool.faces.align import warp
from fertool.regions.points import FARTHEST

#: side of the square that is looked at, in distances between the eyes of the same head seen from the front
SQUARE = 3.0

#: outputs: pitch, yaw, roll in units of 45 degrees; how far the head lies off the middle (x, y) in half squares; the
#: logarithm of its size; logarithms of the errors expected of the three angles. Signs of a mirrored face:
MIRRORED = np.array([1, -1, -1, -1, 1, 1, 1, 1, 1], np.float32)

_UNIT = 45.0

_STEPS = ("rough", "fine")

#: side in pixels of the patch around a face that the networks look at, twice as wide as their first square
_PATCH = 144


def estimate(
    images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], detector: str, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Pose of the faces in some boxes, all looked at together.

    Args:
        images: an (H, W) or (H, W, 3) RGB image for each face.
        boxes: x0, y0, x1, y1 in its pixels, as `detector` draws it.
        device: where the networks run.

    Returns:
        (n, 3) pitch, yaw and roll in degrees, and (n,) the error to expect: the mean of what pitch and yaw are likely
        to be off. All NaN for a box without an area.

    Raises:
        DeviceError: facenet-pytorch is missing.
    """
    angles, errors = np.full((len(images), 3), np.nan), np.full(len(images), np.nan)
    box = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    good = np.flatnonzero((np.abs(box).max(axis=1, initial=0) < FARTHEST) & (box[:, 2:] > box[:, :2]).all(axis=1))
    if not len(good):
        return angles, errors
    box = box[good]
    down, eyes = detector_class(detector).head
    side = np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    middle = (box[:, :2] + box[:, 2:]) / 2 + np.stack([np.zeros_like(side), down * side], axis=1)
    size, lean = eyes * side, np.zeros_like(side)
    patches = [_patch(images[i], m, SQUARE * s) for i, m, s in zip(good.tolist(), middle, size, strict=True)]
    grey = [patch for patch, _, _ in patches]
    middle, size = np.stack([m for _, m, _ in patches]), size * [scale for _, _, scale in patches]
    for name in _STEPS:
        told = _look(grey, middle, SQUARE * size, lean, _network(name, device))
        roll = lean + _UNIT * told[:, 2]
        middle = middle + (SQUARE * size / 2)[:, None] * np.einsum("ijn,nj->ni", _turn(lean), told[:, 3:5])
        size = size * np.exp(np.clip(told[:, 5], -1, 1))
        lean = np.clip(roll, -60, 60)
    angles[good] = np.column_stack([np.clip(_UNIT * told[:, :2], -90, 90), (roll + 180) % 360 - 180])
    errors[good] = _UNIT * np.exp(told[:, 6:8]).mean(axis=1)
    return angles, errors


def _patch(image: np.ndarray, middle: np.ndarray, square: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut out the neighbourhood of a face, in grey and no larger than the networks need.

    Args:
        image: (H, W) or (H, W, 3) RGB.
        middle: x, y of the head in pixels.
        square: side of the first look in pixels.

    Returns:
        The patch (h, w), `middle` in its pixels, and its scale.
    """
    import cv2

    size = np.array(image.shape[1::-1])
    x0, y0 = first = np.clip(np.floor(middle - square), 0, size - 1).astype(int)
    x1, y1 = np.clip(np.ceil(middle + square) + 1, first + 1, size).astype(int)
    patch = image[y0:y1, x0:x1]
    if patch.ndim == 3:
        patch = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    scale, shape = min(1.0, _PATCH / (2 * square)), np.array(patch.shape[::-1])
    reduced = np.maximum(1, np.round(shape * scale)).astype(int)
    if scale < 1:
        patch = cv2.resize(patch, tuple(map(int, reduced)), interpolation=cv2.INTER_AREA)
    # pixels are counted at their centres
    return patch, (middle - first + 0.5) * (reduced / shape) - 0.5, scale


def _look(
    images: list[np.ndarray],
    middle: np.ndarray,
    side: np.ndarray,
    lean: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the outputs (n, 9) for a square of each image, which leans by so many degrees."""
    scale = onet.SIDE / side
    matrices = (scale * _turn(-lean)).transpose(2, 0, 1)
    shifts = (onet.SIDE - 1) / 2 - np.einsum("nij,nj->ni", matrices, middle)
    squares = [
        warp(image, np.column_stack([matrix, shift]), onet.SIDE)
        for image, matrix, shift in zip(images, matrices, shifts, strict=True)
    ]
    seen = np.stack(squares)
    faces, mirrored = network(np.concatenate([seen, seen[:, :, ::-1]])).reshape(2, len(seen), -1)
    return (faces + MIRRORED * mirrored) / 2


def _turn(degrees: np.ndarray) -> np.ndarray:
    """Return (2, 2, n), clockwise as seen."""
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


@lru_cache(4)
def _network(name: str, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return one of the two networks, three layers behind MTCNN's features: (n, 48, 48) grey images → (n, 9)."""
    import torch

    with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as stored:
        layers = [
            [torch.from_numpy(stored[f"{name}.{i}.{of}"].astype(np.float32)).to(device) for of in ("weight", "bias")]
            for i in range(3)
        ]

    def network(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = onet.features(torch.from_numpy(pictures).to(device))
            for i, (matrix, bias) in enumerate(layers):
                x = torch.addmm(bias, x.relu() if i else x, matrix)
            return x.cpu().numpy()

    return network
