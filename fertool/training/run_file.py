"""The run artefact: weights, optimiser, random state and history of a training, enough to resume exactly."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fertool import artefact
from fertool.artefact import Artefact, Parent
from fertool.errors import ArtefactError
from fertool.evaluation import summary
from fertool.training.devices import describe

#: sums over an epoch's faces that are no terms of the loss
COUNTS = ("score", "saturated", "seen")


class NotFinite(Exception):
    """The first optimiser step (counted from 1) with a value that is NaN or infinite, and those values by name."""

    def __init__(self, step: int, values: Mapping[str, float]):
        super().__init__(step, values)
        self.step, self.values = step, values


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch, step: the epoch under way and the optimiser steps done in it.
        iteration: optimiser steps done in all.
        best: highest validation score so far, or -1.
        finished: all epochs are done.
        sums: running sums of the epoch under way (loss terms, score, seen).
        unread: the same of the last steps, (names, values), still on the device.
        history: one list per column, one entry per finished epoch.
        trace: iterations, and the attention of the tracked faces at each of them.
        seconds, waited: wall time of each finished epoch, and how much of it was spent waiting for data.
    """

    epoch: int = 0
    step: int = 0
    iteration: int = 0
    best: float = -1.0
    finished: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    unread: list[tuple[tuple[str, ...], Tensor]] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    trace: dict[str, list[np.ndarray]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def end_epoch(self, seconds: float, waited: float, *, finished: bool) -> None:
        """Go on to the next epoch."""
        self.seconds.append(seconds)
        self.waited.append(waited)
        self.epoch, self.step, self.sums, self.finished = self.epoch + 1, 0, {}, finished

    def summary(self, train: Mapping) -> dict[str, Any]:
        """Return how far the run has come, see `evaluation.summary`.

        Args:
            train: settings of the training.
        """
        return summary.of_run(self.epoch, self.iteration, self.finished, self.best, self.history, train)

    def read(self) -> None:
        """Add the steps still on the device to the sums, one after the other, so that it does not matter when.

        Raises:
            NotFinite: a value of one of these steps is NaN or infinite. The values are those of all processes together,
                so it is raised in every process at the same step.
        """
        if self.unread:
            values = torch.stack([step for _, step in self.unread]).tolist()
            for number, ((names, _), step) in enumerate(zip(self.unread, values, strict=True), 1):
                if not all(map(math.isfinite, step)):
                    bad = {name: value for name, value in zip(names, step, strict=True) if not math.isfinite(value)}
                    raise NotFinite(self.iteration - len(self.unread) + number, bad)
                for name, value in zip(names, step, strict=True):
                    self.sums[name] = self.sums.get(name, 0.0) + value
            self.unread.clear()


@dataclass(frozen=True)
class RunFile:
    """Where a run is written, and what never changes while it trains.

    Attributes:
        prepared: how its faces came to be, see `training.trained.preparation`. It follows from the inputs, and is kept
            beside them, so that the run can be used where they are not.
        lineage: what the run was made from, see `training.lineage.record`.
    """

    path: Path
    params: Mapping
    inputs: tuple[Parent, ...]
    classes: tuple[str, ...]
    seed: int
    prepared: Mapping
    lineage: Mapping

    def save(
        self, net: nn.Module, optimizer: Optimizer, progress: Progress, best: Mapping[str, Tensor], scaler: Mapping
    ) -> None:
        """Replace the file by the state of now. A kill leaves the old one or the new one."""
        arrays: dict[str, np.ndarray] = {}
        for name, tensor in net.state_dict().items():
            arrays[f"weights/last/{name}"] = _array(tensor)
        for name, tensor in best.items():
            arrays[f"weights/best/{name}"] = _array(tensor)
        for name, parameter in net.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                if value is not None:
                    arrays[f"optimizer/{name}/{key}"] = _array(torch.as_tensor(value))
        for name, column in progress.history.items():
            arrays[f"history/{name}"] = np.array(column, dtype=np.float64)
        for name, rows in progress.trace.items():
            arrays[f"trace/{name}"] = np.stack(rows)
        for name, value in progress.sums.items():
            arrays[f"state/sums/{name}"] = np.array(value, dtype=np.float64)
        for name in ("epoch", "step", "iteration", "best", "finished"):
            arrays[f"state/{name}"] = np.array(getattr(progress, name))
        for name, value in scaler.items():
            arrays[f"state/scaler/{name}"] = np.array(value)
        arrays["state/rng/cpu"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            arrays["state/rng/cuda"] = torch.cuda.get_rng_state().numpy()
        info = artefact.make_info(self.seed) | {"seconds": progress.seconds, "waited": progress.waited}
        info["device"] = describe(next(net.parameters()).device)
        info |= {"prepared": self.prepared, "lineage": self.lineage, "summary": progress.summary(self.params["train"])}
        artefact.save(self.path, "run", arrays, params=self.params, inputs=self.inputs, classes=self.classes, info=info)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


def restore(run: Artefact, net: nn.Module, optimizer: Optimizer) -> tuple[Progress, dict[str, Tensor], dict]:
    """Put a saved state back into a network, its optimiser and the random generators.

    Returns:
        the progress, the best weights, and the loss scaler's state.

    Raises:
        ArtefactError: the state is that of another network, or incomplete.
    """
    try:
        return _restore(run, net, optimizer)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError) as e:  # torch's, about names, shapes and sizes
        raise ArtefactError(
            f"{run.path} holds no state to go on from: {artefact.one_line(e)[:200]}", "start again without --resume"
        ) from e


def _restore(run: Artefact, net: nn.Module, optimizer: Optimizer) -> tuple[Progress, dict[str, Tensor], dict]:
    weights = {k: torch.from_numpy(v.copy()) for k, v in run.group("weights/last").items()}
    net.load_state_dict(weights)
    for name, parameter in net.named_parameters():
        state = {k: torch.from_numpy(np.array(v)) for k, v in run.group(f"optimizer/{name}").items()}
        if state:
            alike = ((parameter.shape, parameter.dtype), ((), torch.float32))
            if other := [k for k, v in state.items() if (tuple(v.shape), v.dtype) not in alike]:
                raise ValueError(f"{other[0]} of {name} has another shape or type than {name}")
            # Adam counts its steps in a CPU tensor; everything else lives with the parameter
            optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
    torch.set_rng_state(torch.from_numpy(run["state/rng/cpu"].copy()))
    if torch.cuda.is_available() and "state/rng/cuda" in run:
        torch.cuda.set_rng_state(torch.from_numpy(run["state/rng/cuda"].copy()))
    progress = Progress(
        **{k: run[f"state/{k}"].item() for k in ("epoch", "step", "iteration", "best", "finished")},
        sums={k: v.item() for k, v in run.group("state/sums").items()},
        history={k: v.tolist() for k, v in run.group("history").items()},
        trace={k: list(v) for k, v in run.group("trace").items()},
        seconds=list(run.info.get("seconds", [])),
        waited=list(run.info.get("waited", [])),
    )
    best = {k: torch.from_numpy(v.copy()) for k, v in run.group("weights/best").items()}
    return progress, best, {k: v.item() for k, v in run.group("state/scaler").items()}
