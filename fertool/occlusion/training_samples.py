"""Faces to learn from what covers faces: some as they are, some with things drawn over them."""

import hashlib

import cv2
import numpy as np

from fertool.faces.align import align, warp
from fertool.occlusion.draw import cover
from fertool.subsets import OCCLUSIONS

SIDE = 48  # of the training images in pixels, as small as those of FERPlus

_ROOM = 0.8  # the template's face is so much smaller here: it would leave out forehead and chin
_AS_IT_IS = 0.45  # share of faces that nothing is drawn over

#: how much of a face is covered, from and to, and how often; what people wear is mostly spectacles
_DEGREES = {
    "upper": (((0.05, 0.45), 1.0),),
    "bottom": (((0.05, 0.45), 1.0),),
    "left-right": (((0.05, 0.45), 1.0),),
    "glasses-mask": (((0.02, 0.08), 0.6), ((0.1, 0.18), 0.25), ((0.22, 0.44), 0.15)),
}


def lesson(image: np.ndarray, landmarks: np.ndarray, *, key: str, blur: float = 0.0) -> tuple[np.ndarray, int]:
    """Return a face with something drawn over it, or as it is.

    Args:
        image, landmarks, blur: as for `draw.cover`.
        key: decides everything.

    Returns:
        the image, and what covers it: 0 nothing, else 1 + its place in `OCCLUSIONS`.
    """
    rng = np.random.default_rng(list(hashlib.blake2b(key.encode(), digest_size=16).digest()))
    if rng.random() < _AS_IT_IS:
        return image, 0
    place = int(rng.integers(len(OCCLUSIONS)))
    ranges, often = zip(*_DEGREES[OCCLUSIONS[place]], strict=True)
    severity = rng.uniform(*ranges[rng.choice(len(ranges), p=often)])
    softer = blur * rng.uniform(0.6, 1.2)
    return next(cover(image, landmarks, OCCLUSIONS[place], [severity], key=key, blur=softer)).image, 1 + place


def small(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return a face (H, W, 1 or 3) as the classifier's input: (SIDE, SIDE) uint8, grey, from forehead to chin.

    Its landmarks (K, 2) bring every face to one place, however it was aligned; one without any (NaN) is taken as it is.
    """
    grey = image[..., 0] if image.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    matrix = align(landmarks, "eyes-mouth", SIDE, "similarity")
    if matrix is None:
        return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    matrix = _ROOM * matrix + np.column_stack([np.zeros((2, 2)), np.full(2, (1 - _ROOM) * (SIDE - 1) / 2)])
    return warp(grey, matrix, SIDE)
