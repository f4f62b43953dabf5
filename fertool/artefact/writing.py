"""Writing artefacts: all at once, or row by row through any interruption."""

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from fertool import files, locks
from fertool.artefact import digests
from fertool.artefact.layout import PENDING, SCHEMA, UNHASHED, Column, Parent, partial_path, text
from fertool.artefact.positions import write_at
from fertool.artefact.provenance import differences, make_info
from fertool.artefact.reading import Artefact, Damaged, read
from fertool.artefact.schema import read_header
from fertool.artefact.storage import open_h5, survey
from fertool.errors import ArtefactError
from fertool.outputs import check_output

_BLANK = " " * 32  # room for a digest
_PATIENCE = 60.0  # seconds to wait for another process that saves the same file


def _set_attrs(
    h5: h5py.File,
    kind: str,
    params: Mapping,
    inputs: Iterable[Parent],
    classes: Iterable[str] | None,
    info: Mapping,
    arrays: Iterable[str],
) -> None:
    _set(h5, "fertool_kind", kind)
    h5.attrs["fertool_schema"] = SCHEMA
    _set(h5, "uid", uuid.uuid4().hex)
    h5.attrs["complete"] = False
    _set(h5, "digest", _BLANK)
    _set(h5, "params", json.dumps(params, sort_keys=True, default=str))
    _set(h5, "inputs", json.dumps([asdict(p) for p in inputs]))
    _set(h5, "classes", json.dumps(list(classes) if classes else None))
    _set(h5, "info", json.dumps(info))
    _set(h5, "digests", json.dumps(dict.fromkeys(sorted(set(arrays) - UNHASHED), _BLANK)))
    _set(h5, "seal", _BLANK)
    h5.flush()  # so that they lie at the beginning of the file, where others look for them


def _set(h5: h5py.File, name: str, value: str) -> None:
    """Store a text in the attribute itself.

    HDF5 keeps texts of variable length in a heap, and does not survive damage of that well.
    """
    data = value.encode()
    h5.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", len(data)))


def _seal(path: Path) -> None:
    """Compute the digests, mark the file complete, and make both durable."""
    with open_h5(path) as h5:
        header = read_header(h5, str(path))
        stored = survey(h5, path)
    whole, arrays = digests.of_file(path, header.texts, header.schema, stored)
    texts = {**header.texts, "digest": whole, "digests": json.dumps(arrays)}
    texts["seal"] = digests.of_header(texts, header.schema, True, stored)
    if header.digests.keys() - arrays.keys():
        raise RuntimeError(f"{path} has room for the digests of {sorted(header.digests)}, not {sorted(arrays)}")
    with open_h5(path, "r+") as h5:
        for name in ("digest", "digests", "seal"):
            h5.attrs.modify(name, np.bytes_(texts[name].encode()))
        h5.attrs.modify("complete", True)


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
    with locks.exclusive(path, wait=_PATIENCE), files.replacing(path, artefact=True, durable=True) as part:
        with open_h5(part, "w") as h5:
            _set_attrs(h5, kind, params, inputs, classes, info or make_info(), arrays)
            for name, array in arrays.items():
                _store(h5, name, array)
        _seal(part)
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

    Every column lies contiguously in `<name>.partial`. Rows go straight to their place; the `status`
    of a row is written after its data, so a row whose status is not PENDING is whole. `finish` seals the file and
    renames it; a `with` block that is left before leaves the file to be resumed.
    """

    def __init__(self, path: Path, artefact: Artefact, held: ExitStack):
        self.path = path
        self.partial = artefact.path
        self.stored = artefact.stored
        self.rows = artefact.rows
        self.status = np.array(artefact["status"])
        self._held = held
        self._file = held.enter_context(open(self.partial, "r+b", buffering=0))  # noqa: SIM115 (until `close`)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> np.ndarray:
        """Indices of the rows still to be written."""
        return np.flatnonzero(self.status == PENDING)

    def write(self, row: int, status: int, **values: np.ndarray) -> None:
        """Write one row: its values, then its status."""
        with files.writing(self.path):
            for name, value in values.items():
                self._put(name, row, value)
            self._put("status", row, status)
        self.status[row] = status

    def reopen(self, rows: np.ndarray) -> None:
        """Take back rows that were written: they are pending again."""
        with files.writing(self.path):
            for row in map(int, rows):
                self._put("status", row, PENDING)
        self.status[rows] = PENDING

    def _put(self, name: str, row: int, value: object) -> None:
        s = self.stored[name]
        if s.is_text:
            whole = str(value).encode()[: s.dtype.itemsize].decode(errors="ignore")  # never half a character
            data = whole.encode().ljust(s.dtype.itemsize, b"\0")
        else:
            array = np.asarray(value, dtype=s.dtype)
            if array.shape != s.shape[1:]:
                raise ValueError(f"{name}: a row has shape {s.shape[1:]}, not {array.shape}")
            data = array.tobytes()
        assert s.offset is not None  # columns of a file that is being written lie in one piece
        write_at(self._file.fileno(), data, s.offset + row * len(data))

    def close(self) -> None:
        """Leave the file as it is, to be resumed, and give back its lock."""
        self._held.close()

    def finish(self) -> Artefact:
        """Seal the file and rename it. All rows must have been written."""
        if len(self.pending):
            raise RuntimeError(f"{len(self.pending)} rows of {self.path} are still pending")
        with self._held, files.writing(self.path):
            try:
                mine = os.fstat(self._file.fileno()).st_ino == self.partial.stat().st_ino
            except FileNotFoundError:
                mine = False
            if not mine:
                raise ArtefactError(f"another fertool began {self.path} anew meanwhile", "run the command again")
            self._file.close()  # Windows renames no open file
            _seal(self.partial)
            files.rename(self.partial, self.path)
        return read(self.path)


def note(artefact: Artefact, name: str, rows: np.ndarray, values: np.ndarray) -> None:
    """Write values of a column that is no part of the digest into a complete file; where it is read-only, do not."""
    stored = artefact.stored[name]
    if name not in UNHASHED:
        raise ValueError(f"{name} is part of the digest")
    values = np.ascontiguousarray(values, dtype=stored.dtype)
    with suppress(OSError), open(artefact.path, "r+b", buffering=0) as f:
        before = os.fstat(f.fileno())
        for row, value in zip(map(int, rows), values, strict=True):
            f.seek(stored.offset + row * value.nbytes)
            f.write(value.tobytes())
        os.utime(f.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))  # whoever reads it has lost nothing


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
    held = ExitStack()
    try:
        held.enter_context(locks.exclusive(path))
        check_output(path, artefact=True)
        old = None if overwrite else _unfinished(partial, kind)
        if old is None:
            _lay_out(partial, kind, columns, known, params, inputs, classes, info)
            old = read(partial, kind, partial=True)
        elif different := differences(old, params, inputs):
            raise ArtefactError(
                f"{partial} is unfinished and has other settings: " + "; ".join(different),
                "add --overwrite to start again",
            )
        else:
            _check_layout(old, {**columns, "status": Column("u1")}, known)
        with files.writing(path):
            return Writer(path, old, held)
    except BaseException:
        held.close()
        raise


def _unfinished(partial: Path, kind: str) -> Artefact | None:
    """Return the file that is to be resumed; None if there is none, or nothing in it that could be kept.

    Raises:
        ArtefactError: a file that may be of use to somebody: of a newer fertool, of another kind, of other columns.
    """
    if not partial.exists():
        return None
    try:
        old = read(partial, kind, partial=True)
    except Damaged:
        return None
    except ArtefactError as e:
        raise ArtefactError(e.message, "move it away, or add --overwrite to start again without it") from e
    return old


def _check_layout(old: Artefact, columns: Mapping[str, Column], known: Mapping) -> None:
    """Raise ArtefactError if a file that is to be resumed has other columns than are written now."""
    rows = len(known["id"])
    wrong = [name for name in known if name not in old or old.stored[name].shape[:1] != (rows,)]
    for name, column in columns.items():
        s, dtype = old.stored.get(name), np.dtype(column.h5_dtype)
        if s is None or s.offset is None or s.shape != (rows, *column.shape) or s.dtype.str != dtype.str:
            wrong.append(name)
    if wrong:
        raise ArtefactError(
            f"{old.path} is unfinished and has not the columns that are written now: {', '.join(wrong)}",
            "add --overwrite to start again",
        )


def _lay_out(
    partial: Path,
    kind: str,
    columns: Mapping[str, Column],
    known: Mapping[str, np.ndarray],
    params: Mapping,
    inputs: Iterable[Parent],
    classes: Iterable[str] | None,
    info: Mapping | None,
) -> None:
    rows, columns = len(known["id"]), {**columns, "status": Column("u1")}
    with files.replacing(partial, artefact=True, durable=True) as part:
        with open_h5(part, "w") as h5:
            _set_attrs(h5, kind, params, inputs, classes, info or make_info(), [*known, *columns])
            for name, array in known.items():
                _store(h5, name, array)
            for name, column in columns.items():
                create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                create.set_layout(h5py.h5d.CONTIGUOUS)
                create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                space = h5py.h5s.create_simple((rows, *column.shape))
                dtype = h5py.h5t.py_create(np.dtype(column.h5_dtype), logical=True)
                h5py.h5d.create(h5.id, name.encode(), dtype, space, create)
        with open(part, "r+b") as f:
            size = os.fstat(f.fileno()).st_size
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(f.fileno(), 0, size)  # a full disk shows here, not hours later
