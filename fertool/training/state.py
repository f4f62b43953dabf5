"""The state of a training: network, optimiser and progress, moved on by one step after the other, and saved."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from fertool.artefact import Artefact
from fertool.errors import ArtefactError
from fertool.models.base import FerModel
from fertool.pretrained.files import require_finite
from fertool.settings import Train
from fertool.training import divergence
from fertool.training.inference import infer
from fertool.training.loader import Batch, Data
from fertool.training.run_file import Progress, RunFile, restore
from fertool.training.schedule import learning_rate

#: how many steps' losses are left on the device before they are read, because reading waits for the device
_READ_EVERY = 20


def make_optimizer(net: FerModel, s: Train) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters that are trained."""
    trained = [p for p in net.parameters() if p.requires_grad]
    if s.optimizer == "adam":
        return torch.optim.Adam(trained, lr=s.lr, weight_decay=s.weight_decay)
    if s.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=s.lr, weight_decay=s.weight_decay)
    return torch.optim.SGD(trained, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)


@dataclass
class TrainState:
    """A training under way, the same in every process.

    Attributes:
        net: the network itself, on its device.
        model: what is called: the network wrapped for several devices, precision and the compiler.
        own_optimizer: the optimiser of the network.
        optimizer: what is stepped: the same, wrapped likewise.
        steps, total: optimiser steps of an epoch, and of the whole training.
        run: where the state is saved.
        best: weights of the best validation score so far.
    """

    fabric: Fabric
    settings: Train
    net: FerModel
    model: Any
    own_optimizer: torch.optim.Optimizer
    optimizer: Any
    steps: int
    total: int
    run: RunFile
    progress: Progress
    best: dict[str, Tensor]

    @classmethod
    def start(
        cls, fabric: Fabric, net: FerModel, settings: Train, steps: int, run: RunFile, saved: Artefact | None = None
    ) -> "TrainState":
        """Set up network and optimiser on the device, with starting weights or in a saved state.

        Args:
            net: the network on the CPU, with its starting weights.
            steps: optimiser steps of an epoch.
            saved: a state of the same run to resume from.

        Raises:
            ArtefactError: the saved state is of another network, not finite, or further than these settings go.
        """
        s = settings
        layout = torch.channels_last if s.channels_last else torch.contiguous_format
        net = net.to(fabric.device).to(memory_format=layout)
        own = make_optimizer(net, s)
        compiled: Any = torch.compile(net) if s.compile else net
        model, optimizer = fabric.setup(compiled, own)
        total = s.iterations or max(1, round(s.epochs * steps))
        state = cls(fabric, s, net, model, own, optimizer, steps, total, run, Progress(), {})
        if saved:
            state._restore(saved)
        return state

    def _restore(self, saved: Artefact) -> None:
        self.progress, self.best, scaling = restore(saved, self.net, self.own_optimizer)
        if self.scaler and scaling:
            self.scaler.load_state_dict(scaling)
        progress = self.progress
        if progress.iteration > self.total or (progress.finished and progress.iteration == self.total):
            raise ArtefactError(
                f"{saved.path} has done {progress.iteration} steps already, and these settings ask for {self.total}",
                "ask for more epochs or iterations, or start again without --resume",
            )
        if progress.finished and progress.iteration % self.steps:
            raise ArtefactError(
                f"{saved.path} ended inside an epoch ({progress.iteration % self.steps} of {self.steps} steps), which "
                "is closed now",
                "start again without --resume",
            )
        require_finite(self.net.state_dict(), str(saved.path))

    @property
    def scaler(self) -> Any:
        """Return the loss scaler of 16-bit precision, None without."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    @property
    def done(self) -> bool:
        """Return whether all is done; stopped after the very last step, a training has yet to end its epoch."""
        return not self.progress.step and (self.progress.iteration >= self.total or self.out_of_patience)

    @property
    def out_of_patience(self) -> bool:
        """Return whether the validation measure has not improved for too many epochs. It follows from the history."""
        s = self.settings
        if not s.patience:
            return False
        column = "val_loss" if s.patience_on == "loss" else f"val_{self.net.metric}"
        values = np.array(self.progress.history.get(column, ()))
        values = np.where(np.isnan(values), -np.inf, -values if s.patience_on == "loss" else values)
        return len(values) > 0 and len(values) - 1 - int(values.argmax()) >= s.patience

    @property
    def epoch_end(self) -> int:
        """Return the step before which the epoch under way ends."""
        return min(self.steps, self.progress.step + self.total - self.progress.iteration)

    @property
    def lr(self) -> float:
        """Return the learning rate of the step to come."""
        return learning_rate(self.settings, self.progress.iteration, self.steps, self.total)

    def set_lr(self) -> None:
        """Give the optimiser the learning rate of the step to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def forward_backward(self, batch: Batch) -> None:
        """Add up the gradients of a batch, and keep its losses and scores.

        They are sums over faces: each loss term, "score", for networks with gates "saturated", and "seen".
        """
        totals: Tensor | None = None
        names: tuple[str, ...] = ()
        for i, (views, targets, weight) in enumerate(batch.views(self.net)):
            last = i == batch.pieces - 1
            with nullcontext() if last else self.fabric.no_backward_sync(self.model):
                output = self.model(views)
                terms = self.net.losses(output, targets)
                self.fabric.backward(cast(Tensor, sum(terms.values())) * weight)
            score, saturated = self.net.score(output, targets).detach().float(), self.net.saturation(output)
            n = len(score)
            sums = {k: t.detach().float() * n for k, t in terms.items()} | {"score": score.sum()}
            sums |= {} if saturated is None else {"saturated": saturated.sum()}
            sums["seen"] = score.new_tensor(n)
            counted = torch.stack(list(sums.values()))
            totals, names = counted if totals is None else totals + counted, tuple(sums)
        summed = cast(Tensor, self.fabric.all_reduce(cast(Tensor, totals), reduce_op="sum"))
        self.progress.unread.append((names, summed))

    def step(self) -> None:
        """Step the optimiser, and read the losses now and then.

        Raises:
            NotFiniteError: a loss is NaN or infinite. What was saved before stays.
        """
        if norm := self.settings.clip_norm:  # a gradient that is not finite is found by its loss or its weights
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step, self.progress.iteration = self.progress.step + 1, self.progress.iteration + 1
        if len(self.progress.unread) >= _READ_EVERY or self.fabric.device.type == "cpu":
            divergence.read_losses(self)

    def save(self) -> None:
        """Save everything that the training needs to resume exactly.

        Raises:
            NotFiniteError: the state is NaN or infinite. What was saved before stays.
        """
        divergence.check_state(self)
        if self.fabric.is_global_zero:
            scaling = self.scaler.state_dict() if self.scaler else {}
            self.run.save(self.net, self.own_optimizer, self.progress, self.best, scaling)
        self.fabric.barrier()

    def track(self, data: Data) -> None:
        """Keep the attention that the tracked faces get at this moment."""
        if not len(data.tracked):
            return
        found: dict[str, list[Tensor]] = {}
        with self.fabric.autocast():
            batch = self.settings.global_batch
            for _, output in infer(self.net, self.net, data.pixels, data.boxes, data.tracked, batch):
                for name, values in output.attention.items():
                    found.setdefault(name, []).append(values.float().cpu())
        self.net.train()
        trace = self.progress.trace
        trace.setdefault("iteration", []).append(np.array(self.progress.iteration))
        for name, parts in found.items():
            trace.setdefault(name, []).append(torch.cat(parts).numpy())
