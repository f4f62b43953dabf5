"""The HDF5 artefacts that stages hand to one another: format, reader, writers, provenance.

Format (schema 1 of every kind). The root carries the attributes

    fertool_kind     str   faces, masks, regions, subsets, run, predictions, figures
    fertool_schema   int   version of the kind's layout
    uid              str   random, one per file
    complete         bool  false until the last step of the stage that writes it
    digest           str   BLAKE2 of kind, schema, settings, parents, classes and all data: equal for equal work
    params           JSON  the settings of the stage
    inputs           JSON  [{role, kind, name, uid, digest}] of the files it was made from
    classes          JSON  ordered class names, or null
    info             JSON  versions, command line, seed, time: what must not enter the digest

Tables hold one dataset per column at the root, all with the same first axis and stored contiguously, so that a
column can be mapped into memory by any number of processes and rows can be written without touching HDF5's own
structures. Other arrays live in groups of any depth.

Files with external links, virtual datasets or external storage are refused: nothing a file says makes fertool open
another one, and nothing is ever unpickled.

History: 1, first release.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from fertool import __version__
from fertool.errors import ArtefactError, DataError

KINDS = ("faces", "masks", "regions", "subsets", "run", "predictions", "figures")
SCHEMA = 1

#: columns without which a file of the kind makes no sense
REQUIRED = {
    "faces": ("id", "images", "status", "label", "split"),
    "masks": ("id", "masks"),
    "regions": ("id", "boxes"),
    "subsets": ("id",),
    "predictions": ("id", "row", "label", "logits"),
}

PENDING = 0  # a row not written yet, in the `status` column of a file that is being made


@dataclass(frozen=True)
class Parent:
    """A file (or data set on disk) that an artefact was made from."""

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
    def h5_dtype(self):
        if self.dtype.startswith("U"):
            return h5py.string_dtype("utf-8", max(1, int(self.dtype[1:])))
        return np.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        return int(self.h5_dtype.itemsize * np.prod(self.shape, dtype=np.int64))


def text(values: Iterable[str]) -> np.ndarray:
    """Strings as the fixed-width UTF-8 bytes they are stored as."""
    encoded = [v.encode() for v in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


# ---------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Stored:
    """Where a dataset lies in its file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int | None
    is_text: bool


@dataclass(frozen=True)
class Artefact:
    """A complete artefact, opened for reading. Holds no file handle; safe to pickle and to share with workers."""

    path: Path
    kind: str
    schema: int
    uid: str
    digest: str
    complete: bool
    params: dict
    inputs: tuple[Parent, ...]
    classes: tuple[str, ...] | None
    info: dict
    stored: dict[str, _Stored] = field(repr=False)

    @property
    def rows(self) -> int:
        return self.stored["id"].shape[0] if "id" in self.stored else 0

    @property
    def columns(self) -> list[str]:
        return [name for name in self.stored if "/" not in name]

    def __contains__(self, name: str) -> bool:
        return name in self.stored

    def __getitem__(self, name: str) -> np.ndarray:
        """A column or array. Numbers come as a read-only memory map, text as an array of str."""
        if name not in self.stored:
            raise ArtefactError(f"{self.path} has no column {name!r}", f"it has: {', '.join(self.stored)}")
        s = self.stored[name]
        if s.offset is None or 0 in s.shape or s.shape == ():
            with _h5(self.path) as h5:
                array = np.asarray(h5[name][()])
        else:
            array = np.memmap(self.path, dtype=s.dtype, mode="r", offset=s.offset, shape=s.shape)
        if not s.is_text:
            return array
        try:
            return np.array([v.decode() for v in np.asarray(array).ravel()], dtype=object).reshape(s.shape)
        except UnicodeDecodeError as e:
            raise ArtefactError(f"{self.path}: the text in {name} is not UTF-8", _damage_hint(self.path)) from e

    @cached_property
    def ids(self) -> np.ndarray:
        return self["id"]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """All arrays below a group, by their path relative to it."""
        prefix = name.rstrip("/") + "/"
        return {key[len(prefix) :]: self[key] for key in self.stored if key.startswith(prefix)}

    def as_parent(self, role: str | None = None) -> Parent:
        name = f"{self.path.parent.name}/{self.path.name}"
        return Parent(role or self.kind, self.kind, name, self.uid, self.digest)

    def parent(self, role: str) -> Parent | None:
        return next((p for p in self.inputs if p.role == role), None)

    def require_parent(self, other: "Artefact", role: str | None = None) -> None:
        """Refuse this file unless it was made from `other`."""
        role = role or other.kind
        mine = self.parent(role)
        if mine is None or mine.digest != other.digest:
            raise ArtefactError(
                f"{self.path} was made from another {role} file than {other.path}",
                f"make it again from this one, or name the {role} file it belongs to",
            )


def _h5(path: Path, mode: str = "r") -> h5py.File:
    return h5py.File(path, mode, locking=False)


def read(path: str | Path, kind: str | tuple[str, ...] | None = None, *, partial: bool = False) -> Artefact:
    """Open an artefact.

    Args:
        path: the file.
        kind: the kind or kinds the caller can use; None takes any.
        partial: also accept a file whose stage has not finished.

    Raises:
        ArtefactError: missing, not HDF5, foreign, newer, of another kind, incomplete, or with links out of the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"there is no file {path}", _partial_hint(path))
    try:
        with _h5(path) as h5:
            attrs = dict(h5.attrs)
            if "fertool_kind" not in attrs:
                raise ArtefactError(f"{path} is an HDF5 file, but not one of fertool's")
            if int(attrs["fertool_schema"]) > SCHEMA:
                raise ArtefactError(
                    f"{path} has schema {attrs['fertool_schema']}; this fertool {__version__} reads up to {SCHEMA}",
                    "a newer fertool wrote it: upgrade with pip install -U fertool",
                )
            stored = _survey(h5, path)
            artefact = Artefact(
                path=path,
                kind=str(attrs["fertool_kind"]),
                schema=int(attrs["fertool_schema"]),
                uid=str(attrs["uid"]),
                digest=str(attrs["digest"]).strip(),
                complete=bool(attrs["complete"]),
                params=_json(attrs, "params", dict),
                inputs=tuple(Parent(**p) for p in _json(attrs, "inputs", list)),
                classes=tuple(map(str, _json(attrs, "classes", list | None) or ())) or None,
                info=_json(attrs, "info", dict),
                stored=stored,
            )
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as e:
        raise ArtefactError(f"{path} cannot be read as a fertool artefact: {_one_line(e)}", _damage_hint(path)) from e
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds and artefact.kind not in kinds:
        raise ArtefactError(
            f"{path} holds {artefact.kind!r}; {' or '.join(map(repr, kinds))} is needed here",
            f"it was made by: {' '.join(artefact.info.get('command', []))}",
        )
    if not partial and not artefact.complete:
        raise ArtefactError(f"{path} is not finished", "run the command that makes it again: it will go on")
    missing = [c for c in REQUIRED.get(artefact.kind, ()) if c not in stored]
    if missing:
        raise ArtefactError(f"{path} lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}")
    lengths = {stored[c].shape[0] for c in artefact.columns if stored[c].shape}
    if artefact.kind in REQUIRED and len(lengths) > 1:
        raise ArtefactError(f"{path} has columns of different lengths: {sorted(lengths)}")
    return artefact


def _json(attrs: Mapping, name: str, kind) -> object:
    value = json.loads(attrs[name])
    if not isinstance(value, kind):
        raise ValueError(f"its attribute {name} is malformed")
    return value


def _survey(h5: h5py.File, path: Path) -> dict[str, _Stored]:
    """Find every dataset without following anything that leads out of the file."""
    found: dict[str, _Stored] = {}
    size = path.stat().st_size

    def walk(group: h5py.Group, prefix: str) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ArtefactError(f"{path} contains a link ({prefix}{name}); such files are refused")
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item, f"{prefix}{name}/")
                continue
            if not isinstance(item, h5py.Dataset):
                raise ArtefactError(f"{path} contains {prefix}{name}, which is no array")
            if item.is_virtual or item.external:
                raise ArtefactError(f"{path} keeps the data of {prefix}{name} in another file; such files are refused")
            is_text = item.dtype.kind in "SO"
            if item.dtype.hasobject and h5py.check_string_dtype(item.dtype) is None:
                raise ArtefactError(f"{path} contains objects in {prefix}{name}; such files are refused")
            if item.shape is None:
                raise ArtefactError(f"{path} contains {prefix}{name}, which has no shape")
            contiguous = item.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
            # text of any length is stored as pointers, which must never be mapped
            offset = item.id.get_offset() if contiguous and not item.dtype.hasobject else None
            if offset is not None and offset + item.nbytes > size:
                raise ArtefactError(f"{path} is truncated: {prefix}{name} ends behind the end of the file")
            found[prefix + name] = _Stored(item.dtype, item.shape, offset, is_text)

    walk(h5, "")
    return found


def _partial_hint(path: Path) -> str | None:
    if partial_path(path).exists():
        return f"{partial_path(path).name} beside it is unfinished: run the command that makes it again and it goes on"
    return None


def _damage_hint(path: Path) -> str:
    return f"it may be damaged or no HDF5 file; remove {path.name} and run the command that makes it again"


def _one_line(e: Exception) -> str:
    return " ".join(str(e).split()) or type(e).__name__


# ---------------------------------------------------------------------------------------------------- writing


def params_digest(params: Mapping) -> str:
    return _hash([json.dumps(params, sort_keys=True, default=str)])


def _hash(parts: Iterable[str | bytes]) -> str:
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()


def make_info(seed: int | None = None) -> dict:
    """What is recorded beside the settings: versions, command line, seed, time."""
    versions = {"fertool": __version__, "python": platform.python_version(), "numpy": np.__version__}
    versions["h5py"] = h5py.__version__
    for name in ("torch", "torchvision", "lightning", "cv2", "dlib"):
        if name in sys.modules:
            versions[name] = str(getattr(sys.modules[name], "__version__", "?"))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {"versions": versions, "command": command, "seed": seed, "created": created}


def up_to_date(path: Path, kind: str, params: Mapping, inputs: Iterable[Parent], *, overwrite: bool = False) -> bool:
    """Whether `path` already holds exactly this work, so that the stage has nothing to do.

    Raises:
        ArtefactError: the file holds other work and `overwrite` is not set; the message lists what differs.
    """
    path = Path(path)
    if not path.exists() or overwrite:
        return False
    old = read(path)
    if old.kind != kind:
        raise ArtefactError(f"{path} already exists and holds {old.kind!r}, not {kind!r}", "choose another --out")
    different = differences(old, params, inputs)
    if not different:
        return True
    raise ArtefactError(
        f"{path} was made with other settings: " + "; ".join(different), "add --overwrite to make it again"
    )


def differences(old: Artefact, params: Mapping, inputs: Iterable[Parent], ignore: Iterable[str] = ()) -> list[str]:
    """What sets this work apart from what a file holds: one entry per setting (dotted key) and parent."""
    new = json.loads(json.dumps(params, sort_keys=True, default=str))
    before, now = flatten(old.params), flatten(new)
    keys = sorted((before.keys() | now.keys()) - set(ignore))
    out = [f"{k} {_show(before.get(k, '-'))} → {_show(now.get(k, '-'))}" for k in keys if before.get(k) != now.get(k)]
    a, b = {p.role: p for p in old.inputs}, {p.role: p for p in inputs}
    for role in sorted(a.keys() | b.keys()):
        if role not in a or role not in b:
            out.append(f"{role} {'added' if role in b else 'no longer given'}")
        elif a[role].digest != b[role].digest:
            out.append(f"another {role} ({a[role].name} → {b[role].name})")
    return out


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted key."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _show(value: object) -> str:
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


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
    with _h5(path) as h5:
        header = [h5.attrs["fertool_kind"], str(h5.attrs["fertool_schema"]), h5.attrs["params"], h5.attrs["classes"]]
        inputs = json.dumps(sorted([p["role"], p["digest"]] for p in json.loads(h5.attrs["inputs"])))
        stored = _survey(h5, path)
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
    with _h5(path, "r+") as h5:
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
            with _h5(tmp, "w") as h5:
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
        with _h5(tmp, "w") as h5:
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
