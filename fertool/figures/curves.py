"""Training curves of one or several runs."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fertool.figures import style

History = Mapping[str, np.ndarray]


def draw(histories: Mapping[str, History]) -> Figure:
    """Loss above accuracy, over epochs, at column width.

    One run shows its loss terms and both scores; several show their total loss and both scores in one colour
    each. Dotted vertical lines mark where the learning rate falls, of several runs in the run's colour.

    Args:
        histories: run name -> columns of its history (`loss`, `loss_<term>`, `train_accuracy`, `val_accuracy` or
            whatever else the network is measured by, `lr`), one value per epoch; scores are fractions, nan where not
            measured.
    """
    figure = Figure(figsize=(style.COLUMN, 4.2), layout="constrained")
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    (_one if len(histories) == 1 else _several)(loss, accuracy, histories)
    loss.set_ylabel("training loss")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel(f"{' or '.join(dict.fromkeys(map(_metric, histories.values())))} (%)")
    accuracy.set_xlabel("epoch")
    epochs = max(len(h["loss"]) for h in histories.values())
    accuracy.set_xlim(0, epochs + max(0.5, 0.02 * epochs))
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for ax in (loss, accuracy):
        ax.grid(color="#dddddd", linewidth=0.5)
        ax.set_axisbelow(True)
    return figure


def _metric(history: History) -> str:
    return next(k.removeprefix("val_") for k in history if k.startswith("val_"))


def _one(loss: Axes, accuracy: Axes, histories: Mapping[str, History]) -> None:
    ((name, h),) = histories.items()
    loss.set_title(style.shorten(name, 40))
    terms = [k for k in h if k.startswith("loss_")]
    _line(loss, h["loss"], "total" if terms else "loss", color=style.COLOURS[0])
    for i, term in enumerate(terms, 1):
        _line(loss, h[term], term.removeprefix("loss_"), color=style.COLOURS[i % len(style.COLOURS)], linestyle="--")
    _line(accuracy, 100 * h[f"train_{_metric(h)}"], "training", color=style.COLOURS[0], linestyle="--")
    _line(accuracy, 100 * h[f"val_{_metric(h)}"], "validation", color=style.COLOURS[1])
    if f"constant_{_metric(h)}" in h:
        look = {"color": style.QUIET, "linestyle": ":"}
        _line(accuracy, 100 * h[f"constant_{_metric(h)}"], "best constant output", **look)
    _mark_drops((loss, accuracy), h, style.QUIET)
    if terms:
        loss.legend(loc="upper right")
    accuracy.legend(loc="lower right")


def _several(loss: Axes, accuracy: Axes, histories: Mapping[str, History]) -> None:
    for i, (name, h) in enumerate(histories.items()):
        look = style.line(i)
        _line(loss, h["loss"], style.shorten(name, 24), **look)
        _line(accuracy, 100 * h[f"val_{_metric(h)}"], None, **look)
        _line(accuracy, 100 * h[f"train_{_metric(h)}"], None, **look | {"linewidth": 0.6, "alpha": 0.7})
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
