"""combine: faces of several datasets → one faces file to train on, labels joined by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool import artefact, console, locks
from fertool.artefact import Artefact, Column
from fertool.errors import ArtefactError, DataError, UsageError

#: columns that say who or what a row is: they get the dataset's name in front, so that nobody is two people
_NAMES = ("id", "subject", "sequence")


@dataclass(frozen=True)
class Source:
    """Faces that go in.

    Attributes:
        faces: the faces file.
        name: its dataset's name in the workspace.
        splits: only rows of these splits, all to be trained on; None for every row with the split it has.
    """

    faces: Path
    name: str
    splits: tuple[str, ...] | None = None


@locks.writes("out")
def run(sources: list[Source], *, out: Path, overwrite: bool = False) -> Path:
    """Put the rows of several faces files one after the other.

    The classes are those of the first file, in its order, then what the others have beyond them. Columns that not all
    of them have are left out, as are landmarks of different kinds. The combined file counts as the first one's data
    set: its splits are what is tested on.

    Raises:
        UsageError: fewer than two files, the same one twice, or two of one name.
        DataError: a split that has no rows.
        ArtefactError: faces of different sizes; a file of other work at `out`.
    """
    if len(sources) < 2:
        raise UsageError("combining takes two datasets or more", "e.g. fertool combine sfew fer2013:train")
    names = [s.name for s in sources]
    if len(set(names)) < len(names) or len({s.faces.resolve() for s in sources}) < len(sources):
        raise UsageError("the same dataset is named twice", "name each once: fertool combine sfew fer2013:train,val")
    files = [artefact.read(s.faces, "faces") for s in sources]
    shapes = {f["images"].shape[1:] for f in files}
    if len(shapes) > 1:
        said = ", ".join(f"{n} {_times(f['images'].shape[1:])}" for n, f in zip(names, files, strict=True))
        raise ArtefactError(
            f"the faces are of different sizes: {said}", "make them with one recipe: fertool detect-align --recipe R"
        )
    first = files[0]
    params = {
        **first.params,
        "extra_data": "+".join(str(f.params.get("dataset", n)) for f, n in zip(files[1:], names[1:], strict=True)),
        "combined": [{"name": s.name, "splits": s.splits and list(s.splits)} for s in sources],
    }
    parents = [f.as_parent(f"faces {n}") for f, n in zip(files, names, strict=True)]
    if artefact.up_to_date(out, "faces", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
        return out
    for file in files:
        file.verify()
    for name, other in zip(names[1:], files[1:], strict=True):
        if differing := _differing(first, other):
            console.say(f"note: faces of {name} were made with other settings than those of {names[0]}: {differing}")
    rows = [_rows(f, s) for f, s in zip(files, sources, strict=True)]
    classes = tuple(dict.fromkeys(c for f in files for c in f.classes or ()))
    with artefact.begin(
        out,
        "faces",
        columns={"images": Column("u1", first["images"].shape[1:])},
        known=_columns(files, sources, rows, classes),
        params=params,
        inputs=parents,
        classes=classes,
        overwrite=overwrite,
    ) as writer:
        _fill(writer, files, rows)
        writer.finish()
    return out


def summary(path: Path) -> dict:
    """Return faces by dataset and split, and labels by class."""
    made = artefact.read(path, "faces")
    label, split = np.asarray(made["label"]), made["split"]
    origin = np.array([i.partition("/")[0] for i in made.ids])
    return {
        "faces": made.rows,
        "classes": list(made.classes or ()),
        "from": {
            part["name"]: {s: int(((origin == part["name"]) & (split == s)).sum()) for s in sorted(set(split.tolist()))}
            for part in made.params["combined"]
        },
        "labels": {c: int((label == i).sum()) for i, c in enumerate(made.classes or ())}
        | {"none": int((label < 0).sum())},
    }


def report(facts: dict) -> None:
    """Print a line per dataset."""
    splits = list(next(iter(facts["from"].values())))
    rows = [(name, *(f"{n[s]:,}" for s in splits), f"{sum(n.values()):,}") for name, n in facts["from"].items()]
    console.show(
        console.table(f"{facts['faces']:,} faces", ("dataset", *(s or "no split" for s in splits), "all"), rows)
    )
    console.say("labels: " + ", ".join(f"{c} {n:,}" for c, n in facts["labels"].items()))


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))


def _differing(a: Artefact, b: Artefact) -> str:
    """Return how the faces were made differently."""
    keys = ("detector", "landmarks", "align", "template", "margin", "illumination", "on_no_face")
    pairs = {k: (a.params.get(k), b.params.get(k)) for k in keys}
    return "; ".join(f"{k} {y} instead of {x}" for k, (x, y) in pairs.items() if x != y)


def _rows(faces: Artefact, source: Source) -> np.ndarray:
    """Return indices of the rows that go in."""
    if source.splits is None:
        return np.arange(faces.rows)
    split = faces["split"]
    there = sorted({s for s in split.tolist() if s})
    if unknown := [s for s in source.splits if s not in there]:
        raise DataError(f"{source.name} has no split {unknown[0]!r}", f"it has: {', '.join(there) or 'none'}")
    return np.flatnonzero(np.isin(split, source.splits))


def _columns(
    files: list[Artefact], sources: list[Source], rows: list[np.ndarray], classes: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Return all columns but the images, one file's rows after the other's."""
    shared = set(files[0].columns).intersection(*(f.columns for f in files[1:])) - {
        "images",
        "status",
        *artefact.UNHASHED,
    }
    known = {}
    for name in sorted(shared):
        parts = []
        for f, source, index in zip(files, sources, rows, strict=True):
            values = np.asarray(f[name])[index]
            if name in _NAMES:
                values = np.array([f"{source.name}/{v}" if v else "" for v in values.tolist()], object)
            elif name == "split" and source.splits is not None:
                values = np.full(len(values), "train", object)
            elif name == "label":
                place = np.array([*(classes.index(c) for c in f.classes or ()), -1], np.int16)
                values = place[values]
            elif name == "label_distribution":
                spread = np.zeros((len(values), len(classes)), np.float32)
                spread[:, [classes.index(c) for c in f.classes or ()]] = values
                values = spread
            parts.append(values)
        if len({p.shape[1:] for p in parts}) == 1 and len({p.dtype.kind for p in parts}) == 1:
            known[name] = np.concatenate(parts)
    return known


def _fill(writer: artefact.Writer, files: list[Artefact], rows: list[np.ndarray]) -> None:
    """Copy the images, each once, through any interruption."""
    start, pending = 0, set(writer.pending.tolist())
    with console.progress("combine", len(pending), "face") as advance:
        for f, index in zip(files, rows, strict=True):
            images, status = f["images"], np.asarray(f["status"])
            for to, row in enumerate(index.tolist(), start):
                if to in pending:
                    writer.write(to, int(status[row]), images=images[row])
                    advance()
            start += len(index)
