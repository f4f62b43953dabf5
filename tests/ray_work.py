"""What workers of a Ray cluster do in tests."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fertool.errors import DataError


def double(log: Path, workers: int = 1) -> Callable[[Sequence[int]], Iterator[int]]:
    """Return a function that doubles numbers and logs by which process, once so many processes have begun."""

    def work(items: Sequence[int]) -> Iterator[int]:
        for item in items:
            with open(log, "a", encoding="ascii") as file:
                file.write(f"{os.getpid()} {item}\n")
            while len({line.split()[0] for line in log.read_text("ascii").splitlines()}) < workers:
                time.sleep(0.05)
            yield 2 * item

    return work


def deadly(at: int, times: int, deaths: Path) -> Callable[[Sequence[int]], Iterator[int]]:
    """Return a function whose process is killed at an item, so many times."""

    def work(items: Sequence[int]) -> Iterator[int]:
        for item in items:
            if item == at and len(list(deaths.iterdir())) < times:
                (deaths / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield 2 * item

    return work


def refusing(folder: Path) -> Callable[[Sequence[int]], Iterator[int]]:
    """Return a function that raises at 3, or raise at once where there is no folder."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not there", "make it")

    def work(items: Sequence[int]) -> Iterator[int]:
        for item in items:
            if item == 3:
                raise OSError(2, "no such file", str(folder / "3"))
            yield 2 * item

    return work
