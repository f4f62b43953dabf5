"""Writing artefacts: all at once, or row by row through any interruption."""

import errno
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from fertool.artefact.layout import PENDING, SCHEMA, Column, Parent, open_h5, partial_path, text
from fertool.artefact.provenance import differences, make_info
from fertool.artefact.reading import Artefact, read, survey
from fertool.errors import ArtefactError, DataError


def _set_attrs(h5: h5py.File, kind: str, params: Mapping, inputs: Iterable[Parent], classes, info: Mapping) -> None:
    h5.attrs["fertool_kind"] = kind
    h5.attrs["fertool_schema"] = SCHEMA
    h5.attrs["uid"] = uuid.uuid4().hex
    h5.attrs["complete"] = False
    h5.attrs["digest"] = " " * 32
    h5.attrs["params"] = json.dumps(params, sort_keys=True, default=str)
    h5.attrs["inputs"] = json.dumps([asdict(p) for p in inputs])
    h5.attrs["classes"] = json.dumps(list(classes) if classes else None)
    h5.attrs["info"] = json.dumps(info)


def _seal(path: Path) -> None:
    """Compute the digest, mark the file complete, and make both durable."""
    with open_h5(path) as h5:
        header = [h5.attrs["fertool_kind"], str(h5.attrs["fertool_schema"]), h5.attrs["params"], h5.attrs["classes"]]
        inputs = json.dumps(sorted([p["role"], p["digest"]] for p in json.loads(h5.attrs["inputs"])))
        stored = survey(h5, path)
        h = hashlib.blake2b(digest_size=16)
        for part in (*header, inputs):
            h.update(part.encode() + b"\0")
        for name in sorted(stored):
            s = stored[name]
            h.update(f"{name}|{s.dtype.str}|{s.shape}\0".encode())
            if s.offset is None or 0 in s.shape:
                h.update(np.ascontiguousarray(h5[name][()]).tobytes())
            else:
                _hash_bytes(h, path, s.offset, h5[name].nbytes)
    with open_h5(path, "r+") as h5:
        h5.attrs.modify("digest", h.hexdigest())
        h5.attrs.modify("complete", True)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _hash_bytes(h, path: Path, offset: int, count: int) -> None:
    """Feed a stretch of a file to a hash, in pieces: a mapped file of many gigabytes would count as memory."""
    with open(path, "rb") as f:
        f.seek(offset)
        while count:
            piece = f.read(min(count, 1 << 22))
            if not piece:
                raise OSError(f"{path} ends too early")
            h.update(piece)
            count -= len(piece)


def _replace(tmp: Path, path: Path) -> None:
    os.replace(tmp, path)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot sync a directory
            os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns a full disk, a missing permission and the like into a DataError."""
    try:
        yield
    except (OSError, RuntimeError) as e:
        # h5py raises either, and both carry HDF5's whole story with the number somewhere inside
        told = re.search(r"errno = (\d+)", str(e))
        number = getattr(e, "errno", None) or (int(told[1]) if told else None)
        if number is None:
            raise
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise DataError(
            f"cannot write {path}: {os.strerror(number)}",
            "make room and run the same command again: it goes on where it stopped"
            if full
            else "choose another place with --workspace or --out",
        ) from e


def save(
    path: str | Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    *,
    params: Mapping,
    inputs: Iterable[Parent] = (),
    classes: Iterable[str] | None = None,
    info: Mapping | None = None,
) -> Artefact:
    """Write a whole artefact at once; a reader sees the old file or the new one, never a part.

    Args:
        arrays: column name, or group path such as "weights/last/fc.weight", to array. Text as str or bytes arrays.
    """
    path = Path(path)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_h5(tmp, "w") as h5:
                _set_attrs(h5, kind, params, inputs, classes, info or make_info())
                for name, array in arrays.items():
                    _store(h5, name, array)
            _seal(tmp)
            _replace(tmp, path)
        finally:
            tmp.unlink(missing_ok=True)
    return read(path, kind)


def _store(h5: h5py.File, name: str, array: np.ndarray) -> None:
    array = np.asarray(array)
    if array.dtype.kind in "UO":
        array = text(array.ravel()).reshape(array.shape)
    if array.dtype.kind == "S":
        dtype = h5py.string_dtype("utf-8", max(1, array.dtype.itemsize))
        h5.create_dataset(name, data=array.astype(dtype), dtype=dtype)
    else:
        h5.create_dataset(name, data=array)


class Writer:
    """Writes the rows of a preallocated table, in any order, surviving a kill at any moment.

    Every column lies contiguously in `<name>.partial`. Rows go straight to their place with `pwrite`; the `status`
    of a row is written after its data, so a row whose status is not PENDING is whole. `finish` seals the file and
    renames it.
    """

    def __init__(self, path: Path, artefact: Artefact):
        self.path = path
        self.partial = artefact.path
        self.stored = artefact.stored
        self.rows = artefact.rows
        self._fd = _lock(self.partial, path)
        self.status = np.array(artefact["status"])

    @property
    def pending(self) -> np.ndarray:
        """Indices of the rows still to be written."""
        return np.flatnonzero(self.status == PENDING)

    def write(self, row: int, status: int, **values: np.ndarray) -> None:
        """Write one row: its values, then its status."""
        with _writing(self.path):
            for name, value in values.items():
                self._put(name, row, value)
            self._put("status", row, status)
        self.status[row] = status

    def _put(self, name: str, row: int, value) -> None:
        s = self.stored[name]
        if s.is_text:
            whole = str(value).encode()[: s.dtype.itemsize].decode(errors="ignore")  # never half a character
            data = whole.encode().ljust(s.dtype.itemsize, b"\0")
        else:
            data = np.asarray(value, dtype=s.dtype)
            if data.shape != s.shape[1:]:
                raise ValueError(f"{name}: a row has shape {s.shape[1:]}, not {data.shape}")
            data = data.tobytes()
        if os.pwrite(self._fd, data, s.offset + row * len(data)) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        os.close(self._fd)

    def finish(self) -> Artefact:
        """Seal and rename. All rows must have been written."""
        if len(self.pending):
            raise RuntimeError(f"{len(self.pending)} rows of {self.path} are still pending")
        try:
            with _writing(self.path):
                if os.fstat(self._fd).st_ino != self.partial.stat().st_ino:
                    raise ArtefactError(f"another fertool began {self.path} anew meanwhile", "run the command again")
                _seal(self.partial)
                _replace(self.partial, self.path)
        finally:
            self.close()
        return read(self.path)


def _lock(partial: Path, path: Path) -> int:
    """Open an unfinished file for this process alone; the lock goes with the descriptor."""
    fd = os.open(partial, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(fd)
        raise ArtefactError(f"another fertool is writing {path}", "wait for it, or choose another --out") from e
    except OSError:
        pass  # a file system without locks
    return fd


def begin(
    path: str | Path,
    kind: str,
    *,
    columns: Mapping[str, Column],
    known: Mapping[str, np.ndarray],
    params: Mapping,
    inputs: Iterable[Parent] = (),
    classes: Iterable[str] | None = None,
    info: Mapping | None = None,
    overwrite: bool = False,
) -> Writer:
    """Start or go on with a table that is written row by row. Ask `up_to_date` first.

    Args:
        columns: what is filled in row by row; a `status` column is added.
        known: columns known beforehand (`id`, labels, ...), written now.

    Raises:
        ArtefactError: an unfinished file of other settings lies there and `overwrite` is not set, or another process
            is writing it.
        DataError: no room or no permission.
    """
    path = Path(path)
    partial, inputs = partial_path(path), tuple(inputs)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not partial.exists():
            _lay_out(partial, kind, columns, known, params, inputs, classes, info)
        elif overwrite or (old := _unfinished(partial, kind)) is None:
            held = _lock(partial, path)  # nobody may be writing it
            try:
                _lay_out(partial, kind, columns, known, params, inputs, classes, info)
            finally:
                os.close(held)
        elif different := differences(old, params, inputs):
            raise ArtefactError(
                f"{partial} is unfinished and has other settings: " + "; ".join(different),
                "add --overwrite to start again",
            )
        return Writer(path, read(partial, kind, partial=True))


def _unfinished(partial: Path, kind: str) -> Artefact | None:
    try:
        return read(partial, kind, partial=True)
    except ArtefactError:
        return None  # damaged: nothing to keep


def _lay_out(partial: Path, kind, columns, known, params, inputs, classes, info) -> None:
    tmp = partial.with_name(f".{partial.name}.{os.getpid()}.tmp")
    rows = len(known["id"])
    try:
        with open_h5(tmp, "w") as h5:
            _set_attrs(h5, kind, params, inputs, classes, info or make_info())
            for name, array in known.items():
                _store(h5, name, array)
            for name, column in {**columns, "status": Column("u1")}.items():
                create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                create.set_layout(h5py.h5d.CONTIGUOUS)
                create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                space = h5py.h5s.create_simple((rows, *column.shape))
                dtype = h5py.h5t.py_create(np.dtype(column.h5_dtype), logical=True)
                h5py.h5d.create(h5.id, name.encode(), dtype, space, create)
        with open(tmp, "r+b") as f:
            size = os.fstat(f.fileno()).st_size
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(f.fileno(), 0, size)  # a full disk shows here, not hours later
            os.fsync(f.fileno())
        os.replace(tmp, partial)
    finally:
        tmp.unlink(missing_ok=True)
