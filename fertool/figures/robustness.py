"""What covering or turning a face costs: accuracy of several runs over severity and over angles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fertool.figures import style

_ROW = 3  # panels beside one another
_HEIGHT = 1.9  # inches of a panel
_ASIDE = 0.012  # of the axis, by which curves lie beside one another, so that their bars can be told apart


@dataclass(frozen=True)
class Curve:
    """Accuracy of a run, or of the seeds of a system, at P places; arrays (P,).

    Attributes:
        at: severities or angles, ascending.
        accuracy, low, high: fractions, the latter the ends of the interval (over seeds and faces).
        faces: how many faces each point stands for.
    """

    at: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One part of the figure: its title, what its horizontal axis shows, and a curve for each run."""

    title: str
    axis: str
    curves: Mapping[str, Curve]


def draw(panels: Sequence[Panel]) -> Figure:
    """Draw panels in rows of three at page width, all with one vertical axis from 0; bars are the intervals.

    Small numbers below the points count faces; where every point of a panel has as many, its title says so.
    """
    columns = min(_ROW, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(style.PAGE * (0.3 + 0.7 * columns / _ROW), 0.35 + _HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _panel(ax, panel)
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax in axes[: len(panels) : columns]:
        ax.set_ylabel("accuracy (%)")
    axes[0].set_ylim(0, min(102, axes[0].get_ylim()[1]))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))
    return figure


def _panel(ax: Axes, panel: Panel) -> None:
    widest = max(float(curve.at.max()) for curve in panel.curves.values())
    for i, (name, curve) in enumerate(panel.curves.items()):
        look: dict[str, Any] = {**style.line(i), "marker": "o", "markersize": 2.2, "capsize": 1.5, "elinewidth": 0.6}
        y, low, high = 100 * curve.accuracy, 100 * curve.low, 100 * curve.high
        aside = _ASIDE * (i - (len(panel.curves) - 1) / 2) * widest
        ax.errorbar(curve.at + aside, y, (y - low, high - y), label=style.shorten(name, 28), **look)
    first = next(iter(panel.curves.values()))
    same = len(set(first.faces.tolist())) == 1
    ax.set_title(f"{panel.title}, {first.faces[0]:,} faces" if same else panel.title)
    if not same:
        quiet: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "size": 5, "color": style.QUIET}
        for x, n in zip(first.at, first.faces, strict=True):
            ax.annotate(f"{n:,}", (x, 0.02), ha="center", **quiet)
        ax.annotate("faces", (0.01, 0.08), **quiet | {"xycoords": "axes fraction"})
    ax.set_xlabel(panel.axis)
    ax.set_xlim(left=-2 * _ASIDE * widest)  # what lies at 0 is seen whole
    ax.grid(color="#dddddd", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(labelleft=True)
