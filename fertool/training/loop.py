"""The training loop.

One process per device, all running this same code. Everything random is sampled from the seed, the epoch and the
position of a face in the epoch, so the number of devices changes nothing but the speed, and a run that was stopped
goes on as if it had not been.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.fabric import Fabric

from fertool import console
from fertool.artefact import Artefact
from fertool.models.base import FerModel
from fertool.settings import Train
from fertool.training.devices import on_any
from fertool.training.history import add_epoch, running, say_epoch
from fertool.training.loader import Data, Loader
from fertool.training.run_file import RunFile
from fertool.training.state import TrainState


def fit(fabric: Fabric, net: FerModel, data: Data, s: Train, run: RunFile, resume: Artefact | None) -> bool:
    """Train to the end, saving as it goes.

    Args:
        net: the network, on the CPU, with its starting weights.
        resume: a saved state of the same run to resume from.

    Returns:
        True if all epochs are done, False if it was asked to stop; the state is saved either way.

    Raises:
        DataError: there are too few faces for a single step.
        NotFiniteError: the loss, or the state that would be saved, is NaN or infinite. What was saved before stays.
    """
    loader = Loader(net, data, s, fabric.global_rank, fabric.world_size)
    state = TrainState.start(fabric, net, s, loader.steps, run, resume)
    if not state.progress.iteration:
        state.track(data)
    with stop_signal() as asked_to_stop:
        while not state.done:
            began = time.monotonic()
            waited = train_epoch(state, loader, asked_to_stop)
            if waited is None:
                return False
            add_epoch(state, loader)
            finished = state.progress.iteration >= state.total or state.out_of_patience
            state.progress.end_epoch(time.monotonic() - began, waited, finished=finished)
            state.save()
            say_epoch(state)
    return True


def train_epoch(state: TrainState, loader: Loader, asked_to_stop: Callable[[], bool]) -> float | None:
    """Train from where the epoch is to its end.

    Returns:
        seconds spent waiting for faces; None if it was asked to stop, after saving.
    """
    progress, s, saved_at, waited = state.progress, state.settings, time.monotonic(), 0.0
    first, end = progress.step, state.epoch_end
    state.net.train()
    with console.progress(f"epoch {progress.epoch + 1}", end - first, "step") as advance:
        for batch in loader.batches(progress.epoch, first, end):
            state.set_lr()
            state.forward_backward(batch)
            state.step()
            waited += batch.waited
            advance(note=running(progress))
            if progress.iteration % s.track_every == 0:
                state.track(loader.data)
            if on_any(state.fabric, asked_to_stop()):
                state.save()
                return None
            if on_any(state.fabric, time.monotonic() - saved_at > 60 * s.checkpoint_minutes):
                state.save()
                saved_at = time.monotonic()
    return waited


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question that the loop asks between steps."""
    asked: list[bool] = []
    old = {s: signal.signal(s, lambda *_: asked.append(True)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
