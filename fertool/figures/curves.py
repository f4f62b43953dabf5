"""Training curves of one or several runs."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fertool.evaluation.summary import metric_of
from fertool.figures import style

History = Mapping[str, np.ndarray]


def draw(histories: Mapping[str, History]) -> Figure:
    """Draw loss above accuracy, over epochs, at column width.

    One run shows its loss terms, the validation loss and both scores; several show both total losses and both scores
    in one colour each. Dotted vertical lines mark where the learning rate falls, of several runs in the run's colour.

    Args:
        histories: run name -> columns of its history (`loss`, `loss_<term>`, `val_loss`, `train_accuracy`,
            `val_accuracy` or whatever else the network is measured by, `lr`), one value per epoch; scores are
            fractions, nan where not measured.
    """
    figure = Figure(figsize=(style.COLUMN, 4.2), layout="constrained")
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    (_one if len(histories) == 1 else _several)(loss, accuracy, histories)
    loss.set_ylabel("loss")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel(f"{' or '.join(dict.fromkeys(map(metric_of, histories.values())))} (%)")
    accuracy.set_xlabel("epoch")
    epochs = max(len(h["loss"]) for h in histories.values())
    accuracy.set_xlim(0, epochs + max(0.5, 0.02 * epochs))
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for ax in (loss, accuracy):
        ax.grid(color="#dddddd", linewidth=0.5)
        ax.set_axisbelow(True)
    return figure


def _one(loss: Axes, accuracy: Axes, histories: Mapping[str, History]) -> None:
    ((name, h),) = histories.items()
    loss.set_title(style.shorten(name, 40))
    terms = [k for k in h if k.startswith("loss_")]
    metric = metric_of(h)
    training, validation = {"color": style.COLOURS[0], "linestyle": "--"}, {"color": style.COLOURS[1]}
    _line(loss, h["loss"], "training", **training)
    for i, term in enumerate(terms if len(terms) > 1 else (), 2):
        colour = style.COLOURS[i % len(style.COLOURS)]
        _line(loss, h[term], f"training, {term.removeprefix('loss_')}", color=colour, linestyle=":")
    if "val_loss" in h:
        _line(loss, h["val_loss"], "validation", **validation)
    _line(accuracy, 100 * h[f"train_{metric}"], "training", **training)
    _line(accuracy, 100 * h[f"val_{metric}"], "validation", **validation)
    if f"constant_{metric}" in h:
        look = {"color": style.QUIET, "linestyle": ":"}
        _line(accuracy, 100 * h[f"constant_{metric}"], "best constant output", **look)
    _mark_drops((loss, accuracy), h, style.QUIET)
    loss.legend(loc="upper right")
    accuracy.legend(loc="lower right")


def _several(loss: Axes, accuracy: Axes, histories: Mapping[str, History]) -> None:
    for i, (name, h) in enumerate(histories.items()):
        look, metric = style.line(i), metric_of(h)
        thin = look | {"linewidth": 0.6, "alpha": 0.7}
        _line(loss, h["loss"], None if "val_loss" in h else style.shorten(name, 24), **thin)
        if "val_loss" in h:
            _line(loss, h["val_loss"], style.shorten(name, 24), **look)
        _line(accuracy, 100 * h[f"val_{metric}"], None, **look)
        _line(accuracy, 100 * h[f"train_{metric}"], None, **thin)
        _mark_drops((loss, accuracy), h, look["color"])
    loss.figure.legend(loc="outside upper center", ncols=2)
    accuracy.set_title("thick: validation, thin: training, dotted: lower learning rate", size=6.5, color=style.QUIET)


def _mark_drops(axes: Iterable[Axes], history: History, colour: str) -> None:
    """Draw dotted lines where the learning rate falls by a tenth or more; a schedule that falls steadily has none."""
    lr = history["lr"]
    for epoch in np.flatnonzero(lr[1:] < 0.9 * lr[:-1]) + 1:
        for ax in axes:
            ax.axvline(epoch + 0.5, color=colour, linewidth=0.6, linestyle=":")


def _line(ax: Axes, values: np.ndarray, label: str | None, **look: Any) -> None:
    if np.isnan(values).all():
        return
    epochs = np.arange(1, len(values) + 1)
    ax.plot(epochs, values, label=label, marker="." if len(values) < 4 else None, **look)
