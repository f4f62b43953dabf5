"""Mean input, mean attention and their product for each emotion.

Sun et al., Fig. 5 and 6, with Table 4's Action Units beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from fertool.figures import style
from fertool.figures.sheet import Sheet, cells, enlarge

_HIGHEST = 9.0  # inches of a page for the pictures
_LEFT = 1.2  # inches for their names


@dataclass(frozen=True)
class Means:
    """Means of one run, or of one view, per emotion.

    Attributes:
        title: shown at the left of its rows.
        faces: (E, H, W, C) mean input, 0 to 255; nan for an emotion without faces.
        maps: (E, h, w) mean attention, by name.
        count: (E,) how many faces.
    """

    title: str
    faces: np.ndarray
    maps: Mapping[str, np.ndarray]
    count: np.ndarray

    def projected(self, name: str) -> np.ndarray:
        """Return (E, H, W) a mean map enlarged to the input, its highest value 1."""
        found = enlarge(self.maps[name], *self.faces.shape[1:3])
        top = found.max(axis=(1, 2), keepdims=True)
        return found / np.where(top > 0, top, 1)

    def product(self, name: str) -> np.ndarray:
        """Return (E, H, W, C) mean input times projected attention."""
        return self.faces * self.projected(name)[..., None]


def draw(panels: Sequence[Means], classes: Sequence[str], units: Mapping[str, Mapping] | None = None) -> Figure:
    """Draw a column per emotion, and for each panel a row of mean inputs, of mean attention and of their product.

    Args:
        units: regions and action_units of an emotion, by its name: shown above its column.
    """
    units = units or {}
    names = list(panels[0].maps)
    per_panel = 1 + 2 * len(names)
    rows = per_panel * len(panels)
    height, width = panels[0].faces.shape[1:3]
    cell = cells(panels[0].faces, len(classes), left=_LEFT, most=min(1.0, _HIGHEST / rows * width / height))
    small = min(1.0, cell[0] / 0.85)
    noted = any(name in units for name in classes)
    between = {i * per_panel: 0.2 for i in range(1, len(panels))}
    top = (0.6 if noted else 0.2) + 0.1
    sheet = Sheet(rows, len(classes), cell, left=_LEFT, top=top, before_rows=between)
    for column, name in enumerate(classes):
        sheet.head(style.shorten(name, 14), column, lift=0.5 if noted else 0.1, weight="bold", size=7 * small)
        if name in units:
            sheet.head(_about(units[name]), column, lift=0.09, size=5.4 * small, color=style.QUIET, linespacing=1.15)
    for i, panel in enumerate(panels):
        first = i * per_panel
        counted = ["1 face" if n == 1 else f"{n:,} faces" if n else "no faces" for n in panel.count]
        for column, words in enumerate(counted):
            sheet.head(words, column, row=first, size=5, color=style.QUIET)
        sheet.title(style.shorten(panel.title, 24), first)
        sheet.label(first, "mean face")
        for j, name in enumerate(names):
            below = "" if len(names) == 1 else name
            sheet.label(first + 1 + 2 * j, "attention", below)
            sheet.label(first + 2 + 2 * j, "product", below)
            projected, product = panel.projected(name), panel.product(name)
            for column in np.flatnonzero(panel.count).tolist():
                ax = sheet.at(first + 1 + 2 * j, column)
                ax.imshow(projected[column], cmap="inferno", vmin=0, vmax=1, aspect="auto")
                sheet.picture(first + 2 + 2 * j, column, product[column].astype(np.uint8))
        for column in np.flatnonzero(panel.count).tolist():
            sheet.picture(first, column, np.round(panel.faces[column]).astype(np.uint8))
    return sheet.figure


def _about(entry: Mapping) -> str:
    """Return regions and Action Units of an emotion in three short lines."""
    regions = list(entry["regions"])
    lines = [", ".join(regions[:2]), ", ".join(regions[2:])] if len(regions) > 2 else [", ".join(regions)]
    units = list(map(str, entry["action_units"]))
    half = units if len(units) < 5 else units[: (len(units) + 1) // 2]
    lines.append("AU " + "+".join(half) + ("+" if len(half) < len(units) else ""))
    if len(half) < len(units):
        lines.append("+".join(units[len(half) :]))
    return "\n".join(line for line in lines if line)
