"""Opening artefacts: everything is checked, nothing is followed out of the file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from fertool import __version__
from fertool.artefact.layout import REQUIRED, SCHEMA, Parent, one_line, open_h5, partial_path
from fertool.errors import ArtefactError


@dataclass(frozen=True)
class Stored:
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
    stored: dict[str, Stored] = field(repr=False)
    inode: int = field(repr=False)

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
        if self.path.stat().st_ino != self.inode:
            raise ArtefactError(f"{self.path} was replaced while it was in use", "run the command again")
        if s.offset is None or 0 in s.shape or s.shape == ():
            with open_h5(self.path) as h5:
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
        with open_h5(path) as h5:
            attrs = dict(h5.attrs)
            if "fertool_kind" not in attrs:
                raise ArtefactError(f"{path} is an HDF5 file, but not one of fertool's")
            if int(attrs["fertool_schema"]) > SCHEMA:
                raise ArtefactError(
                    f"{path} has schema {attrs['fertool_schema']}; this fertool {__version__} reads up to {SCHEMA}",
                    "a newer fertool wrote it: upgrade with pip install -U fertool",
                )
            stored = survey(h5, path)
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
                inode=path.stat().st_ino,
            )
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as e:
        raise ArtefactError(f"{path} cannot be read as a fertool artefact: {one_line(e)}", _damage_hint(path)) from e
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


def find(parent: Parent, paths: Iterable[Path]) -> Artefact | None:
    """The first of these files that holds what an artefact was made from. Files that are not there, cannot be read or
    hold something else are passed over."""
    for path in paths:
        try:
            found = read(path, parent.kind)
        except ArtefactError:
            continue
        if found.digest == parent.digest:
            return found
    return None


def _json(attrs: Mapping, name: str, kind) -> object:
    value = json.loads(attrs[name])
    if not isinstance(value, kind):
        raise ValueError(f"its attribute {name} is malformed")
    return value


def survey(h5: h5py.File, path: Path) -> dict[str, Stored]:
    """Find every dataset without following anything that leads out of the file."""
    found: dict[str, Stored] = {}
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
            found[prefix + name] = Stored(item.dtype, item.shape, offset, is_text)

    walk(h5, "")
    return found


def _partial_hint(path: Path) -> str | None:
    if partial_path(path).exists():
        return f"{partial_path(path).name} beside it is unfinished: run the command that makes it again and it goes on"
    return None


def _damage_hint(path: Path) -> str:
    return f"it may be damaged or no HDF5 file; remove {path.name} and run the command that makes it again"
