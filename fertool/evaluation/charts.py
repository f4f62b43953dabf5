"""Where the lines, ticks and words of a chart go, in the units of an SVG's view box. A template draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Values = Sequence[float] | np.ndarray

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 40


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: what it is called in the legend.
        x, y: (N,); where y is nan the line is broken.
        colour: index of its colour.
        dashed: drawn dashed.
        dots: a dot at every point.
    """

    name: str
    x: Values
    y: Values
    colour: int = 0
    dashed: bool = False
    dots: bool = False


def ticks(low: float, high: float, about: int = 5, least: float = 0.0) -> list[float]:
    """Round numbers from low to high, about so many, at least `least` apart."""
    raw = max((high - low) / about, least)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def plot(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_step: float = 0.0,
    marks: Sequence[float] = (),
    diagonal: bool = False,
) -> dict:
    """Return the geometry of a chart of lines.

    Args:
        x_step: least distance of two ticks on the x axis.
        marks: places on the x axis where a thin vertical line stands.
        diagonal: draw the line on which both axes agree.
    """
    box = {"left": _LEFT, "right": WIDTH - _RIGHT, "top": _TOP, "bottom": HEIGHT - _BOTTOM}

    def across(x: float) -> float:
        return round(box["left"] + (x - x_range[0]) / (x_range[1] - x_range[0]) * (box["right"] - box["left"]), 1)

    def up(y: float) -> float:
        return round(box["bottom"] - (y - y_range[0]) / (y_range[1] - y_range[0]) * (box["bottom"] - box["top"]), 1)

    drawn = []
    for line in lines:
        points = [(across(x), up(y)) if np.isfinite(y) else None for x, y in zip(line.x, line.y, strict=True)]
        shown = {"name": line.name, "colour": line.colour, "dashed": line.dashed, "paths": _paths(points)}
        few = line.dots or len(points) < 4
        drawn.append(shown | {"dots": [p for p in points if p] if few else []})
    return {
        "width": WIDTH,
        "height": HEIGHT,
        **box,
        "x_label": x_label,
        "y_label": y_label,
        "x_ticks": [(across(v), f"{v:g}") for v in ticks(*x_range, least=x_step)],
        "y_ticks": [(up(v), f"{v:g}") for v in ticks(*y_range)],
        "marks": [across(m) for m in marks],
        "diagonal": (across(x_range[0]), up(y_range[0]), across(x_range[1]), up(y_range[1])) if diagonal else None,
        "lines": drawn,
    }


def _paths(points: list[tuple[float, float] | None]) -> list[str]:
    """Return the stretches of a line between its gaps."""
    stretches: list[list[str]] = [[]]
    for point in points:
        if point is None:
            stretches.append([])
        else:
            stretches[-1].append(f"{point[0]},{point[1]}")
    return [" ".join(s) for s in stretches if len(s) > 1]


def rounded(low: float, high: float, step: float) -> tuple[float, float]:
    """Return a range widened to whole steps."""
    return step * math.floor(low / step), max(step * math.ceil(high / step), step * math.floor(low / step) + step)
