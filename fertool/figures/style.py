"""One look for all figures: sizes that fit a paper's columns, colours that survive print and colour-blindness."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fertool import files
from fertool.errors import DataError
from fertool.outputs import MARK

COLUMN, PAGE = 3.5, 7.16  # inches: one column and the full width of an IEEE page

#: Okabe and Ito's palette without its yellow, which is lost on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
HIGHEST, LOWEST = "#D62728", "#1F4FD8"  # RAN's red and blue frames, told apart by their darkness too
WRONG, QUIET = "#B02A1A", "#666666"
SEQUENTIAL = "Blues"  # light to dark in one hue

_LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 6.5,
    "legend.edgecolor": "none",
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",  # words stay words: they can be searched and set in the paper's font
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names are shown as they are, dollar signs too
}


@contextmanager
def look() -> Iterator[None]:
    """Draw and save inside this."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_LOOK, "backend": matplotlib.rcParams["backend"]}):
        yield


def line(i: int) -> dict:
    """Return colour and dash of the i-th of many lines; repeats only after 28."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}


def text_on(colour: Sequence[float] | np.ndarray) -> str:
    """Return black or white, whichever has the higher contrast on a colour (WCAG 2.2), red, green, blue from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def shorten(name: str, most: int = 18) -> str:
    """Return a name cut in its middle if it is longer than there is room for."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 3
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def save(figure: Figure, path: Path, dpi: int = 130) -> Path:
    """Write a figure, in the format that the name ends in; `dpi` is for pixels, also those inside a PDF or SVG.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with files.replacing(path) as part:
            figure.savefig(part, dpi=dpi, bbox_inches="tight", pad_inches=0.03, **_marked(path))
    except ValueError as e:
        said = str(e).splitlines()[0]
        raise DataError(
            f"cannot write the picture {path}: {said}", "name a .png file in a folder you can write to"
        ) from e
    return path


def _marked(path: Path) -> dict:
    """Return options of `savefig` that write into the file that fertool made it, so that it is known again."""
    match path.suffix.lower():
        case ".png":
            return {"metadata": {"Software": MARK}}
        case ".pdf" | ".svg" | ".svgz" | ".ps" | ".eps":
            return {"metadata": {"Creator": MARK}}
        case ".jpg" | ".jpeg":
            return {"pil_kwargs": {"comment": MARK.encode()}}
        case ".tif" | ".tiff":
            return {"pil_kwargs": {"tiffinfo": {305: MARK}}}
    return {}
