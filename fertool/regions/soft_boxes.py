"""Boxes with soft edges: what is left of a map over an image when only faces count (Sun et al., Fig. 7)."""

import numpy as np


def soft_boxes(boxes: np.ndarray, height: int, width: int, scale: float = 1.2, falloff: float = 0.15) -> np.ndarray:
    """Return (height, width) weights: 1 in the widened boxes, else a Gaussian of the distance to the nearest.

    Where boxes overlap the higher weight counts. The paper only says that it uses soft boxes; shape and numbers are
    ours.

    Args:
        boxes: (n, 4) x0, y0, x1, y1 in pixels, the centre of the top-left pixel being (0, 0).
        scale: factor on width and height.
        falloff: deviation of the Gaussian as a fraction of the geometric mean of the widened box's sides.
    """
    weights = np.zeros((height, width))
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        half = scale * np.array([x1 - x0, y1 - y0]) / 2
        centre = np.array([x0 + x1, y0 + y1]) / 2
        across = np.maximum(np.abs(np.arange(width) - centre[0]) - half[0], 0)
        down = np.maximum(np.abs(np.arange(height) - centre[1]) - half[1], 0)
        sigma = max(falloff * 2 * np.sqrt(half[0] * half[1]), 1e-3)  # pixels; a box without an area has no edge
        squared = across[None] ** 2 + down[:, None] ** 2
        weights = np.maximum(weights, np.exp(-squared / (2 * sigma**2)))
    return weights


def on_boxes(attention: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return attention (H, W) where the boxes are, summing to 1 again; all zero if there are none."""
    product = attention * weights
    total = product.sum()
    return product / total if total > 0 else np.zeros_like(product)
