"""What a stage asks of an executor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any


class Executor(ABC):
    """Workers that hold models and work on items row by row, for one writer: the process that iterates."""

    @abstractmethod
    def cores(self) -> int:
        """Return the number of cores that workers may use."""

    @abstractmethod
    def gpus(self) -> list[str]:
        """Return the names of the GPUs that workers may use; empty if there are none."""

    @abstractmethod
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
        """Work on items in several processes.

        `make(*arguments)` gives a function that takes a list of items and yields one result for each, in order. Chunks
        are cut from the items in order, whatever the number of workers: an item always shares its chunk with the same
        others. A worker has at most two chunks at a time, so memory does not grow with the number of items.

        Args:
            make: a function at the top of a module; `arguments`, items and results must be picklable.
            arguments: of `make`.
            items: read lazily.
            workers: number of processes.
            chunk: number of items that a worker is given at once.
            gpus: names of the GPUs that the workers share; each worker sees one of them.
            paths: files and folders that every worker reads.

        Yields:
            (item, result), in the order in which workers finish.

        Raises:
            WorkerDied: a worker was killed or left; on a cluster, twice at the same items.
            Exception: whatever `make` or its function raised in a worker.
        """
