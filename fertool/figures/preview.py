"""Images that show what crop-regions and make-masks made of a few faces."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fertool.regions.crops import pixel_boxes

MOST_REGIONS = 9  # columns a preview has room for
_CELL = 1.5  # inches
_DIMMED = 0.3  # brightness outside a mask


def pick(candidates: np.ndarray, n: int = 6) -> np.ndarray:
    """Return up to n of the candidate rows, spread evenly over them."""
    return candidates[np.linspace(0, len(candidates) - 1, min(n, len(candidates))).round().astype(int)]


def crops(images: np.ndarray, boxes: np.ndarray, ids: list[str], names: list[str]) -> Figure:
    """Draw each face with its regions framed, and beside it the regions as a network gets them: enlarged.

    Args:
        images: (N, H, W, C) uint8 faces. boxes: (N, K, 4) fractions, box 0 the whole face. names: K region names.
    """
    height, width = images.shape[1:3]
    shown = names[1 : MOST_REGIONS + 1]
    figure, axes = _grid(len(images), 1 + len(shown))
    for row, (image, face_boxes, name) in enumerate(zip(images, boxes, ids, strict=True)):
        pixels = pixel_boxes(face_boxes, width, height)[1 : len(shown) + 1]
        face = axes[row][0]
        _show(face, image, name)
        for i, (x0, y0, x1, y1) in enumerate(pixels):
            frame: dict[str, Any] = {"fill": False, "edgecolor": _colour(i), "linewidth": 1.6}
            face.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, **frame))
            _show(axes[row][1 + i], image[y0:y1, x0:x1], stretch=height / width)
            _frame(axes[row][1 + i], _colour(i))
    for i, name in enumerate(shown):
        axes[0][1 + i].set_title(name, fontsize=8, color=_colour(i))
    return figure


def masks(images: np.ndarray, masks: np.ndarray, points: np.ndarray, ids: list[str], names: list[str]) -> Figure:
    """Draw each face with its eight landmarks, and beside it each region with the rest of the face dimmed.

    Args:
        images: (N, H, W, C) uint8 faces. masks: (N, R, G, G). points: (N, 8, 2) pixels. names: R region names.
    """
    height, width = images.shape[1:3]
    figure, axes = _grid(len(images), 1 + len(names))
    for row, (image, face_masks, face_points, name) in enumerate(zip(images, masks, points, ids, strict=True)):
        _show(axes[row][0], image, name)
        axes[row][0].scatter(*face_points.T, s=8, c="#ff3b30", edgecolors="white", linewidths=0.4)
        for i, mask in enumerate(face_masks):
            y = np.arange(height) * mask.shape[0] // height
            x = np.arange(width) * mask.shape[1] // width
            bright = _DIMMED + (1 - _DIMMED) * mask[np.ix_(y, x)][..., None]
            _show(axes[row][1 + i], (image * bright).astype(np.uint8))
    for i, name in enumerate(names):
        axes[0][1 + i].set_title(name, fontsize=8)
    return figure


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(columns * _CELL, rows * _CELL + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.ravel():
        ax.set_xticks([])
        ax.set_yticks([])
        _frame(ax, "none")
    return figure, axes


def _show(ax: Axes, image: np.ndarray, label: str = "", stretch: float | None = None) -> None:
    """Draw an image with its row's label; `stretch` is its height / width."""
    grey = image.shape[-1] == 1
    aspect: Literal["auto", "equal"] = "auto" if stretch else "equal"
    ax.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255, aspect=aspect)
    ax.set_box_aspect(stretch)
    ax.set_xlim(-0.5, image.shape[1] - 0.5)
    ax.set_ylim(image.shape[0] - 0.5, -0.5)
    if label:
        ax.set_ylabel(label if len(label) <= 22 else "…" + label[-21:], fontsize=6, parse_math=False)


def _frame(ax: Axes, colour: str) -> None:
    for spine in ax.spines.values():
        spine.set(visible=True, edgecolor=colour, linewidth=1.6)


def _colour(i: int) -> str:
    return f"C{i % 10}"
