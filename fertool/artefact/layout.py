"""The vocabulary of artefacts: kinds, parents, columns."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

KINDS = ("faces", "masks", "regions", "subsets", "run", "predictions", "figures", "landmarks")
SCHEMA = 1

#: columns that belong to the disk a file was made on: no part of its digest
UNHASHED = frozenset({"source_stat"})

PENDING = 0  # a row not written yet, in the `status` column of a file that is being made


@dataclass(frozen=True)
class Parent:
    """A file (or dataset on disk) that an artefact was made from."""

    role: str
    kind: str
    name: str
    uid: str
    digest: str


@dataclass(frozen=True)
class Column:
    """Layout of a column: dtype ("u1", "f4", "U32" for text of up to 32 UTF-8 bytes, ...) and shape of one row."""

    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def h5_dtype(self) -> np.dtype:
        if self.dtype.startswith("U"):
            return h5py.string_dtype("utf-8", max(1, int(self.dtype[1:])))
        return np.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        return int(self.h5_dtype.itemsize * np.prod(self.shape, dtype=np.int64))


def text(values: Iterable[str]) -> np.ndarray:
    """Return strings as the fixed-width UTF-8 bytes they are stored as."""
    encoded = [v.encode() for v in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def partial_path(path: Path) -> Path:
    return path.parent / (path.name + ".partial")  # a folder such as . has no name


def one_line(e: Exception) -> str:
    """Return what an exception says, on one line."""
    return " ".join(str(e).split()) or type(e).__name__
