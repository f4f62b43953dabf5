"""Weights of the parts of a face as grids, and what covering a part does to them.

LNLAttenNet's Fig. 10, 13 and 14.
"""

from collections.abc import Mapping, Sequence
from math import isqrt

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fertool.figures import style
from fertool.figures.sheet import Sheet, cells

_PER_LINE = 8  # faces beside one another
_DARKEST = 0.85  # of the colours: words stay readable on it


def shape(m: int) -> tuple[int, int]:
    """Return rows and columns of a grid of m weights: a square, or two columns, which leave room for names."""
    side = isqrt(m)
    return (side, side) if side * side == m else (-(-m // 2), 2)


def grid(
    ax: Axes,
    weights: np.ndarray,
    low: float,
    high: float,
    names: Sequence[str] | None = None,
    marked: int | None = None,
    numbers: bool = True,
) -> None:
    """Draw weights (M,) of patches row by row; the darker the larger.

    Args:
        low, high: values of the lightest and the darkest colour.
        names: shown in the cells, by default the numbers of the patches, from 1.
        marked: a cell that is framed.
        numbers: also write the weights.
    """
    rows, columns = shape(len(weights))
    shown = np.pad(weights, (0, rows * columns - len(weights)), constant_values=low).reshape(rows, columns)
    span = high - low if high > low else 1
    share = np.clip((shown - low) / span, 0, 1)
    colours = matplotlib.colormaps[style.SEQUENTIAL](0.05 + _DARKEST * share)
    ax.imshow(colours, aspect="auto")
    across = ax.get_window_extent().width / ax.figure.dpi / columns  # inches of a cell
    size = min(6.0, across * 72 / 3.2)
    smaller = min(0.8 * size, across * 72 / (0.6 * max(map(len, names)))) if names else 0.8 * size
    for i, value in enumerate(weights):
        y, x = divmod(i, columns)
        colour = style.text_on(colours[y, x])
        name = names[i] if names else str(i + 1)
        ax.text(x, y - (0.17 if numbers else 0), name, ha="center", va="center", size=smaller, color=colour)
        if numbers:
            ax.text(x, y + 0.2, _short(value), ha="center", va="center", size=size, color=colour)
    if marked is not None:
        y, x = divmod(marked, columns)
        ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor=style.HIGHEST, linewidth=1.4))


def _short(value: float) -> str:
    """Return two digits that tell: .083, .41, 1.0."""
    if value >= 0.995:
        return f"{value:.1f}"
    return f"{value:.2f}"[1:] if value >= 0.1 else f"{value:.3f}"[1:]


def draw_grids(
    images: np.ndarray,
    true: Sequence[str],
    panels: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw a column per face, and below it a grid of its weights for every run, coloured by the run's own range.

    Args:
        images: (N, H, W, C) uint8.
        true: N class names.
        panels: (N, M) weights by the runs' titles.
        names: of the M parts; by default their numbers.
    """
    n, per_line = len(images), min(len(images), _PER_LINE)
    lines = -(-n // per_line)
    width = cells(images, per_line, left=1.0, most=1.25)[0]
    face = width * images.shape[1] / images.shape[2]
    m = next(iter(panels.values())).shape[1]
    rows, columns = shape(m)
    tall = width * rows / columns * (0.45 if names else 1)
    heights = [face, *[tall] * len(panels)] * lines
    between = {i * (1 + len(panels)): 0.18 for i in range(1, lines)}
    sheet = Sheet(len(heights), per_line, (width, heights), left=1.0, before_rows=between)
    for i, image in enumerate(images):
        line, column = divmod(i, per_line)
        first = line * (1 + len(panels))
        sheet.head(style.shorten(true[i] or "no label", 13), column, row=first, size=6.5)
        sheet.picture(first, column, image)
        for j, (title, weights) in enumerate(panels.items()):
            grid(sheet.at(first + 1 + j, column), weights[i], weights.min(), weights.max(), names)
            if column == 0:
                sheet.label(first + 1 + j, title, f"{_short(weights.min())} to {_short(weights.max())}")
    return sheet.figure


def draw_occlusion_sensitivity(
    images: np.ndarray,
    true: Sequence[str],
    covered: np.ndarray,
    weights: np.ndarray,
    patches: Sequence[int],
    name: str,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw every face and versions of it with one part covered, and below each the weights of all its parts.

    The weight of the covered part is framed.

    Args:
        images: (N, H, W, C) uint8.
        covered: (N, P, H, W, C) uint8.
        weights: (N, 1 + P, M), of the face as it is first.
        patches: P numbers of the covered parts, from 0.
        name: of the weights.
        names: of the M parts; by default their numbers.
    """
    n, p = covered.shape[:2]
    width = cells(images, 1 + p, left=0.8, most=1.1)[0]
    face = width * images.shape[1] / images.shape[2]
    rows, columns = shape(weights.shape[2])
    tall = width * rows / columns * (0.45 if names else 1)
    between = {2 * i: 0.1 for i in range(1, n)}
    sheet = Sheet(2 * n, 1 + p, (width, [face, tall] * n), left=0.8, before_rows=between, before_columns={1: 0.06})
    sheet.head("as it is", 0)
    for j, patch in enumerate(patches):
        sheet.head(f"without {names[patch] if names else patch + 1}", 1 + j, size=5.5 if names else 7)
    low, high = weights.min(), weights.max()
    for i in range(n):
        sheet.label(2 * i, true[i] or "no label")
        sheet.label(2 * i + 1, f"{name} weight")
        for j, image in enumerate((images[i], *covered[i])):
            sheet.picture(2 * i, j, image)
            marked = patches[j - 1] if j else None
            grid(sheet.at(2 * i + 1, j), weights[i, j], low, high, names, marked)
    return sheet.figure
