"""Match names in lists and tables with rows of a faces file."""

from collections.abc import Iterable

import numpy as np


def key(name: str) -> str:
    """Return an image's bare name, without folders, extension and RAF-DB's "_aligned", in lower case."""
    stem = name.strip().rsplit("/", 1)[-1].rsplit("\\", 1)[-1]
    head, _, _ = stem.rpartition(".")
    return (head or stem).removesuffix("_aligned").casefold()


class Ids:
    """The ids of a faces file, matched exactly, or by `key` where that is unique."""

    def __init__(self, ids: Iterable[str]):
        self.ids = list(ids)
        self._exact = {name: row for row, name in enumerate(self.ids)}
        self._by_key: dict[str, int] = {}
        for row, name in enumerate(self.ids):
            k = key(name)
            self._by_key[k] = -1 if k in self._by_key else row  # -1: ambiguous, several rows

    def row(self, name: str) -> int:
        """Return the row of a name, or -1."""
        found = self._exact.get(name)
        return self._by_key.get(key(name), -1) if found is None else found

    @property
    def example(self) -> str:
        """Return one of the ids, for messages."""
        return self.ids[0] if self.ids else "nothing"

    def is_ambiguous(self, name: str) -> bool:
        """Return whether a name is not found because several ids have its `key`."""
        return self._by_key.get(key(name)) == -1 and name not in self._exact

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """Return the row of each name, (N,) int64, -1 for unknown names."""
        return np.array([self.row(name) for name in names], dtype=np.int64)
