"""What was read of runs, kept beside them: it takes seconds to open a thousand HDF5 files, and no time to stat them."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from fertool import __version__, files
from fertool.errors import FertoolError

NAME = ".runs.json"
_FORMAT = [__version__, 1]  # the number changes with what is kept

#: [name, inode, size, mtime in ns] of every file that is read
Stamp = list[list[Any]]


class Kept:
    """What was read of every run of a workspace, as long as its files have not changed.

    Whoever may not write there reads the runs anew each time.
    """

    def __init__(self, root: Path):
        self._path, self._root = root / NAME, root
        self._old: dict[str, Any] = {}
        self._new: dict[str, Any] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["format"] == _FORMAT and isinstance(content["runs"], dict):
                self._old = content["runs"]

    def get(self, folder: Path, stamp: Stamp) -> Any:
        """Return what was put for a run whose files have this stamp; None if there is nothing."""
        key = str(folder.relative_to(self._root))
        found = self._old.get(key)
        if not isinstance(found, dict) or found.get("stamp") != stamp:
            return None
        self._new[key] = found
        return found.get("value")

    def put(self, folder: Path, stamp: Stamp, value: Any) -> None:
        """Keep something of a run; it has to be what JSON knows."""
        self._new[str(folder.relative_to(self._root))] = {"stamp": stamp, "value": value}

    def save(self) -> None:
        """Write what was put, and what was got; runs that are gone go."""
        if self._new != self._old:
            with suppress(OSError, FertoolError), files.replacing(self._path) as part:
                part.write_text(json.dumps({"format": _FORMAT, "runs": self._new}), encoding="utf-8")
