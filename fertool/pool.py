"""Worker processes for row-by-row work: results as they come, bounded queues, and a name for what killed a worker."""

import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any

#: what numpy's libraries ask for the number of their threads. Workers share the cores already: threads of theirs only
#: wait for one another, which made the head pose five times as dear
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def stoppable() -> Iterator[None]:
    """A SIGTERM ends the work as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class WorkerDied(Exception):
    """A worker ended without an answer.

    Attributes:
        items: what it had been given and not answered, in order; it died at the first, or at one soon after it
            where items are worked on together.
        how: "signal 9, SIGKILL" or "exit code 1".
    """

    def __init__(self, items: Sequence, how: str):
        super().__init__(how)
        self.items, self.how = items, how


@dataclass
class _Worker:
    process: mp.Process
    pipe: Connection
    unanswered: deque = field(default_factory=deque)

    def give(self, items: list) -> None:
        """Only to a worker that waits for more: then neither side can block the other with a full pipe."""
        self.unanswered.extend(items)
        try:
            self.pipe.send(items)
        except OSError:
            raise self.death() from None

    def death(self) -> WorkerDied:
        self.process.join(timeout=5)
        code = self.process.exitcode
        how = f"signal {-code}, {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return WorkerDied(list(self.unanswered), how)


def process(
    make: Callable[..., Callable[[Sequence], Iterable]],
    arguments: tuple,
    items: Iterable[Any],
    *,
    workers: int,
    chunk: int,
) -> Iterator[tuple[Any, Any]]:
    """Work on items in processes of their own.

    Every worker calls `make(*arguments)` once; what comes back takes a list of items and gives one result for each,
    in order. A worker has one chunk at a time, so memory does not grow with the number of items.
    Processes are spawned: nothing of the parent's threads or GPU leaks into them, and they end when it does.

    Args:
        make: a function at the top of a module; also `arguments`, items and results must be picklable.
        chunk: how many items a worker is given at once.

    Yields:
        (item, result), in the order in which workers finish.

    Raises:
        WorkerDied: a worker was killed or left.
        Exception: whatever `make` or its function raised in a worker.
    """
    context = mp.get_context("spawn")
    source = iter(items)
    team: dict[Connection, _Worker] = {}
    try:
        for _ in range(workers):
            given = list(islice(source, chunk))
            if not given:
                break
            worker = _hire(context, make, arguments)
            team[worker.pipe] = worker
            worker.give(given)
        busy = set(team)
        while busy:
            for pipe in wait(busy):
                worker = team[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    raise worker.death() from None
                if kind == "failed":
                    raise value
                if kind == "result":
                    yield worker.unanswered.popleft(), value
                elif given := list(islice(source, chunk)):
                    worker.give(given)
                else:
                    busy.remove(pipe)
    finally:
        for worker in team.values():
            worker.process.terminate()
        for worker in team.values():
            worker.process.join()
            worker.pipe.close()


def _hire(context, make: Callable, arguments: tuple) -> _Worker:
    here, there = context.Pipe()
    worker = _Worker(context.Process(target=_work, args=(there, make, arguments), daemon=True), here)
    # Ctrl-C reaches the whole group: the parent decides what becomes of its workers
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    unset = [name for name in _THREADS if name not in os.environ]
    try:
        os.environ.update(dict.fromkeys(unset, "1"))
        worker.process.start()
    finally:
        for name in unset:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    there.close()
    return worker


def _work(pipe: Connection, make: Callable, arguments: tuple) -> None:
    try:
        work = make(*arguments)
        while True:
            items = pipe.recv()
            for result in work(items):
                pipe.send(("result", result))
            pipe.send(("done", None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception as e:
        e.add_note(traceback.format_exc())
        pipe.send(("failed", e))
