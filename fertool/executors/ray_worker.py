"""The process on a node of a Ray cluster that holds a model and works on chunks of items."""

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fertool
from fertool.errors import DataError, DeviceError, FertoolError

_SHARED = "images and models have to lie where every node sees them at the same path"


@dataclass(frozen=True)
class Setup:
    """What a worker is made from.

    Attributes:
        work: the pickled (make, arguments).
        host: name of the driver's machine.
        folder: the driver's working folder.
        paths: files and folders that the worker reads.
        environment: variables that decide which plugins may be loaded.
        search: folders where the driver finds modules.
        version: fertool's, in the driver.
    """

    work: bytes
    host: str = field(default_factory=socket.gethostname)
    folder: str = field(default_factory=os.getcwd)
    paths: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    version: str = field(default_factory=lambda: fertool.__version__)


class Worker:
    """An actor. Methods return or yield (kind, value) with kind "ready", "result" or "failed"; they raise nothing."""

    def prepare(self, setup: Setup) -> tuple[str, Any]:
        """Make the work, once.

        Returns:
            ("ready", (node, host)), or ("failed", exception).
        """
        import ray

        self._setup = setup
        try:
            self._check()
            make, arguments = pickle.loads(setup.work)
            self._work = make(*arguments)
        except Exception as error:
            return "failed", self._portable(error)
        return "ready", (ray.get_runtime_context().get_node_id(), socket.gethostname())

    def run(self, items: Sequence) -> Iterator[tuple[str, Any]]:
        """Yield ("result", result) for each item, in order, or ("failed", exception) and end."""
        try:
            for result in self._work(items):
                yield "result", result
        except Exception as error:
            yield "failed", self._portable(error)

    def _check(self) -> None:
        """Raise if this node does not see what the driver sees."""
        host = socket.gethostname()
        if fertool.__version__ != self._setup.version:
            raise DeviceError(
                f"{host} has fertool {fertool.__version__}, this machine {self._setup.version}",
                f"install the same version on every node: pip install fertool=={self._setup.version}",
            )
        folder = Path(self._setup.folder)
        absent = [p for p in (folder, *(folder / p for p in self._setup.paths)) if not p.exists()]
        if absent:
            raise DataError(f"{absent[0]} is not there on {host}", _SHARED)
        os.chdir(folder)
        os.environ.update(self._setup.environment)
        sys.path.extend(folder for folder in self._setup.search if folder not in sys.path)

    def _portable(self, error: Exception) -> Exception:
        """Return an error that can be sent to the driver, with the name of this machine if it is another."""
        note, host = traceback.format_exc(), socket.gethostname()
        if host != self._setup.host:
            if isinstance(error, FertoolError) and host not in error.message:
                error.message += f" (on {host})"
            elif isinstance(error, OSError) and error.strerror:
                error.strerror += f" (on {host})"
        error.add_note(note)
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error
