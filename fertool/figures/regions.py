"""How much each region of a face counts: RAN's Fig. 6."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fertool.figures import style
from fertool.regions.crops import pixel_boxes

MOST = 8  # columns a panel has room for
_LABEL = 0.85  # inches left of the crops for the classes
_HEAD, _FOOT = 0.38, 0.16  # inches above and below them


@dataclass(frozen=True)
class Panel:
    """A run's predictions of the faces.

    Attributes:
        title: shown above.
        measure: what the weights are, shown beside the title.
        boxes: (N, K, 4) fractions of the face; box 0 is the whole face.
        weights: (N, K).
        predicted: N class names.
        names: of the K regions; by default I0, I1 ... as in the paper.
    """

    title: str
    boxes: np.ndarray
    weights: np.ndarray
    predicted: Sequence[str]
    measure: str = ""
    names: Sequence[str] = ()


def draw(images: np.ndarray, true: Sequence[str], panels: Sequence[Panel]) -> Figure:
    """Draw a row per face, a column per region with its weight above it; red frames the highest, blue the lowest.

    Panels stand side by side, each as wide as a column. Left of a row: the true class, and below it the predicted
    one. With more regions than there is room for, the whole face and the heaviest and lightest crops are shown, headed
    by their rank.

    Args:
        images: (N, H, W, C) uint8.
        true: N class names, "" for a face without a label.
    """
    columns = min(max(p.weights.shape[1] for p in panels), MOST)
    cell = (style.COLUMN - _LABEL) / columns
    height = len(images) * (cell + 0.19) + _HEAD + _FOOT
    figure = Figure(figsize=(style.COLUMN * len(panels), height))
    for i, panel in enumerate(panels):
        _panel(figure, i * style.COLUMN, cell, images, true, panel)
    below: dict[str, Any] = {"y": 0.04 / height, "size": 6, "weight": "bold"}
    middle = (_LABEL + (style.COLUMN - _LABEL) / 2) / (style.COLUMN * len(panels))
    figure.text(middle, s="highest weight  ", color=style.HIGHEST, ha="right", **below)
    figure.text(middle, s="  lowest weight", color=style.LOWEST, ha="left", **below)
    return figure


def choose(weights: np.ndarray, most: int = MOST) -> np.ndarray:
    """Return which regions of a face are shown: all, or the whole face and the heaviest and lightest crops in order."""
    if len(weights) <= most:
        return np.arange(len(weights))
    order = 1 + np.argsort(-weights[1:], kind="stable")
    return np.concatenate([[0], order[_ranks(len(weights), most)]])


def _ranks(k: int, most: int) -> list[int]:
    """Return the ranks by weight, from 0, of the crops shown when k regions are more than there is room for."""
    crops = list(range(k - 1))
    return crops[: most // 2] + crops[most // 2 - most + 1 :]


def _panel(figure: Figure, left: float, cell: float, images: np.ndarray, true: Sequence[str], panel: Panel) -> None:
    width, height = figure.get_size_inches()
    regions = panel.weights.shape[1]
    few = regions <= MOST
    names = [name.replace("-", "-\n") for name in panel.names] or [f"I{i}" for i in range(regions)]
    heads = names if few else [names[0], *(_ordinal(r + 1) for r in _ranks(regions, MOST))]
    top = height - _HEAD
    middle = left + _LABEL + (style.COLUMN - _LABEL) / 2
    title = style.shorten(panel.title, 40) + (f": {panel.measure}" if panel.measure else "")
    figure.text(middle / width, 1 - 0.02 / height, title, size=8, ha="center", va="top")
    for row, image in enumerate(images):
        shown = choose(panel.weights[row])
        highest, lowest = panel.weights[row].argmax(), panel.weights[row].argmin()
        bottom = top - (row + 1) * (cell + 0.19) + 0.03
        _classes(figure, (left + _LABEL - 0.08) / width, (bottom + cell / 2) / height, true[row], panel.predicted[row])
        pixels = pixel_boxes(panel.boxes[row], image.shape[1], image.shape[0])
        for column, k in enumerate(shown):
            x = left + _LABEL + column * cell
            ax = figure.add_axes((x / width, bottom / height, 0.92 * cell / width, 0.92 * cell / height))
            x0, y0, x1, y1 = pixels[k]
            _crop(ax, image[y0:y1, x0:x1], image.shape[0] / image.shape[1])
            ax.set_title(f"{panel.weights[row, k]:.{2 if few else 3}f}", size=6.5 if few else 6, pad=1.5)
            if row == 0:
                ax.annotate(heads[column], (0.5, 1), (0, 10), "axes fraction", "offset points", size=5.5, ha="center")
            if k in (highest, lowest) and highest != lowest:
                colour = style.HIGHEST if k == highest else style.LOWEST
                ax.title.set(color=colour, weight="bold")
                for spine in ax.spines.values():
                    spine.set(visible=True, edgecolor=colour, linewidth=1.6)


def _ordinal(n: int) -> str:
    last = n % 10 if n // 10 % 10 != 1 else 0
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


def _classes(figure: Figure, x: float, y: float, true: str, predicted: str) -> None:
    where: dict[str, Any] = {"ha": "right", "size": 6}
    figure.text(x, y, style.shorten(true or "no label", 15), va="bottom", **where)
    said = "recognised" if predicted == true else f"as {style.shorten(predicted, 13)}"
    wrong = true and predicted != true
    figure.text(x, y, said, va="top", color=style.WRONG if wrong else style.QUIET, **where)


def _crop(ax: Axes, crop: np.ndarray, stretch: float) -> None:
    """Draw a crop enlarged to the shape of the face, `stretch` times as high as wide."""
    grey = crop.shape[-1] == 1
    ax.imshow(crop[..., 0] if grey else crop, cmap="gray" if grey else None, vmin=0, vmax=255, aspect="auto")
    ax.set_box_aspect(stretch)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
