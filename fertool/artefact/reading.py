"""Opening artefacts: everything is checked, nothing is followed out of the file."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import h5py
import numpy as np

from fertool import __version__
from fertool.artefact import digests
from fertool.artefact.layout import SCHEMA, Parent, one_line, partial_path
from fertool.artefact.schema import Facts, Header, Newer, check_arrays, check_values, read_header
from fertool.artefact.storage import Stored, load, open_h5, state_of, survey
from fertool.errors import ArtefactError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHEAP = 1 << 26  # bytes: an array up to this size is checked whenever it is read; a larger one when all of it is used


class Damaged(ArtefactError):
    """A file that is no HDF5 file any more, as one that was being written when the power went."""


@dataclass(frozen=True)
class Artefact:
    """A complete artefact, opened for reading. Holds no file handle; safe to pickle and to share with workers."""

    path: Path
    kind: str
    schema: int
    uid: str
    digest: str
    complete: bool
    params: Facts
    inputs: tuple[Parent, ...]
    classes: tuple[str, ...] | None
    info: Facts
    stored: dict[str, Stored] = field(repr=False)
    _header: Header = field(repr=False)
    _state: tuple[int, ...] = field(repr=False)
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def rows(self) -> int:
        return self.stored["id"].shape[0] if "id" in self.stored else 0

    @property
    def columns(self) -> list[str]:
        return [name for name in self.stored if "/" not in name]

    def __contains__(self, name: str) -> bool:
        return name in self.stored

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column or array. Numbers come as a read-only memory map, text as an array of str.

        Arrays that are small enough are checked against their digest; `verify` checks the others.

        Raises:
            ArtefactError: there is no such array, its content is not what was written, or the file was replaced.
        """
        s = self._find(name)
        if s.nbytes <= _CHEAP:
            self._check(name)
        values = self._values(name)
        self._find(name)  # again: what was mapped meanwhile may belong to another file
        return values

    def _find(self, name: str) -> Stored:
        if name not in self.stored:
            raise ArtefactError(f"{self.path} has no column {name!r}", f"it has: {', '.join(self.stored)}")
        if _state_of(self.path, self.complete) != self._state:
            raise ArtefactError(f"{self.path} was replaced while it was in use", "run the command again")
        return self.stored[name]

    def _values(self, name: str) -> np.ndarray:
        s = self.stored[name]
        try:
            if s.offset is None or 0 in s.shape:
                with open_h5(self.path) as h5:
                    array = load(h5, name, s)
            else:
                array = np.memmap(self.path, dtype=s.dtype, mode="r", offset=s.offset, shape=s.shape or (1,))
                array = array.reshape(s.shape)
            if not s.is_text:
                return array
            return np.array([v.decode() for v in np.asarray(array).ravel()], dtype=object).reshape(s.shape)
        except UnicodeDecodeError as e:
            raise ArtefactError(f"{self.path}: the text in {name} is not UTF-8", _damage_hint(self.path)) from e
        except (OSError, ValueError, RuntimeError) as e:
            raise ArtefactError(f"{self.path}: {name} cannot be read: {one_line(e)}", _damage_hint(self.path)) from e

    def verify(self, *names: str) -> None:
        """Check arrays, all by default, against their digests and bounds. This object reads each of them once for it.

        Files of earlier versions have no digest of each array: all of such a file is checked at once.

        Raises:
            ArtefactError: arrays are not what was written; the message names them.
        """
        names = names or tuple(self.stored)
        for name in names:
            self._find(name)
        if self.complete and not self._header.digests and self.digest not in self._checked:
            found, _ = self._reading(digests.of_file, self._header.texts, self.schema, self.stored)
            if found != self.digest:
                raise ArtefactError(f"the content of {self.path} does not match its digest", _damage_hint(self.path))
            self._checked.add(self.digest)
        if changed := [name for name in names if self._is_changed(name)]:
            self._refuse(changed)
        for name in names:
            self._check_values(name)

    def _check(self, name: str) -> None:
        """Check an array, unless it has been checked."""
        if name in self._checked:
            return
        if self._is_changed(name):
            self._refuse([name])
        self._check_values(name)

    def _check_values(self, name: str) -> None:
        try:
            if not self.stored[name].is_text:
                check_values(self.kind, name, self._values(name), self.classes)
            elif name not in self._header.digests:
                self._values(name)  # of another program: it may be no UTF-8
        except ValueError as e:
            raise ArtefactError(f"{self.path}: {one_line(e)}", _damage_hint(self.path)) from e
        self._checked.add(name)

    def _is_changed(self, name: str) -> bool:
        written = self._header.digests.get(name) if self.complete and name not in self._checked else None
        return written is not None and self._reading(digests.of_array, name, self.stored[name]) != written

    def _refuse(self, changed: list[str]) -> None:
        self._find(changed[0])  # another file in its place is no damage
        names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ArtefactError(
            f"{self.path}: changed or damaged after it was written, by the digest of: {names}", _damage_hint(self.path)
        )

    def _reading(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return work(self.path, *args)
        except (OSError, ValueError, RuntimeError) as e:
            raise ArtefactError(f"{self.path} cannot be read: {one_line(e)}", _damage_hint(self.path)) from e

    @cached_property
    def ids(self) -> np.ndarray:
        return self["id"]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """Return all arrays below a group, checked, by their path relative to it."""
        prefix = name.rstrip("/") + "/"
        mine = [key for key in self.stored if key.startswith(prefix)]
        for key in mine:
            self._find(key)
            self._check(key)
        return {key[len(prefix) :]: self._values(key) for key in mine}

    def to_pandas(self) -> "pd.DataFrame":
        """Return the columns with one value per row as a table, indexed by id; images, boxes and maps stay out."""
        import pandas as pd

        names = [name for name in self.columns if name != "id" and len(self.stored[name].shape) == 1]
        return pd.DataFrame({name: np.array(self[name]) for name in names}, index=pd.Index(self.ids, name="id"))

    def as_parent(self, role: str | None = None) -> Parent:
        name = f"{self.path.parent.name}/{self.path.name}"
        return Parent(role or self.kind, self.kind, name, self.uid, self.digest)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes.

        Raises:
            ArtefactError: the file has none.
        """
        if self.classes is None:
            raise ArtefactError(f"{self.path} has no classes", "use faces that are labelled with expressions")
        return self.classes

    def parent_digest(self, role: str) -> str:
        """Return the digest of the file it was made from in a role; "" if there was none."""
        found = self.parent(role)
        return found.digest if found else ""

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
        if other.kind == "faces" and not self._rows_match(other):
            raise ArtefactError(f"{self.path}: its rows are not those of {other.path}", _damage_hint(self.path))

    def _rows_match(self, faces: "Artefact") -> bool:
        """Return whether the rows of this file refer to faces that exist, and predictions to those of their ids."""
        if "row" in self.stored:
            rows = np.asarray(self["row"])
            return rows.max(initial=-1) < faces.rows and bool((self.ids == faces.ids[rows]).all())
        return self.kind not in ("masks", "regions", "subsets") or self.rows == faces.rows


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
    with _explained(path), open_h5(path) as h5:
        _require_own(h5, path)
        header = read_header(h5, str(path))
        stored = survey(h5, path)
        state = h5.state
    _require_kind(header, kind, path)
    if not partial and not header.complete:
        raise ArtefactError(f"{path} is not finished", "run the command that makes it again: it will go on")
    try:
        check_arrays(header.kind, stored, header.classes)
    except ValueError as e:
        raise ArtefactError(f"{path}: {e}", _damage_hint(path)) from e
    if header.complete and header.seal not in ("", digests.of_header(header.texts, header.schema, True, stored)):
        raise ArtefactError(f"{path} does not match its seal: it was changed after it was written", _damage_hint(path))
    return Artefact(
        path=path,
        kind=header.kind,
        schema=header.schema,
        uid=header.uid,
        digest=header.digest,
        complete=header.complete,
        params=header.params,
        inputs=header.inputs,
        classes=header.classes,
        info=header.info,
        stored=stored,
        _header=header,
        _state=state if header.complete else state[:1],
    )


def peek(path: Path, kind: str | None = None) -> Header:
    """Read what the attributes of an artefact say, in a small part of the time of `read`, which checks everything.

    Raises:
        ArtefactError: as `read`, but for what lies in arrays and for changed attributes.
    """
    with _explained(path), open_h5(path) as h5:
        _require_own(h5, path)
        header = read_header(h5, str(path), light=True)
    _require_kind(header, kind, path)
    if not header.complete:
        raise ArtefactError(f"{path} is not finished", "run the command that makes it again: it will go on")
    return header


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what can be wrong with a file into an ArtefactError."""
    if not path.is_file():
        raise ArtefactError(f"there is no file {path}", _partial_hint(path))
    if not _looks_like_hdf5(path):
        raise ArtefactError(f"{path} is no HDF5 file, and so no artefact of fertool", _other_hint(path))
    try:
        yield
    except FileNotFoundError:
        raise ArtefactError(f"there is no file {path}", _partial_hint(path)) from None
    except Newer as e:
        raise ArtefactError(
            f"{path} has schema {e}; this fertool {__version__} reads up to {SCHEMA}",
            "a newer fertool wrote it: upgrade with pip install -U fertool",
        ) from e
    except (TypeError, ValueError) as e:
        raise ArtefactError(f"{path} cannot be read as a fertool artefact: {one_line(e)}", _damage_hint(path)) from e
    except (OSError, KeyError, RuntimeError) as e:
        if isinstance(e, OSError) and e.errno:
            raise ArtefactError(
                f"cannot read {path}: {e.strerror}", "make it readable, and run the command again"
            ) from e
        raise Damaged(f"{path} cannot be read as a fertool artefact: {one_line(e)}", _damage_hint(path)) from e


def _require_own(h5: h5py.File, path: Path) -> None:
    if not h5py.h5a.exists(h5.id, b"fertool_kind"):
        raise ArtefactError(f"{path} is an HDF5 file, but not one of fertool's")


def _require_kind(header: Header, kind: str | tuple[str, ...] | None, path: Path) -> None:
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds and header.kind not in kinds:
        raise ArtefactError(
            f"{path} holds {header.kind!r}; {' or '.join(map(repr, kinds))} is needed here",
            f"it was made by: {' '.join(header.info.get('command', []))}",
        )


def _state_of(path: Path, complete: bool) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced or written to; of an unfinished one, only when it is replaced."""
    try:
        state = state_of(path.stat())
    except OSError:
        return None
    return state if complete else state[:1]


def find(parent: Parent, paths: Iterable[Path]) -> Artefact | None:
    """Return the first of these files that a parent describes; missing, unreadable and other files are skipped."""
    for path in paths:
        try:
            found = read(path, parent.kind)
        except ArtefactError:
            continue
        if found.digest == parent.digest:
            return found
    return None


def _partial_hint(path: Path) -> str | None:
    if partial_path(path).exists():
        return f"{partial_path(path).name} beside it is unfinished: run the command that makes it again and it goes on"
    return None


def _looks_like_hdf5(path: Path) -> bool:
    """Return whether a file ends in .h5 or begins as HDF5 does; one that cannot be opened is left to HDF5."""
    if path.name.endswith((".h5", ".partial")):
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return True


def _other_hint(path: Path) -> str:
    """Return the command that takes a file which is no artefact."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return f"a table of images is a dataset: fertool datasets check {path}, then fertool detect-align {path}"
    if suffix in (".safetensors", ".onnx"):
        return f"exported networks are used by: fertool predict --run {path} IMAGES"
    if suffix in (".pt", ".pth", ".dat"):
        return f"weights are used by: fertool train MODEL --init {path}"
    return "artefacts are .h5 files that a stage wrote, e.g. artefacts/NAME/faces.h5"


def _damage_hint(path: Path) -> str:
    return f"it may be damaged; put back a copy of it, or remove it and run the command that makes {path.name} again"
