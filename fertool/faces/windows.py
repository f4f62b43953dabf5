"""Even lighting in images of any size, as faces had it: in windows of a face's size (Sun et al., 4.2)."""

import numpy as np

from fertool.faces.illumination import normalise


def normalise_windows(image: np.ndarray, diffusion: float, clip_fraction: float, size: tuple[int, int]) -> np.ndarray:
    """Return `normalise` in windows that overlap by half, averaged where they do.

    Args:
        image: (H, W) uint8.
        size: height and width of a window; a smaller image is a window itself.

    Returns:
        (H, W) uint8.
    """
    height, width = (min(a, b) for a, b in zip(size, image.shape, strict=True))
    total, times = np.zeros(image.shape), np.zeros(image.shape)
    for y in _starts(image.shape[0], height):
        for x in _starts(image.shape[1], width):
            window = slice(y, y + height), slice(x, x + width)
            total[window] += normalise(image[window], diffusion, clip_fraction)
            times[window] += 1
    return np.rint(total / times).astype(np.uint8)


def _starts(side: int, window: int) -> list[int]:
    """Return the first pixels of windows at half a window's distance, the last one ending at the edge."""
    step = max(1, window // 2)
    return [*range(0, side - window, step), side - window]
