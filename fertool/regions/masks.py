"""MAN's eight facial regions as coarse binary masks.

Gan et al., "Multiple Attention Network for Facial Expression Recognition", Table 2 and Eq. 4.
"""

import numpy as np

from fertool.regions.points import eight_points

REGIONS = ("face", "eyes", "mouth-nose", "left-eye", "right-eye", "nose", "left-mouth", "right-mouth")

#: width and height of each region as fractions of the face's width and height. The paper's sizes of regions 2 and 3
#: are height first: taken literally, the region of the eyes contains neither eye.
SIZES = {
    "corrected": ((1, 1), (0.72, 0.36), (0.54, 0.36), *((0.27, 0.27),) * 5),
    "paper": ((1, 1), (0.36, 0.72), (0.36, 0.54), *((0.27, 0.27),) * 5),
}


def region_boxes(landmarks: np.ndarray, size: tuple[int, int], order: str = "corrected", lip: int = 57) -> np.ndarray:
    """Return the eight regions of Table 2.

    Args:
        landmarks: (N, K, 2) x, y in pixels of the face (68, 42, 37 or 5 of them); the centre of the top-left pixel is
            (0, 0); NaN where a face has none.
        size: height and width of the face in pixels.
        order: a key of `SIZES`.
        lip: which of 68 landmarks is l8, from 0.

    Returns:
        (N, 8, 4) x0, y0, x1, y1 as fractions of the face, not clipped; NaN where landmarks are missing.
    """
    height, width = size
    l1, l2, l3, l4, l5, l6, l7, l8 = np.moveaxis((eight_points(landmarks, lip) + 0.5) / (width, height), 1, 0)
    middle = np.full_like(l1, 0.5)
    centres = np.stack([middle, (l2 + l5) / 2, (l1 + l8) / 2, (l2 + l3) / 2, (l4 + l5) / 2, l1, l6, l7], axis=1)
    half = np.array(SIZES[order]) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=-1)
    boxes[np.isnan(boxes).any(axis=(1, 2))] = np.nan
    return boxes


def constant_masks(masks: np.ndarray) -> np.ndarray:
    """Return for every region one mask for all faces: the cells that are most often inside.

    There are as many of them as give the highest mean intersection over union.

    A network that finds masks has learned something of a face only where it does better than these.

    Args:
        masks: (N, R, h, w) 0 or 1, of the faces that are trained on.

    Returns:
        (R, h, w) bool.
    """
    n, regions, *shape = masks.shape
    best = np.zeros((regions, int(np.prod(shape))), bool)
    for r in range(regions):
        inside = masks[:, r].reshape(n, -1) > 0
        order = np.argsort(-inside.mean(axis=0), kind="stable")
        shared = np.cumsum(inside[:, order], axis=1)  # with the first 1, 2, ... cells
        either = inside.sum(axis=1, keepdims=True) + np.arange(1, len(order) + 1) - shared
        overlap = (shared / either).mean(axis=0)
        if overlap.max() > (~inside.any(axis=1)).mean():  # else the empty mask is best
            best[r, order[: overlap.argmax() + 1]] = True
    return best.reshape(regions, *shape)


def masks_of(boxes: np.ndarray, grid: int = 14) -> np.ndarray:
    """Return masks by Eq. 4: cell (row j, column i), from 0, is 1 where it lies within the region scaled to the grid.

    Args:
        boxes: (N, 8, 4) as `region_boxes` gives them.

    Returns:
        (N, 8, grid, grid) uint8 as [row, column]; all 0 where the boxes are NaN.
    """
    cells = np.arange(grid)
    low, high = boxes[..., :2, None] * grid - 1e-6, boxes[..., 2:, None] * grid + 1e-6  # an edge on a cell includes it
    inside = (low <= cells) & (cells <= high)  # (N, 8, 2, grid)
    columns, rows = inside[:, :, 0], inside[:, :, 1]
    return (rows[:, :, :, None] & columns[:, :, None, :]).astype(np.uint8)


def boxes_around(masks: np.ndarray) -> np.ndarray:
    """Return boxes (N, P, 4) around boolean masks (N, P, h, w), as fractions; of nothing where a mask is empty."""
    n, p, h, w = masks.shape
    boxes = np.zeros((n, p, 4))
    for i, j in np.ndindex(n, p):
        y, x = np.nonzero(masks[i, j])
        if len(y):
            boxes[i, j] = x.min() / w, y.min() / h, (x.max() + 1) / w, (y.max() + 1) / h
    return boxes
