"""Confusion matrices, one or several side by side (RAN Fig. 4 and 5)."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fertool.evaluation.metrics import row_normalised
from fertool.figures import style


def draw(
    matrices: Sequence[np.ndarray], titles: Sequence[str], classes: Sequence[str], *, counts: bool = False
) -> Figure:
    """Draw matrices of counts, two to a line at page width, a single one at column width.

    The shade of a cell is the share of its row; its number is that share in percent, or the count. Zeros are left
    blank. Row labels say how many faces a class has; a class without faces is a grey row.

    Args:
        matrices: (C, C) counts each, rows the true class; or shares from 0 to 1 where only these are known, as floats,
            a row that is not known nan.
    """
    columns = min(2, len(matrices))
    lines = -(-len(matrices) // columns)
    width = style.COLUMN if columns == 1 else style.PAGE
    figure = Figure(figsize=(width, lines * (style.COLUMN + 0.15)), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, matrix, title in zip(axes, matrices, titles, strict=False):
        _matrix(ax, np.asarray(matrix), title, classes, counts)
    for ax in axes[len(matrices) :]:
        ax.set_axis_off()
    return figure


def _matrix(ax: Axes, matrix: np.ndarray, title: str, classes: Sequence[str], counts: bool) -> None:
    printed = matrix.dtype.kind == "f"
    share = matrix.copy() if printed else row_normalised(matrix)
    if not printed:
        share[matrix.sum(1) == 0] = np.nan
    colours = matplotlib.colormaps[style.SEQUENTIAL].with_extremes(bad="#e4e4e4")
    shades = ax.imshow(share, cmap=colours, vmin=0, vmax=1.1)  # the darkest blue is left out
    n = len(classes)
    size = min(6.5, 52 / n)
    for (i, j), count in np.ndenumerate(matrix):
        if count > 0:
            text = str(count) if counts and not printed else f"{100 * share[i, j]:.1f}"
            ink = style.text_on(shades.to_rgba(share[i, j]))
            ax.text(j, i, text, ha="center", va="center", size=size, color=ink)
    names = [style.shorten(c) for c in classes]
    ax.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
    known = matrix.sum(1)
    notes = np.where(np.isnan(known), " (not known)", "") if printed else [f" ({s:,})" for s in known]
    ax.set_yticks(range(n), [f"{name}{note}" for name, note in zip(names, notes, strict=True)])
    ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true" if printed else "true (faces)")
    ax.set_title(title)
