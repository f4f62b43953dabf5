"""Cross-validation: one run per fold, one after the other, or on several devices at once, a fold on each."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from fertool import console
from fertool.errors import DeviceError, FertoolError, Stopped, out_of_memory
from fertool.launch import launch
from fertool.settings import Train
from fertool.stages import train
from fertool.training.devices import Devices


def run(faces: Path, each: list[Train], *, devices: Devices, **options: Any) -> list[Path]:
    """Train with each of some settings; what is there is not trained again.

    A fold depends on no other, so several devices take a fold each instead of sharing every step.

    Args:
        each: the settings of every fold, see `train.each_fold`.
        options: as for `train.run`, the same for all.

    Returns:
        the run.h5 files, in the order of the settings.

    Raises:
        FertoolError: what went wrong in one of the folds; the others under way have saved their state.
        Stopped: Ctrl-C or SIGTERM, after every fold under way has saved its state.
    """
    if len(each) == 1 or devices.count == 1 or devices.nodes > 1 or launch():
        return [_told(train.run(faces, settings=one, devices=devices, **options)) for one in each]
    many = min(devices.count, len(each))
    console.say(f"{len(each)} folds, {many} at once, each on a {devices.kind} of its own")
    made: dict[int, Path] = {}
    todo, free = list(range(len(each))), list(range(many))
    under_way: list[_Fold] = []
    with _stopping(under_way):
        while todo or under_way:
            while todo and free:
                number, device = todo.pop(0), free.pop(0)
                under_way.append(_begin(number, device, faces, each[number], replace(devices, count=1), many, options))
            ready = wait([f.answer for f in under_way])
            for fold in [f for f in under_way if f.answer in ready]:
                under_way.remove(fold)
                free.append(fold.device)
                console.say(f"\nfold {each[fold.number].fold}")
                made[fold.number] = _told(fold.result())
    return [made[i] for i in range(len(each))]


def _told(made: Path) -> Path:
    train.report(train.summary(made))
    console.say(f"→ {made}")
    return made


@dataclass
class _Fold:
    """A fold under way: its process, the device it is on, and where its answer comes from."""

    number: int
    device: int
    process: BaseProcess
    answer: Connection

    def result(self) -> Path:
        """Return its run.h5; raises what it raised."""
        try:
            made = self.answer.recv()
        except EOFError:
            self.process.join()
            raise DeviceError(
                f"a training process ended with code {self.process.exitcode}",
                "the machine may be short of memory; if the run has saved its state, --resume goes on",
            ) from None
        self.process.join()
        if isinstance(made, BaseException):
            raise made
        return made


def _begin(number: int, device: int, faces: Path, settings: Train, devices: Devices, many: int, options: dict) -> _Fold:
    spawn = multiprocessing.get_context("spawn")
    answer, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(theirs, device, many, faces, settings, devices, options))
    process.start()
    theirs.close()
    return _Fold(number, device, process, answer)


def _work(
    answer: Connection, device: int, many: int, faces: Path, settings: Train, devices: Devices, options: dict
) -> None:
    """Train one fold in a process of its own, which leaves printing to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes Ctrl-C on, as SIGTERM
    console.configure(quiet=True)
    if devices.kind == "cuda":
        known = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = known.split(",")[device] if known else str(device)
    else:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // many))
    try:
        answer.send(train.run(faces, settings=settings, devices=devices, **options))
    except Exception as e:
        if not (told := out_of_memory(e) or (e if isinstance(e, FertoolError) else None)):
            raise
        answer.send(told)


@contextmanager
def _stopping(under_way: list[_Fold]) -> Iterator[None]:
    """End all folds under way with whatever ends the training, and wait until they have saved themselves."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; every fold under way is saved", "the same command with --resume goes on") from None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        for fold in under_way:
            fold.process.terminate()
        for fold in under_way:
            fold.process.join()
