"""HDF5 files opened so that nothing they hold can hang, crash or mislead the library, and what lies in them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from fertool.artefact.heaps import check_heaps
from fertool.artefact.positions import read_at, read_into, write_at
from fertool.errors import ArtefactError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MOST_ARRAYS = 50_000
_DEEPEST = 16  # groups within groups
_SMALL = 1 << 26  # bytes: what is no larger may be declared by any file
_FEW_ROWS = 64  # of text that are read at once from any file
_MOST_RATIO = 200  # compressed data may become so many times the file

#: newest format that is written. Its metadata carries checksums, as the earliest one's does not, and later ones mark a
#: file that is open for writing, which would have to be cleared after a kill
_FORMAT = ("v108", "v108")


class _Driver:
    """What HDF5 reads and writes through. Metadata is checked before HDF5 parses it.

    h5py calls on after an error, so every method is this class's own, and nothing is written after the first `error`,
    which is kept until the file is closed.
    """

    def __init__(self, path: Path, mode: str):
        self.file = open(path, {"r": "rb", "r+": "r+b", "w": "w+b"}[mode], buffering=0)  # noqa: SIM115 (closed by _File)
        self.fd = self.file.fileno()
        self.at = 0
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (os.fstat(self.fd).st_size if whence == os.SEEK_END else 0)
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, count: int) -> bytes:
        return read_at(self.fd, count, self.at)

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        count = read_into(self.fd, view, self.at)
        check_heaps(self.fd, self.at, view[:count])
        return count

    def write(self, data: "Buffer") -> int:
        if not self.error:
            try:
                write_at(self.fd, data, self.at)
            except OSError as e:
                self.error = e
        return memoryview(data).nbytes

    def truncate(self, size: int) -> None:
        if not self.error:
            try:
                os.ftruncate(self.fd, size)
            except OSError as e:
                self.error = e

    def flush(self) -> None:
        pass


class _File(h5py.File):
    """An HDF5 file that fertool opened itself.

    HDF5 keeps one table of the files that a process has open, and refuses to open one twice in different ways. This
    one goes through Python instead: it minds no other handle, no lock, and no other handle minds it.
    """

    def __init__(self, path: Path, mode: str):
        self._driver = _Driver(path, mode)
        try:
            super().__init__(self._driver, mode, libver=_FORMAT)
        except BaseException:
            self._driver.file.close()
            raise

    @property
    def state(self) -> tuple[int, ...]:
        """What changes when the file is replaced or written to."""
        return state_of(os.fstat(self._driver.fd))

    def close(self) -> None:
        if self._driver.file.closed:
            return
        try:
            super().close()
        finally:
            self._driver.file.close()
        if self._driver.error:
            raise self._driver.error


def state_of(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is replaced (the first of them) or written to."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def open_h5(path: Path, mode: str = "r") -> h5py.File:
    """Open an HDF5 file: "r" to read, "r+" to change, "w" to write anew."""
    return _File(path, mode)


@dataclass(frozen=True)
class Stored:
    """Where a dataset lies in its file. `offset` is None where it cannot be mapped into memory."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int | None
    is_text: bool

    @property
    def nbytes(self) -> int:
        return int(self.dtype.itemsize * np.prod(self.shape, dtype=object))


def survey(h5: h5py.File, path: Path) -> dict[str, Stored]:
    """Find every dataset without following anything that leads out of the file.

    Raises:
        ArtefactError: links, groups that contain one another or share a group, data kept elsewhere, types other than
            numbers and text, or sizes that the file cannot hold.
    """
    found: dict[str, Stored] = {}
    size = path.stat().st_size
    groups: set[int] = set()

    def walk(group: h5py.Group, prefix: str) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in groups or prefix.count("/") > _DEEPEST:
            raise ArtefactError(f"{path} has groups that contain one another ({prefix}); such files are refused")
        groups.add(address)
        for name in group:
            if len(found) + len(groups) > _MOST_ARRAYS:
                raise ArtefactError(f"{path} has more than {_MOST_ARRAYS:,} arrays; such files are refused")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ArtefactError(f"{path} contains a link ({prefix}{name}); such files are refused")
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item, f"{prefix}{name}/")
            elif isinstance(item, h5py.Dataset):
                found[prefix + name] = _stored(item, prefix + name, path, size)
            else:
                raise ArtefactError(f"{path} contains {prefix}{name}, which is no array; such files are refused")

    walk(h5, "")
    return found


def _stored(item: h5py.Dataset, name: str, path: Path, size: int) -> Stored:
    dtype, shape = item.dtype, item.shape
    if item.is_virtual or item.external:
        raise ArtefactError(f"{path} keeps the data of {name} in another file; such files are refused")
    any_length = dtype.hasobject and h5py.check_string_dtype(dtype) is not None
    if not any_length and dtype.kind not in "biufS":
        raise ArtefactError(f"{path} contains objects in {name}, neither numbers nor text; such files are refused")
    if shape is None:
        raise ArtefactError(f"{path} contains {name}, which has no shape")
    contiguous = item.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    # text of any length is stored as pointers, which must never be mapped
    offset = item.id.get_offset() if contiguous and not any_length else None
    declared = dtype.itemsize * max(
        int(np.prod([max(n, 1) for n in part], dtype=object)) for part in (shape, item.chunks or ())
    )
    if declared > max(_SMALL, _MOST_RATIO * size):
        raise ArtefactError(
            f"{path} declares {declared:,} bytes of {name} and has {size:,} itself; such files are refused"
        )
    if offset is not None and offset + item.nbytes > size:
        raise ArtefactError(f"{path} is truncated: {name} ends behind the end of the file")
    return Stored(dtype, shape, offset, dtype.kind in "SO")


def load(h5: h5py.File, name: str, stored: Stored) -> np.ndarray:
    """Read an array whole; text as bytes of one length.

    Raises:
        ValueError: entries of text share their bytes, and are together far larger than the file.
    """
    if not (stored.is_text and stored.dtype.hasobject):
        return np.asarray(h5[name][()])
    size = h5.id.get_filesize()
    rows = max(_FEW_ROWS, _SMALL // max(1, size))
    values, total = [], 0
    for start in range(0, stored.shape[0], rows) if stored.shape else (None,):
        part = h5[name][()] if start is None else h5[name][start : start + rows]
        values += np.ravel(part).tolist()
        total += sum(map(len, values[-np.size(part) :]))
        if total > max(_SMALL, _MOST_RATIO * size):
            raise ValueError(f"the text in {name} is far larger than the file")
    longest = max([1, *map(len, values)])
    if longest * len(values) > max(_SMALL, _MOST_RATIO * size):
        raise ValueError(f"the text in {name} is far larger than the file")
    return np.array(values, dtype=f"S{longest}").reshape(stored.shape)
