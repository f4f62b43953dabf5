"""Images of faces in rows and columns, with words at their left and above: what most of the papers' figures are."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fertool.figures import style

HEAT = "inferno"
_GAP = 0.04  # inches between cells
_OPAQUE = 0.8  # of the hottest place; the coldest lets the face through


class Sheet:
    """Cells in a grid.

    Args:
        cell: width and height of a cell in inches; heights one by one where rows differ.
        left, top, bottom: inches for the words at the left, above and below.
        before_rows, before_columns: further inches before a row or a column, by its number.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        cell: tuple[float, float | Sequence[float]],
        *,
        left: float = 0.85,
        top: float = 0.2,
        bottom: float = 0.0,
        before_rows: dict[int, float] | None = None,
        before_columns: dict[int, float] | None = None,
    ):
        self._width, self._heights = cell[0], np.broadcast_to(cell[1], rows)
        self._x = _starts(left, np.full(columns, cell[0]), before_columns or {})
        self._y = _starts(top, self._heights, before_rows or {})
        self.size = (self._x[-1] + self._width, self._y[-1] + self._heights[-1] + bottom)
        self.figure = Figure(figsize=self.size)

    def at(self, row: int, column: int) -> Axes:
        """Return an empty cell."""
        x, y = self._x[column], self.size[1] - self._y[row] - self._heights[row]
        sides = np.divide((self._width, self._heights[row]), self.size)
        ax = self.figure.add_axes((x / self.size[0], y / self.size[1], *sides))
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
        return ax

    def picture(self, row: int, column: int, image: np.ndarray) -> Axes:
        """Return a grey or RGB image (H, W, C), uint8."""
        ax = self.at(row, column)
        ax.imshow(colours(image), aspect="auto")
        return ax

    def heat(self, row: int, column: int, image: np.ndarray, values: np.ndarray, top: float | None = None) -> Axes:
        """Draw an image (H, W, C) in grey under a map (H, W), from 0 to `top` (default: the map's highest value)."""
        ax = self.at(row, column)
        ax.imshow(heated(image, values, top), aspect="auto")
        return ax

    def frame(self, first: tuple[int, int], last: tuple[int, int], colour: str, gap: float = 0.04) -> None:
        """Draw a coloured frame around the cells from `first` to `last`, (row, column) each, `gap` inches away."""
        left, right = self._x[first[1]] - gap, self._x[last[1]] + self._width + gap
        top, bottom = self._y[first[0]] - gap, self._y[last[0]] + self._heights[last[0]] + gap
        corner = left / self.size[0], 1 - bottom / self.size[1]
        sides = (right - left) / self.size[0], (bottom - top) / self.size[1]
        look: dict[str, Any] = {
            "fill": False,
            "edgecolor": colour,
            "linewidth": 1.6,
            "transform": self.figure.transFigure,
        }
        self.figure.add_artist(Rectangle(corner, *sides, **look))

    def head(
        self, text: str, first: int, last: int | None = None, row: int = 0, lift: float = 0.0, **look: Any
    ) -> None:
        """Write words above the columns from `first` to `last` of a row, `lift` inches above the lowest place."""
        last = first if last is None else last
        middle = (self._x[first] + self._x[last] + self._width) / 2
        x, y = middle / self.size[0], 1 - (self._y[row] - 0.03 - lift) / self.size[1]
        self.figure.text(x, y, text, **{"ha": "center", "va": "bottom", "size": 7, **look})

    def scale(self, column: int, colours: np.ndarray, ends: tuple[str, str]) -> None:
        """Draw a colour bar (n, 3) below a column, with words at its ends; it needs 0.3 inches at the bottom."""
        left, width = self._x[column] / self.size[0], self._width / self.size[0]
        ax = self.figure.add_axes((left, 0.17 / self.size[1], width, 0.07 / self.size[1]))
        ax.imshow(colours[None], aspect="auto")
        ax.set_axis_off()
        for x, text, side in ((left, ends[0], "left"), (left + width, ends[1], "right")):
            self.figure.text(x, 0.04 / self.size[1], text, ha=side, size=5, color=style.QUIET)

    def foot(self, text: str, column: int) -> None:
        """Write words below a column and those right of it, into 0.3 inches at the bottom."""
        self.figure.text(self._x[column] / self.size[0], 0.16 / self.size[1], text, size=5.5, color=style.QUIET)

    def title(self, text: str, row: int = 0, lift: float = 0.0, **look: Any) -> None:
        """Write words at the left edge above a row."""
        y = 1 - (self._y[row] - 0.03 - lift) / self.size[1]
        self.figure.text(0.02 / self.size[0], y, text, **{"va": "bottom", "size": 6.5, "weight": "bold", **look})

    def label(self, row: int, text: str, below: str = "", wrong: bool = False, column: int = 0) -> None:
        """Write words left of a row or of a cell, the lower ones quieter, or alarming if something is wrong."""
        x = (self._x[column] - 0.06) / self.size[0]
        y = 1 - (self._y[row] + self._heights[row] / 2) / self.size[1]
        middle: dict[str, Any] = {"ha": "right", "size": 6}
        self.figure.text(x, y, style.shorten(text, 15), va="bottom" if below else "center", **middle)
        self.figure.text(
            x, y, style.shorten(below, 16), va="top", color=style.WRONG if wrong else style.QUIET, **middle
        )

    def said(self, row: int, true: str, predicted: str, column: int = 0) -> None:
        """Write the true and the predicted class left of a row."""
        below = "recognised" if predicted == true else f"as {style.shorten(predicted, 13)}"
        self.label(row, true or "no label", below, bool(true) and predicted != true, column)


def colours(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 1 or 3) uint8 as RGB."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def heated(image: np.ndarray, values: np.ndarray, top: float | None = None) -> np.ndarray:
    """Return an RGB image (H, W, 3), 0 to 1: the face in grey under a map, the more opaque the higher it is.

    Args:
        image: (H, W, C) uint8.
        values: (H, W), not negative.
        top: the value that is shown hottest.
    """
    top = values.max() if top is None else top
    share = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    cover = _OPAQUE * np.sqrt(share)[..., None]
    grey = colours(image).mean(axis=2, keepdims=True) / 255
    return grey * (1 - cover) + matplotlib.colormaps[HEAT](0.15 + 0.85 * share)[..., :3] * cover


def heat_scale(n: int = 64) -> np.ndarray:
    """Return the colours (n, 3) of a map from 0 to its highest value, over middle grey."""
    return heated(np.full((1, n, 1), 128, np.uint8), np.linspace(0, 1, n)[None])[0]


def enlarge(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return maps (..., h, w) brought to another size bilinearly; the outermost values go on to the edge."""
    for axis, size in ((-2, height), (-1, width)):
        n = values.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), max(n - 2, 0))
        share = (at - low).reshape((-1, 1) if axis == -2 else -1)
        low_values, high_values = values.take(low, axis), values.take(np.minimum(low + 1, n - 1), axis)
        values = low_values * (1 - share) + high_values * share
    return values


def cells(
    images: np.ndarray, columns: int, width: float = style.PAGE, left: float = 0.85, most: float = 0.95
) -> tuple[float, float]:
    """Return the width and height in inches of a cell, so that so many columns fit the width, at most `most` wide.

    Args:
        images: (N, H, W, C), for their shape.
    """
    across = min(most, (width - left) / columns - _GAP)
    return across, across * images.shape[1] / images.shape[2]


def _starts(first: float, sides: np.ndarray, before: dict[int, float]) -> np.ndarray:
    """Return where cells of these sides begin."""
    extra = np.cumsum([before.get(i, 0.0) for i in range(len(sides))])
    return first + extra + np.concatenate([[0], np.cumsum(sides[:-1] + _GAP)])
