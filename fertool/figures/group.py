"""Attention over whole images (Sun et al., Fig. 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fertool.figures import style
from fertool.figures.sheet import Sheet, colours, enlarge, heated

_TALLEST = 2.1  # inches of an image


@dataclass(frozen=True)
class GroupImage:
    """An image as the network saw it.

    Attributes:
        name: shown above it.
        image: (H, W, C) uint8.
        boxes: (n, 4) the detector's, in pixels.
        attention: (h, w), sums to 1.
        soft: (H, W) weights of the soft boxes.
        product: (H, W) attention on the faces, sums to 1, or to 0 where there are none.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray
    attention: np.ndarray
    soft: np.ndarray
    product: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """(H, W) attention enlarged to the image, sums to 1."""
        return spread(self.attention, *self.image.shape[:2])

    @property
    def share(self) -> tuple[float, float]:
        """How much of the attention, and of the image, lies in the soft boxes."""
        return float((self.spread * self.soft).sum()), float(self.soft.mean())


def spread(attention: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a map (h, w) enlarged bilinearly, with the sum 1."""
    found = enlarge(attention, height, width)
    return found / found.sum()


def draw(images: Sequence[GroupImage], title: str) -> Figure:
    """Draw a row per image: with the detector's boxes, under the attention, and under its part in the soft boxes."""
    width = (style.PAGE - 0.1) / 3
    heights = [min(_TALLEST, width * p.image.shape[0] / p.image.shape[1]) for p in images]
    between = dict.fromkeys(range(1, len(images)), 0.17)
    sheet = Sheet(len(images), 3, (width, heights), left=0.02, top=0.5, before_rows=between)
    for column, words in enumerate((title, "attention", "attention × soft boxes")):
        sheet.head(words, column, lift=0.17, size=8)
    for row, photo in enumerate(images):
        n, (mine, area) = len(photo.boxes), photo.share
        sheet.head(f"{style.shorten(photo.name, 30)}, {n} face{'s' * (n != 1)}", 0, row=row, size=6)
        if n:
            words = f"{100 * mine:.0f} % on faces, which are {100 * area:.0f} % of the picture"
            sheet.head(words, 1, row=row, size=6)
        else:
            sheet.head("no face was found", 2, row=row, size=6, color=style.WRONG)
        grey = colours(photo.image).mean(axis=2, keepdims=True).astype(np.uint8)
        pictures = (colours(photo.image), heated(grey, photo.spread), heated(grey, photo.product))
        for column, image in enumerate(pictures):
            ax = sheet.at(row, column)
            ax.imshow(image, interpolation="bicubic")
        for x0, y0, x1, y1 in photo.boxes:
            frame: dict[str, Any] = {"fill": False, "edgecolor": "#FFD400", "linewidth": 0.9}
            sheet.figure.axes[-3].add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **frame))
    return sheet.figure
