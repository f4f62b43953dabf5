"""What an artefact of each kind holds: types of its attributes, types and shapes of its arrays, bounds of their values.

Everything that is read goes through `read_header`, `check_arrays` and `check_values`; no other place has to doubt what
an artefact says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import h5py
import numpy as np
from typing_extensions import TypedDict

from fertool.artefact.layout import KINDS, SCHEMA, Parent
from fertool.artefact.storage import Stored
from fertool.errors import ArtefactError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: attributes that every file has; `digests` and `seal` came later and may be missing
ATTRIBUTES = (
    "fertool_kind", "fertool_schema", "uid", "complete", "digest", "params", "inputs", "classes", "info",
)  # fmt: skip
ADDED = ("digests", "seal")

_LONGEST = 1 << 24  # bytes of an attribute
_DEEPEST = 24  # levels of JSON
_DIGITS = 25  # of a number in JSON
_MOST_CLASSES = 10_000


class Facts(dict):
    """A JSON object of an artefact. To ask for what it does not hold is an error of the file, not of the program."""

    def __init__(self, values: Mapping, where: str = "the artefact"):  # dataclasses.asdict copies it without the place
        super().__init__(values)
        self.where = where

    def __missing__(self, key: str) -> NoReturn:
        raise ArtefactError(f"{self.where} does not say {key!r}", "make the file again with this fertool")

    def __reduce__(self) -> tuple[type["Facts"], tuple[dict, str]]:
        return Facts, (dict(self), self.where)


# -------------------------------------------------------------------------------------------------- attributes


class _Info(TypedDict, total=False):
    versions: dict[str, str]
    command: list[str]
    seed: int | None
    created: str
    seconds: list[float]
    waited: list[float]
    device: str
    summary: dict[str, Any]
    prepared: "_Prepared"
    lineage: "_Lineage"
    report: dict[str, Any]


class _Prepared(TypedDict, total=False):
    faces: "_Faces"
    regions: "_Regions | None"
    sdm: str | None


class _Lineage(TypedDict, total=False):
    faces: int | None
    datasets: list[str]
    folds: dict[str, Any] | None
    masks: dict[str, Any] | None
    init: dict[str, Any]
    part: dict[str, Any] | None


class _Faces(TypedDict, total=False):
    dataset: str
    detector: str
    landmarks: str
    align: str
    template: str
    template_points: list[list[float]]
    illumination: str
    diffusion: float
    clip_fraction: float
    box: list[float] | None
    on_no_face: str
    pose: str
    extra_data: str
    views: str
    frames: str
    combined: list["_Combined"]
    types: list[str]
    severities: list[float]
    plugins: dict[str, str]


class _Combined(TypedDict):
    name: str
    splits: list[str] | None


class _Masks(TypedDict, total=False):
    grid: int
    region_size_order: str
    lip_point: int
    regions: list[str]
    groups: dict[str, list[str]]
    train_samples: int
    val_samples: int


class _Regions(TypedDict, total=False):
    mode: str
    regions: list[str]


class _Predictions(TypedDict, total=False):
    plugins: dict[str, str]
    split: str
    weights: str
    precision: str


class _Landmarks(TypedDict, total=False):
    points: int
    mirror: bool


class _Figures(TypedDict, total=False):
    figures: dict[str, dict[str, Any]]


class _Train(TypedDict, total=False):
    init: str
    labels: str
    train_splits: list[str]
    val_split: str
    fold: int | None
    select_on: Literal["last", "val", "test"]
    epochs: float
    iterations: int | None
    track: list[str]
    track_every: int


class _Model(TypedDict, total=False):
    name: str


class _Run(TypedDict, total=False):
    recipe: str
    variant: str
    model: _Model
    train: _Train
    plugins: dict[str, str]


_PARAMS: dict[str, Any] = {
    "faces": _Faces,
    "masks": _Masks,
    "regions": _Regions,
    "run": _Run,
    "predictions": _Predictions,
    "landmarks": _Landmarks,
    "figures": _Figures,
}


#: what a file of weights says of its network
_NETWORK: dict[str, Any] = {
    "model": _Model,
    "classes": list[str],
    "prepared": _Prepared,
    "train": _Train,
    "plugins": dict[str, str],
}


class _ParentFacts(TypedDict):
    role: str
    kind: str
    name: str
    uid: str
    digest: str


@cache
def _checker(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter  # slow to import, and `fertool --help` imports this module

    return TypeAdapter(kind)


def _typed(value: Any, kind: Any, name: str) -> None:
    from pydantic import ValidationError

    try:
        _checker(kind).validate_python(value, strict=True)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(map(str, (name, *first["loc"])))
        raise ValueError(f"{key}: {first['msg'].lower()} (it is {_short(first['input'])})") from None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


@dataclass(frozen=True)
class Header:
    """The attributes of a file, checked; `texts` holds them as they are stored."""

    kind: str
    schema: int
    uid: str
    digest: str
    complete: bool
    params: Facts
    inputs: tuple[Parent, ...]
    classes: tuple[str, ...] | None
    info: Facts
    digests: dict[str, str]
    seal: str
    texts: dict[str, str]


class Newer(ValueError):
    """A file of a schema that this fertool does not know."""


def read_header(h5: h5py.File, where: str, *, light: bool = False) -> Header:
    """Read and check the attributes of a file.

    Args:
        light: leave out uid and classes, the digests of its arrays and the seal over them.

    Raises:
        Newer: a newer fertool wrote it.
        ValueError: an attribute is missing, or of another type than it should be; the message names it.
    """
    schema = _number(h5, "fertool_schema")
    if schema > SCHEMA:
        raise Newer(schema)
    if schema < 1:
        raise ValueError(f"its attribute fertool_schema is {schema}")
    complete = _scalar(h5, "complete")
    if not isinstance(complete, bool | np.bool_):
        raise ValueError("its attribute complete is neither true nor false")
    leave_out = ("fertool_schema", "complete", *(("uid", "classes", *ADDED) if light else ()))
    names = [n for n in (*ATTRIBUTES, *ADDED) if n not in leave_out]
    texts = {name: _text(h5, name) for name in names if name not in ADDED or _attribute(h5, name)}
    if (kind := texts["fertool_kind"]) not in KINDS:
        raise ValueError(f"its kind is {_short(kind)}, none of {', '.join(KINDS)}")
    params = _json(texts, "params", where)
    _typed(params, _PARAMS.get(kind, dict[str, Any]), "params")
    inputs = _json(texts, "inputs", where)
    _typed(inputs, list[_ParentFacts], "inputs")
    classes = _json(texts, "classes", where) if "classes" in texts else None
    _typed(classes, list[str] | None, "classes")
    if classes is not None and (len(set(classes)) < len(classes) or not all(classes) or len(classes) > _MOST_CLASSES):
        raise ValueError("its attribute classes has a name twice, or an empty one")
    info = _json(texts, "info", where)
    _typed(info, _Info, "info")
    digests = _json(texts, "digests", where) if "digests" in texts else {}
    _typed(digests, dict[str, str], "digests")
    return Header(
        kind=kind,
        schema=schema,
        uid=texts.get("uid", ""),
        digest=texts["digest"].strip(),
        complete=bool(complete),
        params=params,
        inputs=tuple(Parent(**{k: p[k] for k in _ParentFacts.__annotations__}) for p in inputs),
        classes=tuple(classes) if classes else None,
        info=info,
        digests=digests,
        seal=texts.get("seal", "").strip(),
        texts=texts,
    )


def network_facts(texts: Mapping[str, str], name: str, where: str) -> Any:
    """Read what a file of weights says of its network: its `model`, `classes`, `prepared` or `train`, as JSON.

    Raises:
        ValueError: it is of another type than it should be, or incomplete; the message says where.
    """
    value = _json(texts, name, where)
    _typed(value, _NETWORK[name], name)
    if name == "prepared" and (missing := _Prepared.__annotations__.keys() - value.keys()):
        raise ValueError(f"prepared does not say {', '.join(sorted(missing))}")
    return value


def _number(h5: h5py.File, name: str) -> int:
    value = _scalar(h5, name)
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ValueError(f"its attribute {name} is {_short(value)}, not an integer")
    return int(value)


def _attribute(h5: h5py.File, name: str) -> h5py.h5a.AttrID | None:
    """Return an attribute without `h5.attrs`, which takes four times as long; None if there is none."""
    try:
        return h5py.h5a.open(h5.id, name.encode())
    except KeyError:
        return None


def _value(kept: h5py.h5a.AttrID) -> Any:
    stored = np.empty((), kept.dtype)
    kept.read(stored)
    return stored[()]


def _scalar(h5: h5py.File, name: str) -> Any:
    """Return the value of an attribute that should be a single number; None if it is none."""
    kept = _attribute(h5, name)
    return _value(kept) if kept is not None and kept.shape == () and kept.dtype.kind in "biu" else None


def _text(h5: h5py.File, name: str) -> str:
    if (kept := _attribute(h5, name)) is None:
        raise ValueError(f"it has no attribute {name}")
    dtype = kept.dtype
    if kept.shape != () or dtype.kind not in "SO" or kept.get_storage_size() > _LONGEST:
        raise ValueError(f"its attribute {name} is no text")
    value = _value(kept) if dtype.kind == "S" else h5.attrs[name]
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError(f"its attribute {name} is no text")
    return value


def _json(texts: Mapping[str, str], name: str, where: str) -> Any:
    def constant(said: str) -> float:
        if name == "info":
            return float(said)
        raise ValueError(f"its attribute {name} holds {said}")

    try:
        value = json.loads(
            texts[name], object_hook=lambda d: Facts(d, where), parse_int=_whole, parse_constant=constant
        )
    except RecursionError:
        value = None
    if (value is None and texts[name].strip() != "null") or _depth(value) > _DEEPEST:
        raise ValueError(f"its attribute {name} is nested too deeply")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [v for x in level if isinstance(x, list | dict) for v in (x.values() if isinstance(x, dict) else x)]:
        depth += 1
        if depth > _DEEPEST:
            break
    return depth


# ------------------------------------------------------------------------------------------------------ arrays


@dataclass(frozen=True)
class Array:
    """An array of a file.

    Attributes:
        types: numpy's letters of the types it may have: "b", "i", "u", "f", "S" for text, "B" for bytes.
        shape: of each axis the size, a tuple of sizes, or a name for a size that is the same everywhere in the file
            ("N" rows, "classes"); "*" at the end for any further axes.
        low, high: bounds of its values, inclusive; "classes" for the last class.
        finite: infinite values and NaN are errors.
    """

    types: str
    shape: tuple = ("N",)
    low: float | None = None
    high: float | str | None = None
    finite: bool = False


_LABEL = Array("iu", low=-1, high="classes")
_STATUS = Array("iu", low=0, high=5)

#: kind -> pattern of a name -> its array; the first pattern that fits counts
_ARRAYS: dict[str, dict[str, Array]] = {
    "faces": {
        "id": Array("S"),
        "images": Array("B", ("N", "H", "W", (1, 3))),
        "status": _STATUS,
        "label": _LABEL,
        "split": Array("S"),
        "subject": Array("S"),
        "sequence": Array("S"),
        "problem": Array("S"),
        "frame": Array("iu"),
        "faces_found": Array("iu"),
        "label_distribution": Array("f", ("N", "classes")),
        "bbox": Array("f", ("N", 4)),
        "score": Array("f"),
        "landmarks": Array("f", ("N", "K", 2)),
        "transform": Array("f", ("N", 2, 3)),
        "pose": Array("f", ("N", 3)),
        "pose_error": Array("f"),
        "source_digest": Array("B", ("N", 16)),
        "source_stat": Array("i", ("N", 3)),
        "severity": Array("f"),
        "true_occlusion": Array("S"),
        "true_yaw": Array("f"),
        "true_pitch": Array("f"),
    },
    "masks": {
        "id": Array("S"),
        "masks": Array("B", ("N", "R", "h", "w")),
        "valid": Array("b"),
        "groups": Array("iu", ("N", "G"), low=-1, high=1),
        "drawn": Array("iu", ("N", "G"), low=0, high=2),
    },
    "regions": {
        "id": Array("S"),
        "boxes": Array("f", ("N", "K", 4), finite=True),
        "pixels": Array("B", ("N", "K", "h", "w", (1, 3))),
    },
    "subsets": {
        "id": Array("S"),
        "fold": Array("iu", low=-1, high=1e6),
        "list_label": _LABEL,
        "list_split": Array("S"),
        "occlusion_type": Array("S"),
    },
    "predictions": {
        "id": Array("S"),
        "row": Array("iu", low=0),
        "status": _STATUS,
        "label": _LABEL,
        "subject": Array("S"),
        "logits": Array("f", ("N", "classes"), finite=True),
        "attention_*": Array("f", ("N", "*")),
    },
    "run": {
        "weights/*/*": Array("biuf", ("*",)),
        "history/loss": Array("f", ("E",), finite=True),
        "history/*": Array("f", ("E",)),
        "state/epoch": Array("iu", (), low=0),
        "state/step": Array("iu", (), low=0),
        "state/iteration": Array("iu", (), low=0),
        "state/best": Array("f", ()),
        "state/finished": Array("b", ()),
        "state/rng/*": Array("B", ("*",)),
        "state/*": Array("biuf", ()),
        "trace/iteration": Array("iuf", ("T",)),
        "trace/*": Array("iuf", ("T", "*")),
    },
    "landmarks": {
        "mean": Array("f", ("K", 2), finite=True),
        "cells": Array("f", ("S",), finite=True),
        "error": Array("f", (None,)),
        "faces": Array("iu", ()),
        "steps/*/weights": Array("f", (None, None)),
        "steps/*/bias": Array("f", (None,)),
    },
    "figures": {},
}

#: columns without which a table makes no sense; of a set, one
_REQUIRED: dict[str, tuple] = {
    "faces": ("id", "images", "status", "label", "split"),
    "masks": ("id", ("masks", "groups")),
    "regions": ("id", "boxes"),
    "subsets": ("id",),
    "predictions": ("id", "row", "label", "logits"),
}


def _rule(kind: str, name: str) -> Array | None:
    rules = _ARRAYS[kind]
    return rules.get(name) or next((r for pattern, r in rules.items() if fnmatchcase(name, pattern)), None)


def check_arrays(kind: str, stored: Mapping[str, Stored], classes: tuple[str, ...] | None) -> None:
    """Check which arrays a file has, their types and shapes.

    Raises:
        ValueError: the message names the array and says what it should be.
    """
    missing = [
        " or ".join(names)
        for names in ((n,) if isinstance(n, str) else n for n in _REQUIRED.get(kind, ()))
        if not any(n in stored for n in names)
    ]
    if missing:
        raise ValueError(f"it lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}")
    sizes: dict[str, tuple[int, str]] = {}
    if kind in _REQUIRED:
        lengths = {s.shape[0] for name, s in stored.items() if "/" not in name and s.shape}
        if len(lengths) > 1:
            raise ValueError(f"it has columns of different lengths: {sorted(lengths)}")
        if lengths == {0}:
            raise ValueError("it has no rows")
    if classes is not None:
        sizes["classes"] = len(classes), "classes"
    for name, s in stored.items():
        if rule := _rule(kind, name):
            _check_array(name, s, rule, sizes)
        elif kind in _REQUIRED and "/" not in name and not s.shape:
            raise ValueError(f"{name} is a single value, not a column")


def _check_array(name: str, s: Stored, rule: Array, sizes: dict[str, tuple[int, str]]) -> None:
    if not (s.dtype == np.uint8 if rule.types == "B" else ("S" if s.is_text else s.dtype.kind) in rule.types):
        allowed = " or ".join(_TYPES[t] for t in rule.types)
        raise ValueError(f"{name} holds {'text' if s.is_text else s.dtype}, not {allowed}")
    axes = rule.shape
    fits = len(s.shape) >= len(axes) - 1 if axes[-1:] == ("*",) else len(s.shape) == len(axes)
    for axis, size in zip(axes, s.shape, strict=False):
        if isinstance(axis, int):
            fits &= size == axis
        elif isinstance(axis, tuple):
            fits &= size in axis
        elif isinstance(axis, str) and axis != "*":
            known, where = sizes.setdefault(axis, (size, name))
            if known != size:
                raise ValueError(f"{name} has the shape {s.shape}, which does not go with {where}")
            fits &= size > 0 or axis in ("E", "T")
    if not fits:
        said = ", ".join(
            "any" if a is None else " or ".join(map(str, a)) if isinstance(a, tuple) else str(a) for a in axes
        )
        raise ValueError(f"{name} has the shape {s.shape}, not ({said})")


_TYPES = {
    "B": "bytes",
    "b": "true or false",
    "i": "integers",
    "u": "unsigned integers",
    "f": "floating-point numbers",
    "S": "text",
}


def check_values(kind: str, name: str, values: np.ndarray, classes: tuple[str, ...] | None) -> None:
    """Check the bounds of an array's values.

    Raises:
        ValueError: the message names the array and the value that is out of bounds.
    """
    rule = _rule(kind, name)
    if rule is None or not values.size:
        return
    if rule.finite and not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    high = len(classes or ()) - 1 if rule.high == "classes" else rule.high
    if rule.low is not None and values.min() < rule.low:
        raise ValueError(f"{name} holds {values.min()}, which is less than {rule.low}")
    if high is not None and values.max() > high:
        raise ValueError(f"{name} holds {values.max()}, which is more than {high}")
