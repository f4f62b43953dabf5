"""Progress in logs: plain lines, where no terminal can show a bar."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

#: seconds between two lines, at least
INTERVAL = 60.0


class Advance(Protocol):
    """Counts items that are done."""

    def __call__(self, n: int = 1, note: str = "") -> None:
        """Add `n` items; the note says what is shown beside them, as the loss."""


class Lines:
    """Print "epoch 3: 1,200 of 4,500, 12.3 step/s, 0:04:28 left, loss 0.532" at most once per interval.

    The rate is that since the last line. Lines come with items: work that stands still prints none.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._what, self._total, self._unit, self._write, self._clock = what, total, unit, write, clock
        self._done = self._done_before = 0
        self._printed = clock()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` items, and print a line if the last one is old enough."""
        self._done += n
        now = self._clock()
        if now - self._printed >= INTERVAL:
            self._write(self._line(now - self._printed, note))
            self._printed, self._done_before = now, self._done

    def _line(self, seconds: float, note: str) -> str:
        rate = (self._done - self._done_before) / seconds if seconds else 0.0
        parts = [f"{self._done:,}" + ("" if self._total is None else f" of {self._total:,}")]
        if rate:
            parts.append(f"{rate:.1f} {self._unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{self._unit}")
            if self._total is not None:
                parts.append(f"{timedelta(seconds=round(max(0, self._total - self._done) / rate))} left")
        return f"{self._what}: {', '.join([*parts, note] if note else parts)}"
