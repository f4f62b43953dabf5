"""Grad-CAM and guided Grad-CAM of one or several networks side by side (MAN's Fig. 5 to 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fertool.figures import style
from fertool.figures.sheet import Sheet, cells, heat_scale

_STRONGEST = 99.5  # percentile of a gradient that is shown in full: single pixels stick out


@dataclass(frozen=True)
class Panel:
    """A run's predictions of the faces.

    Attributes:
        title: shown above.
        images: (N, H, W, C) uint8, the faces as this run saw them.
        predicted: N class names.
        cam: (N, H, W), not negative.
        guided: (N, H, W, C), signed.
        layer: whose maps are weighed.
    """

    title: str
    images: np.ndarray
    predicted: Sequence[str]
    cam: np.ndarray
    guided: np.ndarray
    layer: str = ""


def draw(true: Sequence[str], panels: Sequence[Panel], asked: str = "true class") -> Figure:
    """Draw a row per face: the face, then for every run its Grad-CAM over the face, and its guided Grad-CAM.

    Grad-CAM goes from 0 to its own highest value. In guided Grad-CAM grey is no influence, lighter is for the class,
    darker against it.

    Args:
        true: N class names, "" for a face without a label.
        asked: the class that was asked about, in words.
    """
    images, columns = panels[0].images, 1 + 2 * len(panels)
    cell = cells(images, columns, left=0.95)
    between = {1 + 2 * i: 0.08 for i in range(len(panels))}
    sheet = Sheet(len(images), columns, cell, left=0.95, top=0.46, bottom=0.3, before_columns=between)
    sheet.head("face", 0, size=6)
    sheet.figure.text(0.04 / sheet.size[0], 1 - 0.39 / sheet.size[1], f"for the\n{asked}", size=5.5, color=style.QUIET)
    for i, panel in enumerate(panels):
        sheet.head(style.shorten(panel.title, 24), 1 + 2 * i, 2 + 2 * i, lift=0.22, size=8)
        if panel.layer:
            layer = f"layer {style.shorten(panel.layer, 34)}"
            sheet.head(layer, 1 + 2 * i, 2 + 2 * i, lift=0.12, size=5, color=style.QUIET)
        sheet.head("Grad-CAM", 1 + 2 * i, size=6)
        sheet.head("guided", 2 + 2 * i, size=6)
    for row, image in enumerate(images):
        sheet.label(row, true[row] or "no label")
        sheet.picture(row, 0, image)
        for i, panel in enumerate(panels):
            ax = sheet.heat(row, 1 + 2 * i, panel.images[row], panel.cam[row])
            _say(ax, panel.predicted[row], true[row])
            sheet.picture(row, 2 + 2 * i, relief(panel.guided[row]))
    for i in range(len(panels)):
        sheet.scale(1 + 2 * i, heat_scale(), ("0", "each map's highest"))
        sheet.scale(2 + 2 * i, np.linspace(0, 1, 64)[:, None].repeat(3, 1), ("against", "for the class"))
    return sheet.figure


def _say(ax: Axes, predicted: str, true: str) -> None:
    """Write the predicted class below the face."""
    wrong = bool(true) and predicted != true
    box = {"facecolor": style.WRONG if wrong else "black", "alpha": 0.65, "pad": 1, "linewidth": 0}
    ax.text(0.5, 0.02, style.shorten(predicted, 12), transform=ax.transAxes, ha="center", va="bottom", size=5)
    ax.texts[-1].set(color="white", bbox=box)


def draw_subjects(
    images: Mapping[tuple[int, int], np.ndarray],
    cams: Mapping[tuple[int, int], np.ndarray],
    people: Sequence[str],
    classes: Sequence[str],
    wrong: Mapping[tuple[int, int], str],
    layer: str = "",
) -> Figure:
    """Draw a row per person, a column per expression: Grad-CAM over the face of each (MAN's Fig. 6 and 8).

    Args:
        images: (H, W, C) uint8 by row and column; cells without an image stay empty.
        cams: (H, W) by row and column.
        wrong: what a face was taken for where it was not recognised.
        layer: whose maps are weighed.
    """
    first = next(iter(images.values()))
    sheet = Sheet(len(people), len(classes), cells(first[None], len(classes), left=0.5), left=0.5, bottom=0.3)
    sheet.scale(0, heat_scale(), ("0", "each map's highest"))
    if layer:
        sheet.foot(f"Grad-CAM, {layer}", 1)
    for column, name in enumerate(classes):
        sheet.head(style.shorten(name, 12), column)
    for row, name in enumerate(people):
        sheet.label(row, style.shorten(name, 10))
    for (row, column), image in images.items():
        ax = sheet.heat(row, column, image, cams[row, column])
        if (row, column) in wrong:
            _say(ax, f"as {wrong[row, column]}", " ")
    return sheet.figure


def relief(gradient: np.ndarray) -> np.ndarray:
    """Return a signed image (H, W, C) as uint8 around middle grey, stretched to its strongest values."""
    strongest = np.percentile(np.abs(gradient), _STRONGEST) or np.abs(gradient).max()
    shown = np.clip(gradient / strongest, -1, 1) if strongest else np.zeros_like(gradient)
    return np.round(127.5 + 127.5 * shown).astype(np.uint8)
