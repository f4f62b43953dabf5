"""Reading and writing at a position of an open file, by any number of threads, on every system."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MOST = 1 << 30  # bytes moved by one call: macOS refuses 2 GiB


def _seeking(move: Callable) -> Callable:
    """Return `move(fd, what)` as a function of fd, what and a position.

    Windows reads and writes only where a file stands.
    """
    alone = threading.Lock()

    def moved(fd: int, what: object, at: int) -> object:
        with alone:
            os.lseek(fd, at, os.SEEK_SET)
            return move(fd, what)

    return moved


_read: Callable[[int, int, int], bytes] = getattr(os, "pread", None) or _seeking(os.read)
_write: Callable[[int, memoryview, int], int] = getattr(os, "pwrite", None) or _seeking(os.write)
_read_into = getattr(os, "preadv", None)


def read_at(fd: int, count: int, at: int) -> bytes:
    """Return up to `count` bytes, at most 1 GiB; fewer at the end of the file."""
    return _read(fd, min(count, _MOST), at)


def read_into(fd: int, view: memoryview, at: int) -> int:
    """Fill a buffer of bytes from the file, and return how many there were."""
    done = 0
    while done < len(view):
        part = view[done : done + _MOST]
        if _read_into:
            count = _read_into(fd, [part], at + done)
        else:
            data = _read(fd, len(part), at + done)
            count = len(data)
            part[:count] = data
        if not count:
            break
        done += count
    return done


def write_at(fd: int, data: "Buffer", at: int) -> None:
    """Write all of a buffer.

    Raises:
        OSError: it could not be written, or not all of it.
    """
    view, done = memoryview(data).cast("B"), 0
    while done < len(view):
        done += _write(fd, view[done : done + _MOST], at + done)
