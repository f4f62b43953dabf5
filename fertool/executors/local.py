"""Processes of this machine."""

from collections.abc import Callable, Generator, Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from fertool import pool
from fertool.executors.base import Executor


class LocalExecutor(Executor):
    """Worker processes on all cores and GPUs of this machine."""

    def cores(self) -> int:
        """Return the number of cores that this process may use."""
        return pool.cores()

    def gpus(self) -> list[str]:
        """Return the names of the visible GPUs, as in CUDA_VISIBLE_DEVICES.

        torch is asked only where there may be a GPU at all: importing it takes seconds.
        """
        return pool.visible_gpus() if glob("/dev/nvidia[0-9]*") + glob("/dev/dxg") else []

    def process(
        self,
        make: Callable[..., Callable[[Sequence], Iterable]],
        arguments: tuple,
        items: Iterable[Any],
        *,
        workers: int,
        chunk: int,
        gpus: Sequence[str] = (),
        paths: Sequence[Path] = (),
    ) -> Generator[tuple[Any, Any], None, None]:
        """Work on items in processes of this machine; see `Executor.process`."""
        return pool.process(make, arguments, items, workers=workers, chunk=chunk, gpus=gpus)
