"""Files that fertool writes: how they are known again, and what must never be written over.

Every image, video, page and network that fertool writes carries `MARK`; its HDF5 files carry their kind, and its
tables are known by their first columns. A file that exists and is none of these belongs to somebody else.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from fertool.datasets.tabular import header
from fertool.errors import UsageError

MARK = "made by fertool"

#: first columns of the table of `fertool predict`
PREDICTIONS = ("file", "frame", "seconds", "face")

_MARKS = (MARK.encode(), b"fertool_kind", b'<meta name="generator" content="fertool">')
_HEAD, _TAIL = 1 << 16, 1 << 12  # bytes of a file in which its mark lies
_DRAWN = 256  # bytes at either end of an image or video that fertool drew

Inode = tuple[int, int]


def inode(path: Path | str) -> Inode | None:
    """Return what tells a file from all others, by whatever name or link it is reached; None if it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def inodes(paths: Iterable[Path | str]) -> set[Inode]:
    """Return the inodes of the files that are there."""
    return {found for path in paths if (found := inode(path))}


def is_drawn(path: Path | str) -> bool:
    """Whether an image or video is one that fertool drew."""
    return _has_mark(path, _DRAWN, _DRAWN)


def is_output(path: Path | str, columns: Sequence[str] = ()) -> bool:
    """Whether fertool wrote a file.

    Args:
        columns: first columns of a table of the kind; without them no table is one.
    """
    if columns and header(Path(path))[: len(columns)] == [*columns]:
        return True
    return _has_mark(path, _HEAD, _TAIL)


def check_output(path: Path, *, sources: Collection[Inode] = (), columns: Sequence[str] = ()) -> None:
    """Check that writing a file destroys nothing: it is not there, or empty, or fertool's own and no source.

    Args:
        sources: of the files that are read, see `inodes`.
        columns: see `is_output`.

    Raises:
        UsageError: the file is a source, by whatever path or link, or fertool did not write it, or it is a folder.
    """
    if not os.path.lexists(path):
        return
    found = inode(path)
    if found and found in sources:
        raise UsageError(f"{path} is one of the files that are read", "choose another --out, outside of its folder")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "name a file, or choose another --out")
    if found and (not path.is_file() or path.stat().st_size == 0):  # a device such as /dev/stdout, or nothing to lose
        return
    if not found or not is_output(path, columns):
        raise UsageError(f"{path} is already there and fertool did not write it", "choose another --out, or move it")


def _has_mark(path: Path | str, head: int, tail: int) -> bool:
    try:
        with open(path, "rb") as f:
            start = f.read(head)
            f.seek(max(0, os.fstat(f.fileno()).st_size - tail))
            end = f.read(tail)
    except OSError:
        return False
    return any(mark in start or mark in end for mark in _MARKS)
