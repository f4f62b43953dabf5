"""What runs and predictions keep of themselves in their attributes, so that many of them are listed quickly."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fertool.artefact import Artefact


def of_run(
    epochs: int, iterations: int, finished: bool, best: float, history: Mapping[str, Sequence[float]], train: Mapping
) -> dict[str, Any]:
    """Return how far a run has come.

    Args:
        epochs, iterations: done.
        finished: whether all are.
        best: highest validation score, a fraction, or -1.
        history: one value per epoch, by name.
        train: settings of the training.

    Returns:
        {"epochs", "iterations", "finished", "metric": what is measured on the validation split, "score": of the
        selected weights there, a fraction; None if they were never measured}
    """
    metric = metric_of(history)
    last = next(reversed(history.get(f"val_{metric}", ())), math.nan)
    score = float(last if train.get("select_on") == "last" else best)
    return {
        "epochs": epochs,
        "iterations": iterations,
        "finished": finished,
        "metric": metric,
        "score": score if 0 <= score <= 1 else None,
    }


def metric_of(history: Iterable[str]) -> str:
    """Return what is measured on the validation split, by the names of the columns of a history."""
    scores = (name.removeprefix("val_") for name in history if name.startswith("val_"))
    return next((name for name in scores if name != "loss" and not name.startswith("loss_")), "accuracy")


def of_run_file(run: Artefact) -> dict[str, Any]:
    """Return the same of a run that did not keep it, from its arrays."""
    history = {name: values.tolist() for name, values in run.group("history").items()}
    state = {name: run[f"state/{name}"].item() for name in ("epoch", "iteration", "finished", "best")}
    return of_run(state["epoch"], state["iteration"], state["finished"], state["best"], history, run.params["train"])


def of_predictions(label: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """Return how many predictions are right.

    Args:
        label: (N,) class indices, -1 where there is none.
        logits: (N, classes).

    Returns:
        {"accuracy": a fraction, or None without labelled faces, "faces": how many are labelled}
    """
    label = np.asarray(label)
    right = np.asarray(logits).argmax(1)[label >= 0] == label[label >= 0]
    return {"accuracy": float(right.mean()) if len(right) else None, "faces": len(right)}
