"""Stop a training that diverges at its first step that is not finite, before anything of it is saved.

All processes come to the same result.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fertool.errors import NotFiniteError
from fertool.training.devices import on_any
from fertool.training.run_file import COUNTS, NotFinite
from fertool.training.schedule import learning_rate

if TYPE_CHECKING:
    from fertool.training.state import TrainState


def read_losses(state: "TrainState") -> None:
    """Read the losses of the last steps.

    Raises:
        NotFiniteError: one of them is NaN or infinite; the message names the first such step.
    """
    try:
        state.progress.read()
    except NotFinite as e:
        terms = [name for name in e.values if name not in COUNTS] or list(e.values)
        what = f"the loss {' and '.join(terms)} is {e.values[terms[0]]} at step {e.step}"
        raise _error(state, what, e.step) from None


def check_state(state: "TrainState") -> None:
    """Check what would be saved.

    Raises:
        NotFiniteError: weights, or the optimiser's state, are NaN or infinite although the losses were not.
    """
    read_losses(state)
    moments = [v for p in state.own_optimizer.state.values() for v in p.values() if isinstance(v, Tensor)]
    tensors = [t for t in (*state.net.state_dict().values(), *moments) if t.is_floating_point()]
    sound = torch.stack([t.isfinite().all().to(state.fabric.device) for t in tensors]).all()
    if on_any(state.fabric, not sound):
        step = state.progress.iteration
        raise _error(state, f"the weights are NaN or infinite after step {step}", step)


def check_outputs(state: "TrainState", wrong: Tensor) -> None:
    """Check what the network gives for validation faces.

    Args:
        wrong: how many outputs or losses of all processes are NaN or infinite.

    Raises:
        NotFiniteError: some are.
    """
    if wrong > 0:
        step = state.progress.iteration
        what = (
            f"what the network predicts for validation faces, or its loss there, is NaN or infinite after step {step}"
        )
        raise _error(state, what, step)


def _error(state: "TrainState", what: str, step: int) -> NotFiniteError:
    s, saved = state.settings, state.run.path
    rate = learning_rate(s, step - 1, state.steps, state.total)
    where = f"epoch {(step - 1) // state.steps + 1}, learning rate {rate:g}"
    kept = f"; {saved} holds the last sound state" if saved.exists() else ""
    hint = f"the learning rate is likely too high: train again with --lr {s.lr / 10:g}"
    if step == 1:
        hint += "; at the first step, the starting weights (--init) may be unsuited too"
    if s.precision != "32":
        hint += f"; or precision {s.precision} has too small a range: --precision 32"
    return NotFiniteError(f"{what} ({where}): the training has diverged{kept}", hint)
