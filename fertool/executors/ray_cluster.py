"""Workers on a Ray cluster: actors that hold models, bounded work in flight, lost workers replaced.

Ray is the extra `cluster`. A chunk whose worker is lost is given whole to another one, so that results depend on their
chunk alone and equal those of a local run. Every result reaches the driver, which is the only writer.
"""

import logging
import os
import pickle
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from fertool import console
from fertool.errors import DeviceError, UsageError
from fertool.executors.base import Executor
from fertool.executors.ray_worker import Setup, Worker
from fertool.plugins.sources import VARIABLES
from fertool.pool import WorkerDied

_AHEAD = 2  # chunks a worker has: it works on one while the results of the other travel
_PATIENCE = 30.0  # seconds without a free worker after which this is printed
_ATTEMPTS = 2  # deaths at the same items after which they are to blame
_BUSY = 0.5  # share of the time the writer works above which more workers do not help
_CONNECT = 5.0  # seconds


class RayExecutor(Executor):
    """Actors on a cluster.

    Args:
        address: HOST:PORT, or ray://HOST:PORT; None: a cluster that runs on this machine (or RAY_ADDRESS), else a new
            one on its cores and GPUs, which ends with this process.

    Methods raise:
        UsageError: an address that is none.
        DeviceError: Ray is not installed, nothing listens at the address, or the cluster has other versions.
    """

    def __init__(self, address: str | None = None):
        self._address = address

    @cached_property
    def _ray(self) -> Any:
        """The module ray, connected when the first worker is needed."""
        return _connect(self._address)

    def cores(self) -> int:
        """Return the number of cores of all nodes."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def gpus(self) -> list[str]:
        """Return a name for each GPU of the cluster; Ray decides which worker sees which."""
        return [str(i) for i in range(int(self._ray.cluster_resources().get("GPU", 0)))]

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
        """Work on items in actors of the cluster; see `Executor.process`."""
        environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        setup = Setup(pickle.dumps((make, arguments)), paths=tuple(paths), environment=environment)
        source = iter(items)
        chunks = iter(lambda: list(islice(source, chunk)), [])
        share = int(1000 * len(gpus) / workers) / 1000 if gpus else 0  # rounded down: all workers have to fit
        crew = _Crew(self._ray, setup, workers, min(1.0, share), map(_Chunk, chunks))
        began, writing = time.monotonic(), 0.0
        try:
            for item, result in crew.results():
                given = time.monotonic()
                yield item, result
                writing += time.monotonic() - given
            crew.report(writing / max(time.monotonic() - began, 1e-9))
        finally:
            crew.end()


def _connect(address: str | None) -> Any:
    """Return the module ray, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise DeviceError("Ray is not installed", "run: pip install 'fertool[cluster]'") from None
    if ray.is_initialized():
        return ray
    if address:
        _knock(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())
        where = f"the cluster at {address}" if address else "a Ray cluster on this machine"
        hint = "all nodes need the same versions of Ray and Python, and RAY_AUTH_MODE=token if the cluster has a token"
        raise DeviceError(f"{where} cannot be used: {line}", hint) from error
    # Ray prints deaths of workers on stdout even so, where --json prints; they are reported by their exceptions
    ray._private.worker._worker_logs_enabled = False
    return ray


def _knock(address: str) -> None:
    """Raise unless something listens at an address."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError(f"{address} is no address of a cluster", "write HOST:PORT, e.g. 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), _CONNECT).close()
    except OSError as error:
        problem = f"nothing listens at {address}: {error.strerror or error}"
        raise DeviceError(problem, "start a cluster on its first node with ray start, and name its address") from None


@dataclass
class _Chunk:
    """Items that share a worker.

    Attributes:
        yielded: number of results that have reached the driver.
        deaths: hosts of the workers that died at it.
    """

    items: list
    yielded: int = 0
    deaths: list[str] = field(default_factory=list)


@dataclass
class _Actor:
    """A worker: its handle, its host once it is ready, and the chunks it has, with the results that come of them."""

    handle: Any
    ready: Any
    host: str = ""
    node: str = ""
    given: deque = field(default_factory=deque)

    @property
    def next(self) -> Any:
        """What its next answer comes from."""
        return self.given[0][1] if self.host else self.ready


class _Crew:
    """The actors of one call of `process`, and the work that is left."""

    def __init__(self, ray: Any, setup: Setup, workers: int, gpu_share: float, chunks: Iterator[_Chunk]):
        self._ray, self._chunks, self._again = ray, chunks, deque[_Chunk]()
        self._setup = ray.put(setup)
        self._type = ray.remote(Worker).options(num_cpus=1, num_gpus=gpu_share, max_restarts=0, max_task_retries=0)
        self._workers, self._started, self._lost, self._stillborn = workers, 0, 0, 0
        self._nodes: set[str] = set()
        self._actors: list[_Actor] = []

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (item, result)."""
        if first := self._take():
            self._again.append(first)
        else:
            return
        self._actors = [self._start() for _ in range(self._workers)]
        said = False
        while waiting := {a.next: a for a in self._actors if a.given or not a.host}:
            if not self._again and not any(a.given for a in self._actors) and not self._refill():
                return  # what is left to be ready is not needed
            came, _ = self._ray.wait(list(waiting), num_returns=1, timeout=_PATIENCE)
            if not came and not said and not any(a.host for a in self._actors):
                console.say(f"waiting for free cores or GPUs in the cluster: {len(self._actors)} workers asked for")
                said = True
            for reference in came:
                yield from self._answer(waiting[reference])

    def _take(self) -> _Chunk | None:
        return self._again.popleft() if self._again else next(self._chunks, None)

    def _refill(self) -> bool:
        """Look whether there is another chunk, and keep it."""
        if chunk := self._take():
            self._again.append(chunk)
        return chunk is not None

    def _start(self) -> _Actor:
        handle = self._type.remote()
        return _Actor(handle, handle.prepare.remote(self._setup))

    def _answer(self, actor: _Actor) -> Iterator[tuple[Any, Any]]:
        """Take in what an actor says: that it is ready, a result, that a chunk is done, or its death."""
        try:
            if not actor.host:
                kind, value = self._ray.get(actor.ready)
            else:
                kind, value = self._ray.get(next(actor.given[0][1]))
        except StopIteration:
            actor.given.popleft()
            self._give(actor)
            return
        except self._ray.exceptions.RayError as error:
            self._replace(actor, error)
            return
        if kind == "failed":
            raise value
        if kind == "ready":
            actor.node, actor.host = value
            self._nodes.add(actor.node)
            self._started += 1
            self._give(actor)
            return
        chunk, _, skipped = actor.given[0]
        if skipped:
            actor.given[0] = (*actor.given[0][:2], skipped - 1)
            return
        item = chunk.items[chunk.yielded]
        chunk.yielded += 1
        yield item, value

    def _give(self, actor: _Actor) -> None:
        """Fill an actor's queue."""
        while len(actor.given) < _AHEAD and (chunk := self._take()):
            options: dict[str, Any] = {"num_returns": "streaming"}
            if chunk.deaths:  # every result is fetched before the next item begins: the item to blame will be known
                options["_generator_backpressure_num_objects"] = 1
            actor.given.append((chunk, actor.handle.run.options(**options).remote(chunk.items), chunk.yielded))

    def _replace(self, actor: _Actor, error: Exception) -> None:
        """Give the chunks of a lost actor back, and start another.

        Raises:
            WorkerDied: a worker died at the same chunk before.
            DeviceError: workers die before they begin.
        """
        self._lost += 1
        self._actors.remove(actor)
        with_node = not self._alive(actor) or "node has died" in str(error)
        if not actor.host and not with_node:
            self._stillborn += 1
            if self._stillborn > self._workers:
                raise DeviceError(f"workers on the cluster end before they begin: {_line(error)}", _INSTALL)
        if actor.given and not with_node:
            chunk = actor.given[0][0]
            chunk.deaths.append(actor.host)
            if len(chunk.deaths) == _ATTEMPTS:
                no_memory = isinstance(error, self._ray.exceptions.OutOfMemoryError)
                raise WorkerDied(chunk.items[chunk.yielded :], f"twice, on {' and '.join(chunk.deaths)}", no_memory)
        self._again.extendleft(chunk for chunk, *_ in reversed(actor.given))
        self._actors.append(self._start())

    def _alive(self, actor: _Actor) -> bool:
        return not actor.node or any(n["NodeID"] == actor.node and n["Alive"] for n in self._ray.nodes())

    def report(self, writing: float) -> None:
        """Print what was used, the writer's share of the time, and the losses."""
        nodes = f"{len(self._nodes)} node{'s' * (len(self._nodes) != 1)}"
        limit = "; more workers will not make it faster" if writing > _BUSY else ""
        console.say(f"ray: {self._started} workers on {nodes}, writing took {writing:.0%} of the time{limit}")
        if self._lost:
            lost = "1 worker was" if self._lost == 1 else f"{self._lost} workers were"
            console.say(f"note: {lost} lost; others did the work again")

    def end(self) -> None:
        """Kill all actors."""
        for actor in self._actors:
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(actor.handle)


_INSTALL = "install the same version on every node; Ray's logs, in /tmp/ray of the nodes, say more"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
