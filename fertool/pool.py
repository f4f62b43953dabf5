"""Worker processes for row-by-row work: results as they come, bounded queues, and a name for what killed a worker."""

import atexit
import multiprocessing as mp
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fertool.errors import DataError, FertoolError, OutOfMemoryError

#: what numpy's libraries ask for the number of their threads. Workers share the cores already: threads of theirs only
#: wait for one another, which made the head pose five times as dear
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MASKS = hasattr(signal, "pthread_sigmask")  # Windows knows no masks, and no fork; what macOS has loaded survives none
_FORKS = hasattr(os, "fork") and sys.platform != "darwin"


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the names of the GPUs this process may use, as in CUDA_VISIBLE_DEVICES. Import torch for that."""
    import torch

    count, names = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in names.split(",")][:count] if names else [str(i) for i in range(count)]


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class WorkerDied(DataError):
    """A worker ended without an answer. Out of memory is exit code 5.

    Attributes:
        items: what it had been given and not answered, in order; it died at the first, or at one soon after it
            where items are worked on together.
        how: "signal 9, SIGKILL" or "exit code 1".
        out_of_memory: whether the kernel killed a process for want of memory meanwhile.
    """

    def __init__(self, items: Sequence, how: str, out_of_memory: bool = False):
        super().__init__(
            f"a worker process ended ({how}){', for want of memory' * out_of_memory}",
            "run the same command again; close other programs if memory ran out",
        )
        self.exit_code = OutOfMemoryError.exit_code if out_of_memory else DataError.exit_code
        self.items, self.how, self.out_of_memory = items, how, out_of_memory

    def named(self, items: str, hint: str) -> FertoolError:
        """Return the same error with the names of the items, and a hint of the stage's own."""
        kind = OutOfMemoryError if self.out_of_memory else DataError
        return kind(f"{self.message}, at {items}", hint)


def process(
    make: Callable[..., Callable[[Sequence], Iterable]],
    arguments: tuple,
    items: Iterable[Any],
    *,
    workers: int,
    chunk: int,
    gpus: Sequence[str] = (),
) -> Generator[tuple[Any, Any], None, None]:
    """Work on items in processes of their own.

    `make(*arguments)` gives a function that takes a list of items and gives one result for each, in order. A worker
    has one chunk at a time, so memory does not grow with the number of items. Chunks are cut from the items in order,
    whatever the number of workers: an item always shares its chunk with the same others.
    All workers are forked by one spawned process, which imports libraries and calls `make` for all of them: nothing
    of the parent's threads or GPU leaks into them, starting many costs little more than starting one, and they end
    when the parent does.

    Args:
        make: a function at the top of a module; also `arguments`, items and results must be picklable.
        chunk: how many items a worker is given at once.
        gpus: names of GPUs, as in CUDA_VISIBLE_DEVICES, that the workers share: each sees one of them, in turn, and
            calls `make` for itself, because a network on a GPU survives no fork.

    Yields:
        (item, result), in the order in which workers finish.

    Raises:
        WorkerDied: a worker was killed or left.
        Exception: whatever `make` or its function raised in a worker.
    """
    source = iter(items)
    chunks = iter(lambda: list(islice(source, chunk)), [])
    first = list(islice(chunks, workers))
    if not first:
        return
    crew = None
    try:
        with _undisturbed():
            crew = _Crew(len(first), make, arguments, gpus)
        for pipe, given in zip(crew.unanswered, first, strict=True):
            crew.give(pipe, given)
        busy = set(crew.unanswered)
        while busy:
            ready = wait([crew.control, *busy])
            if ready == [crew.control]:  # results that came before a death are yielded first; a dead worker's pipe ends
                crew.hear()
                continue
            for pipe in (p for p in crew.unanswered if p in ready):
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    raise crew.death(pipe) from None
                if kind == "failed":
                    raise value
                if kind == "result":
                    yield crew.unanswered[pipe].popleft(), value
                elif given := next(chunks, []):
                    crew.give(pipe, given)
                else:
                    busy.remove(pipe)
    finally:
        if crew is not None:
            crew.end()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM to the end of the block.

    Processes started inside never receive them: their parent ends them.
    """
    # Python 3.11's resource tracker unblocks SIGINT when it starts: it has to run already
    if _MASKS:
        resource_tracker.ensure_running()
    came: list[int] = []
    # a mask is inherited, but another thread may receive the signal, and then handlers run all the same
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {s: signal.signal(s, lambda number, _: came.append(number)) for s in _SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS) if _MASKS else ()
    try:
        yield
    finally:
        if _MASKS:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)  # what waited calls a handler that notes it
        for caught, handler in handlers.items():
            signal.signal(caught, handler)
        for number in came[:1]:
            signal.raise_signal(number)


class _Crew:
    """Workers and the process that forks them.

    Attributes:
        control: what the forking process says: ("ready", None), ("failed", exception), ("ended", (worker, exit code)).
        unanswered: of each worker, by its pipe, the items it was given and has not answered.
    """

    def __init__(self, count: int, make: Callable, arguments: tuple, gpus: Sequence[str]):
        context = mp.get_context("spawn")
        self.control, theirs = context.Pipe()
        pipes = [context.Pipe() for _ in range(count)]
        self.unanswered: dict[Connection, deque] = {mine: deque() for mine, _ in pipes}
        self._ready = False
        self._killed_before = _killed_for_memory()
        ends = [end for _, end in pipes]
        self._leader = context.Process(target=_lead, args=(theirs, ends, make, arguments, gpus))
        unset = [name for name in _THREADS if name not in os.environ]
        try:
            os.environ.update(dict.fromkeys(unset, "1"))
            self._leader.start()
        finally:
            for name in unset:
                del os.environ[name]
            for end in (theirs, *ends):
                end.close()
        atexit.register(self.control.close)  # or multiprocessing would wait for it for ever

    def give(self, pipe: Connection, items: list) -> None:
        """Give items to a worker that waits for more: then neither side can block the other with a full pipe."""
        self.unanswered[pipe].extend(items)
        try:
            pipe.send(items)
        except OSError:
            raise self.death(pipe) from None

    def hear(self) -> None:
        """Take in what the forking process says.

        Raises:
            WorkerDied: it is gone, or a worker is.
            Exception: what `make` raised.
        """
        try:
            kind, value = self.control.recv()
        except (EOFError, OSError):
            self._leader.join()
            first = next(iter(self.unanswered.values()))
            raise self._died(first, self._leader.exitcode) from None
        if kind == "failed":
            raise value
        if kind == "ready":
            self._ready = True
        else:
            worker, code = value
            pipe = list(self.unanswered)[worker]
            while pipe.poll():  # what it still said before it ended
                try:
                    said, error = pipe.recv()
                except (EOFError, OSError):
                    break
                if said == "failed":
                    raise error
                if said == "result":
                    self.unanswered[pipe].popleft()
            raise self._died(self.unanswered[pipe], code)

    def death(self, pipe: Connection) -> WorkerDied:
        """Return why a worker no longer answers."""
        try:
            while self.control.poll(5):
                self.hear()
        except WorkerDied as e:
            return e
        return WorkerDied(list(self.unanswered[pipe]), "for an unknown reason")

    def _died(self, items: Iterable, code: int | None) -> WorkerDied:
        how = f"signal {-code}, {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return WorkerDied(list(items), how, how.endswith("SIGKILL") and _killed_for_memory() > self._killed_before)

    def end(self) -> None:
        """End all processes."""
        atexit.unregister(self.control.close)
        if not self._ready and not self.control.poll():
            self._leader.kill()  # it is importing, and would hear nothing for seconds
        self.control.close()
        for pipe in self.unanswered:
            pipe.close()
        self._leader.join()


def _killed_for_memory() -> int:
    """Return how many processes this machine's kernel has killed for want of memory."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _lead(control: Connection, pipes: list[Connection], make: Callable, arguments: tuple, gpus: Sequence[str]) -> None:
    """Make the work, fork a worker for each pipe, and tell of those that end, until the parent is gone."""
    _ignore_interrupts()
    context: Any = mp.get_context("fork" if _FORKS else "spawn")
    work = None
    if _FORKS and not gpus:
        try:
            work = make(*arguments)
        except Exception as e:
            _tell(control, e)
            return
    workers: list[BaseProcess] = []
    try:
        for i, own in enumerate(pipes):
            if gpus:  # inherited; CUDA reads it at its first use, which is the worker's
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
            others = [control, *(pipe for pipe in pipes if pipe is not own)] if _FORKS else []
            worker: BaseProcess = context.Process(target=_work, args=(own, others, work, make, arguments))
            worker.start()
            workers.append(worker)
        for pipe in pipes:
            pipe.close()
        control.send(("ready", None))
        running = {worker.sentinel: i for i, worker in enumerate(workers)}
        while control not in (ended := wait([control, *running])):
            for sentinel in (s for s in ended if isinstance(s, int)):
                i = running.pop(sentinel)
                workers[i].join()
                control.send(("ended", (i, workers[i].exitcode)))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    except Exception as e:  # no process could be forked
        _tell(control, e)
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


def _work(pipe: Connection, others: list[Connection], work: Callable | None, make: Callable, arguments: tuple) -> None:
    _ignore_interrupts()
    for other in others:
        other.close()
    try:
        work = work or make(*arguments)
        while True:
            items = pipe.recv()
            for result in work(items):
                pipe.send(("result", result))
            pipe.send(("done", None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception as e:
        _tell(pipe, e)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, where no inherited mask keeps it away."""
    if not _MASKS:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _tell(pipe: Connection, e: Exception) -> None:
    """Send an exception home, where it was raised with it."""
    e.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(e))
    except Exception:
        e = RuntimeError(f"{type(e).__name__}: {e}")
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(("failed", e))
