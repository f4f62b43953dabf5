"""Files that fertool writes: how they are known again, and what must never be written over.

Every image, video, page and network that fertool writes carries `MARK`; its HDF5 files carry their kind, and its
tables are known by their header. A file that exists and is none of these belongs to somebody else.
"""

import os
import re
import stat
from collections.abc import Collection, Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path

from fertool.errors import UsageError

MARK = "made by fertool"

#: first columns of the table of `fertool predict`
PREDICTIONS = ("file", "frame", "seconds", "face")

_MARKS = (MARK.encode(), b'<meta name="generator" content="fertool">')
_ARTEFACT = b"fertool_kind"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LOST = bytes(len(_HDF5))  # how an unfinished file may begin after a power cut
#: headers of the tables of predict, suggest-occlusion, eval and sweep
_TABLES = re.compile(
    rb"file,frame,seconds,face,|id,suggested,confidence,type|run,subset,|system,fold,|.*,subset,.*,runs\s"
)
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
    """Return whether an image or video is one that fertool drew."""
    start, end = _ends(path, _DRAWN, _DRAWN)
    return any(mark in start or mark in end for mark in _MARKS)


def is_predictions(path: Path | str) -> bool:
    """Return whether a file is a table of `fertool predict`."""
    return _ends(path, 100, 0)[0].startswith(",".join(PREDICTIONS).encode())


def check_output(path: Path, *, sources: Collection[Inode] = (), artefact: bool = False) -> None:
    """Check that writing a file destroys nothing: it is not there, or empty, or fertool's own and no source.

    Args:
        sources: of the files that are read, see `inodes`.
        artefact: whether an HDF5 file is written, which alone may take the place of one.

    Raises:
        UsageError: the file is a source, by whatever path or link, or fertool did not write it, or it is a folder.
    """
    found = inode(path)
    if found is None or is_stream(path):
        return
    if found in sources:
        raise UsageError(f"{path} is one of the files that are read", "choose another --out")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "name a file, or choose another --out")
    start, end = _ends(path, _HEAD, _TAIL)
    if artefact and path.suffix == ".partial" and start.startswith((_HDF5, _LOST)):
        return
    if start.startswith(_HDF5) and not artefact:
        raise UsageError(f"{path} is an HDF5 file and would be replaced by something else", "choose another path")
    own = _is_artefact(path, start) if artefact else any(mark in start or mark in end for mark in _MARKS)
    if start and not own and not _TABLES.match(start):
        damaged = ", or it is damaged at its beginning" if artefact else ""
        raise UsageError(
            f"{path} is already there and fertool did not write it{damaged}",
            "choose another path, or move the file away",
        )


def is_stream(path: Path) -> bool:
    """Return whether a path is no file but a device or pipe, such as /dev/stdout."""
    return path.parts[:2] == ("/", "dev") or (path.exists() and not path.is_file() and not path.is_dir())


def _is_artefact(path: Path, start: bytes) -> bool:
    """Return whether an HDF5 file is fertool's, by its attributes, which a damaged one has, too."""
    if not start.startswith(_HDF5):
        return False
    with open(path, "rb") as f, mmap(f.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(_ARTEFACT) >= 0


def _at_once(path: str, flags: int) -> int:
    """Open a file, a pipe too, without waiting for anybody to write to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _ends(path: Path | str, head: int, tail: int) -> tuple[bytes, bytes]:
    """Return the first and last bytes of a file; nothing if it cannot be read, or is a pipe, which may never end."""
    try:
        with open(path, "rb", opener=_at_once) as f:
            if not stat.S_ISREG((found := os.fstat(f.fileno())).st_mode):
                return b"", b""
            start = f.read(head)
            f.seek(max(0, found.st_size - tail))
            return start, f.read(tail)
    except OSError:
        return b"", b""
