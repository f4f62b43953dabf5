"""Accuracy over the values of a setting."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fertool.figures import style

Line = Sequence[tuple[Any, Mapping]]  # (value, {"accuracy", "low", "high", "paper"}), fractions or None


def draw(lines: Mapping[str, Line], key: str, chance: float | None = None) -> Figure:
    """Draw a curve with intervals per line, such as a subset, and dashed the paper's where it is known.

    RAN's Fig. 7, 9 and 10; LNLAttenNet's Tables V to VII.

    Numbers are placed as numbers; other values side by side in their order. The axis begins at 0, and bars are the
    confidence intervals.

    Args:
        lines: by name.
        key: the setting.
        chance: accuracy of guessing, drawn as a line.
    """
    figure = Figure(figsize=(style.COLUMN, 2.6), layout="constrained")
    ax = figure.subplots()
    values = [v for line in lines.values() for v, _ in line]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    names = list(dict.fromkeys(map(str, values)))
    for i, (name, line) in enumerate(lines.items()):
        known = [(v if numbers else names.index(str(v)), s) for v, s in line if s["accuracy"] is not None]
        known = sorted(known, key=lambda p: p[0]) if numbers else known
        if not known:
            continue
        x = np.array([v for v, _ in known], float)
        y, low, high = (100 * np.array([s[k] for _, s in known], float) for k in ("accuracy", "low", "high"))
        look = style.line(i)
        ax.errorbar(
            x, y, (y - low, high - y), label=style.shorten(name, 30), marker=".", capsize=2, elinewidth=0.6, **look
        )
        printed = [(v, 100 * s["paper"]) for v, s in known if s.get("paper") is not None]
        if printed:
            label = f"{style.shorten(name, 22)}, paper"
            ax.plot(*zip(*printed, strict=True), label=label, color=look["color"], linestyle=":", marker="x", ms=3)
    if numbers:
        ax.set_xticks(sorted({float(v) for v in values}) if len(names) <= 12 else ax.get_xticks())
        ax.xaxis.set_major_formatter("{x:g}")
    else:
        ax.set_xticks(range(len(names)), names)
        ax.margins(x=0.15)
    ax.set_xlabel(key.rpartition(".")[2].replace("_", " "))
    ax.set_ylabel("accuracy and its interval (%)")
    ax.set_ylim(0, min(102, ax.get_ylim()[1]))
    if chance is not None:
        ax.axhline(100 * chance, color=style.QUIET, linewidth=0.7, linestyle="--", label="chance")
    ax.grid(color="#dddddd", linewidth=0.5)
    ax.set_axisbelow(True)
    if len(ax.get_legend_handles_labels()[0]) > 1:
        figure.legend(loc="outside upper center", ncols=2)
    return figure
