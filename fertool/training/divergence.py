"""A training that diverges is stopped at its first step that is not finite, before anything of it is saved."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor

from fertool.errors import NotFiniteError
from fertool.models.base import FerModel
from fertool.settings import Train
from fertool.training.devices import on_any
from fertool.training.run_file import COUNTS, NotFinite, Progress
from fertool.training.schedule import learning_rate


@dataclass(frozen=True)
class Watch:
    """What tells whether a training is sound, and what to say if it is not. All processes find the same.

    Attributes:
        optimizer: the network's own, not a wrapper of it.
        steps, total: optimiser steps of an epoch, and of the whole training.
        saved: where its state is saved.
    """

    fabric: Fabric
    net: FerModel
    optimizer: torch.optim.Optimizer
    settings: Train
    steps: int
    total: int
    saved: Path

    def read(self, progress: Progress) -> None:
        """Read the losses of the last steps.

        Raises:
            NotFiniteError: one of them is NaN or infinite; the message names the first such step.
        """
        try:
            progress.read()
        except NotFinite as e:
            terms = [name for name in e.values if name not in COUNTS] or list(e.values)
            what = f"the loss {' and '.join(terms)} is {e.values[terms[0]]} at step {e.step}"
            raise self._error(what, e.step) from None

    def check(self, progress: Progress) -> None:
        """Look at what would be saved.

        Raises:
            NotFiniteError: weights, or the optimiser's state, are NaN or infinite although the losses were not.
        """
        self.read(progress)
        state = [v for p in self.optimizer.state.values() for v in p.values() if isinstance(v, Tensor)]
        tensors = [t for t in (*self.net.state_dict().values(), *state) if t.is_floating_point()]
        sound = torch.stack([t.isfinite().all().to(self.fabric.device) for t in tensors]).all()
        if on_any(self.fabric, not sound):
            raise self._error(f"the weights are NaN or infinite after step {progress.iteration}", progress.iteration)

    def check_outputs(self, wrong: Tensor, progress: Progress) -> None:
        """Raise NotFiniteError if `wrong`, a count over all processes, says that outputs are NaN or infinite."""
        if wrong > 0:
            what = f"what the network predicts for validation faces is NaN or infinite after step {progress.iteration}"
            raise self._error(what, progress.iteration)

    def _error(self, what: str, step: int) -> NotFiniteError:
        s = self.settings
        rate = learning_rate(s, step - 1, self.steps, self.total)
        where = f"epoch {(step - 1) // self.steps + 1}, learning rate {rate:g}"
        kept = f"; {self.saved} holds the last sound state" if self.saved.exists() else ""
        hint = f"the learning rate is likely too high: train again with --lr {s.lr / 10:g}"
        if step == 1:
            hint += "; at the first step, the starting weights (--init) may be unsuited too"
        if s.precision != "32":
            hint += f"; or precision {s.precision} has too small a range: --precision 32"
        return NotFiniteError(f"{what} ({where}): the training has diverged{kept}", hint)
