"""Where a network looks: its attention as maps over faces, and how the weights of regions move while it learns."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fertool.figures import style
from fertool.figures.region_weights import grid
from fertool.figures.sheet import Sheet

_LABEL = 0.85  # inches left of the faces for the classes
_CELL = 0.85
_MAP = "inferno"


def draw(
    images: np.ndarray,
    true: Sequence[str],
    predicted: Sequence[str],
    shown: Mapping[str, np.ndarray],
    view: Sequence[float],
) -> Figure:
    """Draw a row per face: the face, then each map over it, stretched from its lowest value to its highest.

    Args:
        images: (N, H, W, C) uint8.
        true, predicted: N class names, "" for a face without a label.
        shown: maps (N, h, w) by name.
        view: x0, y0, x1, y1 of the network's view as fractions of the face.
    """
    n, height, width = images.shape[:3]
    cell = (_CELL, _CELL * height / width)
    size = (_LABEL + (1 + len(shown)) * cell[0], n * (cell[1] + 0.04) + 0.2)
    figure = Figure(figsize=size)
    extent = (view[0] * width - 0.5, view[2] * width - 0.5, view[3] * height - 0.5, view[1] * height - 0.5)
    for row, image in enumerate(images):
        bottom = size[1] - 0.2 - (row + 1) * (cell[1] + 0.04)
        said = "recognised" if predicted[row] == true[row] else f"as {style.shorten(predicted[row], 13)}"
        middle = (bottom + cell[1] / 2) / size[1]
        colour = style.WRONG if true[row] and predicted[row] != true[row] else style.QUIET
        x = (_LABEL - 0.08) / size[0]
        figure.text(x, middle, style.shorten(true[row] or "no label", 15), va="bottom", ha="right", size=6)
        figure.text(x, middle, said, va="top", ha="right", size=6, color=colour)
        for column, name in enumerate(("face", *shown)):
            left = _LABEL + column * cell[0]
            box = (left / size[0], bottom / size[1], 0.96 * cell[0] / size[0], cell[1] / size[1])
            ax = figure.add_axes(box)
            grey = image.mean(axis=2) if column or image.shape[2] == 1 else image
            ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
            if column:
                ax.imshow(shown[name][row], cmap=_MAP, alpha=0.6, extent=extent, interpolation="bilinear")
            ax.set_xlim(-0.5, width - 0.5)
            ax.set_ylim(height - 0.5, -0.5)
            ax.set_axis_off()
            if row == 0:
                ax.set_title(name, size=7, pad=2)
    return figure


def draw_groups(
    images: np.ndarray, true: Sequence[str], shown: Mapping[str, np.ndarray], view: Sequence[float]
) -> Figure:
    """Draw a coloured box per expression (WS-LGRN's Fig. 7): the faces of that class, each followed by its maps.

    Arguments as for `draw`; faces without a label are left out.
    """
    names = list(dict.fromkeys(name for name in true if name))
    of = {name: [i for i, t in enumerate(true) if t == name] for name in names}
    across, most = 1 + len(shown), max(map(len, of.values()))
    per_line = max(1, round(7.8 / across))
    lines = -(-len(names) // per_line)
    height, width = images.shape[1:3]
    columns = across * min(per_line, len(names))
    cell = min(0.9, (style.PAGE - 0.2 - 0.14 * (columns // across)) / columns - 0.04)
    sheet = Sheet(
        lines * most, columns, (cell, cell * height / width), left=0.06, top=0.36,
        before_columns={across * i: 0.14 for i in range(1, columns // across)},
        before_rows={most * i: 0.36 for i in range(1, lines)},
    )  # fmt: skip
    extent = (view[0] * width - 0.5, view[2] * width - 0.5, view[3] * height - 0.5, view[1] * height - 0.5)
    for i, name in enumerate(names):
        line, place = divmod(i, per_line)
        top, left = line * most, place * across
        colour = style.COLOURS[i % len(style.COLOURS)]
        sheet.head(style.shorten(name, 16), left, left + across - 1, row=top, lift=0.15, color=colour, weight="bold")
        for j, words in enumerate(("face", *shown)):
            sheet.head(words, left + j, row=top, lift=0.03, size=5.5, color=style.QUIET)
        for row, k in enumerate(of[name], top):
            sheet.picture(row, left, images[k])
            for j, values in enumerate(shown.values(), 1):
                _laid(sheet.picture(row, left + j, _grey(images[k])), values[k], extent, height, width)
        sheet.frame((top, left), (top + len(of[name]) - 1, left + across - 1), colour)
    return sheet.figure


def _grey(image: np.ndarray) -> np.ndarray:
    return image.mean(axis=2, keepdims=True).astype(np.uint8)


def _laid(ax: Axes, values: np.ndarray, extent: tuple, height: int, width: int) -> None:
    """Draw a map over the part of the face that the network saw."""
    ax.imshow(values, cmap=_MAP, alpha=0.6, extent=extent, interpolation="bilinear", aspect="auto")
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)


def draw_trace(
    iterations: np.ndarray, weights: np.ndarray, ids: Sequence[str], name: str, at: Sequence[int] = ()
) -> Figure:
    """Draw how the weights of regions change while a network is trained.

    For every face its curves, one per region (LNLAttenNet's Fig. 12), and below them the weights at some iterations,
    laid out as the regions lie (Fig. 11).

    Args:
        iterations: (T,).
        weights: (T, N, M), M a square number for patches.
        at: of the iterations, those whose weights are shown; by default six, spread evenly.
    """
    t, n, m = weights.shape
    at = at or iterations[np.unique(np.linspace(0, t - 1, min(6, t)).round().astype(int))].tolist()
    figure = Figure(figsize=(style.PAGE, 2.9 * n + 0.2), layout="constrained")
    for face, part in enumerate(figure.subfigures(n, 1, squeeze=False)[:, 0]):
        upper, lower = part.subfigures(2, 1, height_ratios=(1.25, 1))
        curves = upper.subplots()
        for region in range(m):
            look = style.line(region)
            curves.plot(
                iterations, weights[:, face, region], **look | {"linewidth": 0.8}, marker="." if t < 3 else None
            )
        curves.set_title(style.shorten(ids[face], 60))
        curves.set_ylabel(f"{name} weight")
        curves.set_xlabel("iteration")
        low, high = weights[:, face].min(), weights[:, face].max()
        for ax, iteration in zip(lower.subplots(1, len(at), squeeze=False)[0], at, strict=True):
            ax.set_title("start" if iteration == 0 else f"iteration {iteration:,}", size=6.5)
            ax.set_box_aspect(1)
            ax.set_axis_off()
            last = weights[np.flatnonzero(iterations == iteration)[0], face]
            grid(ax, last, low, high)
    return figure
