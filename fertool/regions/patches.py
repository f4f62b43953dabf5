"""LNLAttenNet's overlapping patches: where they lie on a map (Shi et al., LNLAttenNet, Eq. 5)."""

import numpy as np

SIDE = 144  # of the paper's input, in cells of which overlaps are counted
OVERLAP = 1 / 3  # of a patch's side, where no other overlap is asked for


def patch_side(side: int, n: int, overlap: int | None = None) -> int:
    """Return the side of a patch when n×n of them cover a map of side × side cells.

    Args:
        overlap: cells that neighbours share; None for a third of the patch.
    """
    if overlap is not None:
        return round((side + (n - 1) * overlap) / n)
    return round(side / (n - (n - 1) * OVERLAP))


def patch_starts(side: int, n: int, overlap: int | None = None) -> list[int]:
    """Return the first cell of each of n patches along a side, the last ending at the edge. Numbers: n·row + column."""
    free = side - patch_side(side, n, overlap)
    return [round(i * free / (n - 1)) for i in range(n)]


def patch_boxes(count: int, overlap: int | None = None) -> np.ndarray:
    """Return (1 + count, 4) boxes x0, y0, x1, y1 as fractions of the face: the whole face, then the patches row by row.

    Args:
        count: of patches, a square number.
        overlap: in 144ths of the face.
    """
    n = round(count**0.5)
    starts, side = patch_starts(SIDE, n, overlap), patch_side(SIDE, n, overlap)
    patches = [(x, y, x + side, y + side) for y in starts for x in starts]
    return np.array([(0, 0, SIDE, SIDE), *patches]) / SIDE
