"""Panels of the preprocessing, from images to faces and regions, and how well a network finds the regions itself.

Sun et al., Fig. 3 and 4; MAN's Fig. 3 and 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fertool.figures import style
from fertool.figures.sheet import Sheet, cells, colours
from fertool.regions.crops import pixel_boxes

_FRAME = "#FFD400"
_DOT = "#00C2FF"
_DIMMED = 0.45  # brightness outside a mask


@dataclass(frozen=True)
class Prepared:
    """An image and what was made of it.

    Attributes:
        name: shown at the left.
        image: (H, W, C) uint8.
        box: (4,) the detector's, in its pixels.
        points: (K, 2) landmarks in its pixels; none for K = 0.
        aligned: (h, w, C) the face cut out of it.
        normalised: (h, w, C) the face with even light, or None if it is the aligned one.
    """

    name: str
    image: np.ndarray
    box: np.ndarray
    points: np.ndarray
    aligned: np.ndarray
    normalised: np.ndarray | None


def steps(faces: Sequence[Prepared]) -> Figure:
    """Draw a row per image, a column per step of detect-align."""
    heads = ["image", "detected", "landmarks", "aligned"]
    if any(f.normalised is not None for f in faces):
        heads.append("even light")
    side = min(1.25, (style.PAGE - 0.7) / len(heads) - 0.04)
    tall = [min(1.3, max(1.0, f.image.shape[0] / f.image.shape[1])) * side for f in faces]
    sheet = Sheet(len(faces), len(heads), (side, tall), left=0.7)
    for column, head in enumerate(heads):
        sheet.head(head, column)
    for row, face in enumerate(faces):
        sheet.label(row, face.name)
        x0, y0, x1, y1 = face.box
        for column in range(3):
            ax = _equal(sheet.at(row, column), face.image)
            if column == 1:
                frame: dict[str, Any] = {"fill": False, "edgecolor": _FRAME, "linewidth": 1.2}
                ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **frame))
                height, width = face.image.shape[:2]
                ax.set_xlim(min(x0 - 1, -0.5), max(x1 + 1, width - 0.5))  # a box may reach beyond its image
                ax.set_ylim(max(y1 + 1, height - 0.5), min(y0 - 1, -0.5))
            if column == 2 and len(face.points):
                ax.scatter(face.points[:, 0], face.points[:, 1], s=2.5, c=_DOT, linewidths=0)
                height, width = face.image.shape[:2]
                across, down = 0.15 * (x1 - x0), 0.15 * (y1 - y0)
                ax.set_xlim(max(x0 - across, -0.5), min(x1 + across, width - 0.5))
                ax.set_ylim(min(y1 + down, height - 0.5), max(y0 - down, -0.5))
        for column, image in enumerate((face.aligned, face.normalised), 3):
            if image is not None:
                _equal(sheet.at(row, column), image)
    return sheet.figure


def landmarks(
    images: np.ndarray,
    points: np.ndarray,
    eight: np.ndarray,
    boxes: np.ndarray,
    ids: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Draw a row per face: all landmarks and the eight that define regions, numbered; then the regions.

    Args:
        images: (N, H, W, C) uint8. points: (N, K, 2) pixels. eight: (N, 8, 2) pixels.
        boxes: (N, R, 4) fractions, the first the whole face, not clipped. names: of the R regions.
    """
    n, height, width = images.shape[:3]
    across, tall = cells(images, len(names), left=0.7, most=1.2)
    sheet = Sheet(n, len(names), (across, tall), left=0.7, before_columns={1: 0.06})
    for column, name in enumerate(("landmarks", *names[1:])):
        sheet.head(name, column, size=6, color="black" if column == 0 else style.COLOURS[(column - 1) % 7])
    for row, image in enumerate(images):
        sheet.label(row, ids[row])
        ax = sheet.picture(row, 0, image)
        ax.set_xlim(-0.5, width - 0.5)
        ax.set_ylim(height - 0.5, -0.5)
        if points.shape[1] > 8:
            ax.scatter(points[row, :, 0], points[row, :, 1], s=1.2, c=_DOT, linewidths=0)
        ax.scatter(eight[row, :, 0], eight[row, :, 1], s=6, c="#ff3b30", edgecolors="white", linewidths=0.3)
        for i, (x, y) in enumerate(eight[row]):
            ax.text(x, y - 0.03 * height, str(i + 1), size=4.5, color="white", ha="center", va="bottom")
        for column, box in enumerate(pixel_boxes(np.clip(boxes[row, 1:], 0, 1), width, height), 1):
            x0, y0, x1, y1 = box
            cut = sheet.at(row, column)
            cut.imshow(colours(image[y0:y1, x0:x1]), aspect="auto")
            cut.set_box_aspect((y1 - y0) / (x1 - x0))
            for spine in cut.spines.values():
                spine.set(visible=True, edgecolor=style.COLOURS[(column - 1) % 7], linewidth=1.2)
    return sheet.figure


def masks(
    images: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray,
    iou: np.ndarray,
    constant_iou: np.ndarray,
    ids: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Draw a row per face, a column per region: bright is the predicted region, framed the true one.

    Below is their intersection over union. Beside the means are those of the best constant masks.

    Args:
        images: (N, H, W, C) uint8. predicted, true: (N, R, h, w) bool. iou, constant_iou: (N, R).
        names: of the R regions.
    """
    n, height, width = images.shape[:3]
    across, tall = cells(images, len(names), left=0.7, most=1.2)
    sheet = Sheet(n, len(names), (across, tall), left=0.7)
    for column, name in enumerate(names):
        sheet.head(f"{name}", column, size=6, lift=0.1)
        sheet.head(
            f"IoU {iou[:, column].mean():.2f} ({constant_iou[:, column].mean():.2f})",
            column,
            size=5.5,
            color=style.QUIET,
        )
    for row, image in enumerate(images):
        sheet.label(row, ids[row], f"IoU {iou[row].mean():.2f} ({constant_iou[row].mean():.2f})")
        for column in range(len(names)):
            seen = predicted[row, column]
            y, x = (np.arange(s) * g // s for s, g in zip((height, width), seen.shape, strict=True))
            bright = np.where(seen[np.ix_(y, x)], 1.0, _DIMMED)[..., None]
            ax = sheet.picture(row, column, (colours(image) * bright).astype(np.uint8))
            _outline(ax, true[row, column], height, width)
            said: dict[str, Any] = {
                "size": 5,
                "color": "white",
                "ha": "right",
                "va": "bottom",
                "transform": ax.transAxes,
            }
            ax.text(0.98, 0.02, f"{iou[row, column]:.2f}", bbox={"color": "black", "alpha": 0.6, "pad": 0.8}, **said)
    return sheet.figure


def _outline(ax: Axes, mask: np.ndarray, height: int, width: int) -> None:
    """Draw a frame around a mask, which is a rectangle of cells."""
    y, x = np.nonzero(mask)
    if not len(y):
        return
    down, across = height / mask.shape[0], width / mask.shape[1]
    left, top = x.min() * across - 0.5, y.min() * down - 0.5
    sides = (x.max() + 1 - x.min()) * across, (y.max() + 1 - y.min()) * down
    ax.add_patch(Rectangle((left, top), *sides, fill=False, edgecolor=_FRAME, linewidth=1))
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)


def _equal(ax: Axes, image: np.ndarray) -> Axes:
    """Return an image that is not stretched to its cell."""
    ax.imshow(colours(image))
    return ax
