"""A sheet of faces about whose turn a list and the estimated head pose disagree."""

import numpy as np
from matplotlib.figure import Figure

_CELL = 1.4  # inches


def sheet(rows: list[tuple[str, list[tuple[np.ndarray, str]]]]) -> Figure:
    """Draw rows of faces: words about each row, and its (H, W, C) images with a caption each."""
    columns = max(len(faces) for _, faces in rows)
    figure = Figure(figsize=(columns * _CELL + 0.6, len(rows) * (_CELL + 0.25)), layout="constrained")
    for axes, (title, faces) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for i, ax in enumerate(axes):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if i < len(faces):
                image, caption = faces[i]
                grey = image.shape[-1] == 1
                ax.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
                ax.set_xlabel(caption, fontsize=6, parse_math=False)
        axes[0].set_ylabel(title, fontsize=7, parse_math=False)
    return figure
