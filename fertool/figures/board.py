"""Accuracies of systems with their intervals, one panel per subset."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from fertool.evaluation.comparison import called
from fertool.figures import style

_PANELS = 4  # in a row


def draw(block: Mapping[str, Any]) -> Figure:
    """Draw the mean of every system with its interval, and each seed as a ring.

    Args:
        block: a table of the board, see `evaluation.board.results.of_block`.
    """
    systems = block["systems"]
    subsets = [n for n in systems[0]["subsets"] if any(s["subsets"][n]["accuracy"] is not None for s in systems)]
    columns = min(_PANELS, len(subsets))
    rows = -(-len(subsets) // columns)
    figure = Figure(figsize=(style.PAGE, rows * (0.75 + 0.2 * len(systems))), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for ax, subset in zip(axes, subsets, strict=False):
        for place, system in enumerate(systems):
            s = system["subsets"][subset]
            if s["accuracy"] is None:
                continue
            value, low, high = (100 * s[k] for k in ("accuracy", "low", "high"))
            colour = style.COLOURS[place % len(style.COLOURS)]
            ax.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", ms=4, capsize=2, color=colour)
            if len(s["each"]) > 1:
                ax.plot(
                    [100 * a for a in s["each"]], [place] * len(s["each"]), "o", ms=6, mfc="none", mew=0.6, color=colour
                )
        ax.set_title(f"{called(subset)}, {systems[0]['subsets'][subset]['n_total']:,} faces")
        ax.set_yticks(range(len(systems)), [style.shorten(s["name"], 28) for s in systems])
        ax.set_ylim(len(systems) - 0.5, -0.5)
        ax.set_xlabel("accuracy (%)")
        ax.grid(axis="x", color="#dddddd", linewidth=0.5)
        ax.set_axisbelow(True)
    for ax in axes[len(subsets) :]:
        ax.set_visible(False)
    return figure
