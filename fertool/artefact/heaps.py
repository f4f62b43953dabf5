"""Checks of two structures of HDF5 whose damage makes the C library loop for ever.

Text of any length lies in global heaps, names of a group in a local heap. Both are chains in which the library steps
from one entry to the next by what the entry says; where a disk left zeros, it steps on the spot. fertool writes
neither, but reads files of others and of its own earlier versions.
"""

import os
import struct

from fertool.artefact.positions import read_at

_GLOBAL = b"GCOL\x01\0\0\0"
_LOCAL = b"HEAP\0\0\0\0"
_METADATA = 1 << 21  # bytes: longer reads are data
_END = 1  # of a local heap's list of free blocks


def check_heaps(fd: int, start: int, data: memoryview) -> None:
    """Check the heaps that begin in a stretch of a file that HDF5 has read.

    Raises:
        OSError: the library would not come to the end of one.
    """
    if len(data) > _METADATA:
        return
    before = read_at(fd, min(7, start), max(0, start - 7))  # a signature may have been read in two parts
    whole = before + data
    for signature, check in ((_GLOBAL, _check_global), (_LOCAL, _check_local)):
        at = whole.find(signature)
        while at >= 0:
            check(fd, start - len(before) + at)
            at = whole.find(signature, at + 1)


def _check_global(fd: int, at: int) -> None:
    (size,) = struct.unpack("<Q", _read(fd, at + 8, 8))
    heap = _read(fd, at, min(size, os.fstat(fd).st_size))
    place = 16
    while place + 16 <= len(heap):
        number, length = struct.unpack("<H6xQ", heap[place : place + 16])
        step = 16 + (length + 7) // 8 * 8 if number else length
        if not 0 < step <= size - place:
            raise OSError(f"the heap of texts at byte {at} is damaged")
        place += step


def _check_local(fd: int, at: int) -> None:
    size, free, address = struct.unpack("<QQQ", _read(fd, at + 8, 24))
    seen = set()
    while free != _END and free < size:
        if free in seen:
            raise OSError(f"the heap of names at byte {at} is damaged")
        seen.add(free)
        (free,) = struct.unpack("<Q", _read(fd, address + free, 8))


def _read(fd: int, at: int, count: int) -> bytes:
    data = read_at(fd, count, at) if at < 1 << 62 else b""
    if len(data) < count:
        raise OSError(f"a heap ends beyond the file, at byte {at}")
    return data
