"""RAN's regions: fixed, random and landmark crops of a face (Wang et al., "Region Attention Networks", III-C, IV-D).

Boxes are x0, y0, x1, y1 as fractions of the face image, edge to edge; box 0 is always the whole face (I0).
"""

import hashlib

import numpy as np

from fertool.regions.patches import patch_boxes
from fertool.regions.points import five_points
from fertool.settings import CropRegions

WHOLE = (0.0, 0.0, 1.0, 1.0)

#: names of the fixed regions I0..I5
FIXED = ("face", "top-left", "top-right", "centre-down", "centre-90", "centre-85")
_RATIOS = (0.75, 0.75, 0.75, 0.90, 0.85)


def boxes_of(settings: CropRegions, ids: list[str], landmarks: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Return the regions of some faces, (N, K, 4).

    Args:
        ids: their names, which decide random crops.
        landmarks: (N, P, 2) x, y in pixels of the face, for crops around them; NaN where a face has none.
        size: height and width of a face in pixels.
    """
    if settings.mode == "fixed":
        boxes = fixed_boxes(settings.ratio_scale)
        return np.broadcast_to(boxes, (len(ids), *boxes.shape))
    if settings.mode == "patches":
        boxes = patch_boxes(settings.patches, settings.patch_overlap)
        return np.broadcast_to(boxes, (len(ids), *boxes.shape))
    if settings.mode == "random":
        return random_boxes(ids, settings.random_n, settings.random_ratio, settings.seed)
    assert landmarks is not None  # crops around landmarks are made of faces that have them
    return landmark_boxes(five_points(landmarks), settings.landmark_radius, size)


def fixed_boxes(scale: float = 1.0) -> np.ndarray:
    """Return I0..I5 of the paper, (6, 4).

    Args:
        scale: factor on the five ratios (the paper's Fig. 10 goes from 0.4 to 1.1); each is capped at 1. I1 and I2
            stay in their upper corner, I3 at the middle of the lower edge, I4 and I5 in the centre.
    """
    boxes = [WHOLE]
    for name, ratio in zip(FIXED[1:], _RATIOS, strict=True):
        side = min(1.0, ratio * scale)
        gap = 1.0 - side
        x = {"top-left": 0.0, "top-right": gap}.get(name, gap / 2)
        y = {"top-left": 0.0, "top-right": 0.0, "centre-down": gap}.get(name, gap / 2)
        boxes.append((x, y, x + side, y + side))
    return np.array(boxes)


def random_boxes(ids: list[str], n: int, ratio: tuple[float, float], seed: int) -> np.ndarray:
    """Return the whole face and n random square crops of each face, (N, 1 + n, 4).

    The side is uniform in `ratio`, the position uniform over all that keep the crop inside. A face's crops depend on
    its id and the seed alone: not on its place among the others, nor on any library's random generator.
    """
    words = np.empty((len(ids), n, 3), dtype="<u8")
    for row, name in enumerate(ids):
        drawn = hashlib.shake_128(f"{seed}\0{name}".encode()).digest(words[row].nbytes)
        words[row] = np.frombuffer(drawn, dtype="<u8").reshape(n, 3)
    u = (words >> np.uint64(11)) * 2.0**-53
    side = ratio[0] + (ratio[1] - ratio[0]) * u[..., 0]
    x, y = u[..., 1] * (1 - side), u[..., 2] * (1 - side)
    return _with_whole(np.stack([x, y, x + side, y + side], axis=-1))


def landmark_boxes(points: np.ndarray, radius: float, size: tuple[int, int]) -> np.ndarray:
    """Return the whole face and one box around each landmark, clipped to the face, (N, 1 + P, 4).

    Args:
        points: (N, P, 2) x, y in pixels of the face; the centre of the top-left pixel is (0, 0).
        radius: half the side of a box as a fraction of the face (0.4 in the paper).
        size: height and width of the face in pixels.

    A landmark outside the image counts as lying on its edge. Where a landmark is NaN all boxes of the face are the
    whole face: the network then sees no part instead of a wrong one.
    """
    height, width = size
    centres = np.clip((np.asarray(points, dtype=np.float64) + 0.5) / (width, height), 0, 1)
    boxes = _with_whole(np.clip(np.concatenate([centres - radius, centres + radius], axis=-1), 0, 1))
    boxes[np.isnan(boxes).any(axis=(1, 2))] = WHOLE
    return boxes


def _with_whole(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.broadcast_to(WHOLE, (len(boxes), 1, 4)), boxes], axis=1)


def pixel_boxes(boxes: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
    """Return boxes in whole pixels of a face of that size (square without `height`), half-open, rounded half up."""
    sides = np.array([width, height or width] * 2)
    pixels = np.floor(np.asarray(boxes, dtype=np.float64) * sides + 0.5 + 1e-6).astype(np.int64)  # float32's last bit
    low = np.minimum(pixels[..., :2], sides[:2] - 1)
    return np.concatenate([low, np.maximum(pixels[..., 2:], low + 1)], axis=-1)
