"""Datasets: which there are, and which one a tree on disk is."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fertool import plugins
from fertool.datasets.base import Dataset, some
from fertool.datasets.disk import ARCHIVES, CLASSES, few
from fertool.datasets.table import ENDINGS, Table, find_tables
from fertool.datasets.tabular import header
from fertool.errors import DataError, UsageError


def layouts() -> tuple[type[Dataset], ...]:
    """Return the built-in datasets and those of installed packages, in the order in which they are recognised."""
    found = (plugin.object for plugin in plugins.every("datasets"))
    return tuple(sorted(dict.fromkeys(found), key=lambda cls: (cls.priority, cls.name)))


def get(name: str) -> type[Dataset]:
    """Return the dataset of a name, or of a plugin, see `fertool.plugins`.

    Raises:
        UsageError: there is none, with the nearest name.
    """
    known = name.lower()
    own: type[Dataset] = plugins.resolve("datasets", known if known in plugins.names("datasets") else name).object
    return own


def recognise(root: Path | str) -> tuple[type[Dataset], str]:
    """Return the dataset that lies at `root`, and a sentence that says why.

    Raises:
        DataError: nothing is there, the folder is empty, or no dataset's layout is found in it.
    """
    root = _existing(root)
    for cls in layouts():
        if why := cls.matches(root):
            return cls, f"{root} is taken for {cls.name}: {why}"
    if root.is_file():
        held = f", its columns are: {some(header(root), 12)}" if root.suffix.lower() in ENDINGS else ""
        raise DataError(
            f"{root} is neither an image nor a table with a column 'path'{held}",
            "call the column of the image files path" if held else "name a folder of images, or a table of them",
        )
    if tables := find_tables(root):
        raise DataError(f"{root} holds several tables of images: {some(p.name for p in tables)}", "name one instead")
    if archives := [p for p in few(root) if p.suffix.lower() in ARCHIVES and p.is_file()]:
        raise DataError(
            f"{root} holds archives ({some(p.name for p in archives)}) and no dataset", _unpack(archives[0])
        )
    hint = "the layouts: fertool datasets; every image in it and below, without labels: --dataset folder"
    if any(p.name.isdecimal() and p.is_dir() for p in few(root)):
        hint = f"if the numbers are classes, name them in {root / CLASSES}, a line for each (3 happy); {hint}"
    raise DataError(
        f"{root} has the layout of no dataset known here. It holds: {some(p.name for p in few(root))}. "
        "Looked for: " + "; ".join(f"{cls.marks} ({cls.name})" for cls in layouts()),
        hint,
    )


def open_dataset(
    root: Path | str,
    name: str | None = None,
    *,
    image_folder: Path | None = None,
    usual: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Open the dataset at `root`: the named one, else the one recognised.

    Args:
        image_folder: of a table, the folder that its paths are relative to; None for its own.
        usual: options of a recipe, which may be used for several datasets: those that a dataset does not have are
            passed over.
        options: of the dataset, see its `Options`.

    Raises:
        DataError: nothing is there, or it is not recognised.
        UsageError: no dataset of that name, or an option that it does not have.
        RecipeError: a value that an option does not take.
    """
    cls = get(name) if name else recognise(root)[0]
    if image_folder is not None:
        if not issubclass(cls, Table):
            raise UsageError(f"--images is for a table of images, {root} is read as {cls.name}", "leave it out")
        if not image_folder.is_dir():
            raise DataError(
                f"there is no folder {image_folder}", "--images takes the folder that paths are relative to"
            )
        return cls(_existing(root), images=image_folder)
    known = cls.option_names()
    asked = {o: v for o, v in options.items() if o in known or (usual or {}).get(o) != v}
    if strange := next((o for o in asked if o not in known), None):
        owners = [c.name for c in layouts() if strange in c.option_names()]
        own = f"it has: {', '.join(known)}" if known else "it has none"
        raise UsageError(
            f"the dataset {cls.name} has no option {strange!r}",
            f"that is an option of {', '.join(owners)}" if owners else own,
        )
    return cls(_existing(root), **asked)


def check(
    name: str | None,
    root: Path | str,
    *,
    image_folder: Path | None = None,
    usual: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict:
    """Return what there is of a dataset and everything that is wrong with it, ready for JSON.

    Returns:
        dataset, root, usable, classes, samples, expected (split -> number in the complete dataset),
        splits (split -> {"samples", "labelled", "classes": {emotion: number}}; "" is the split of data without one),
        problems ([{"message", "path", "fatal"}]).

    Raises:
        DataError, UsageError: as `open_dataset`; what is wrong inside the dataset is in `problems`.
    """
    dataset = open_dataset(root, name, image_folder=image_folder, usual=usual, **options)
    problems = dataset.problems()
    usable = not any(problem.fatal for problem in problems)
    counts = Counter((sample.split, sample.label) for sample in (dataset.samples() if usable else ()))
    splits = {}
    for split in sorted({split for split, _ in counts}, key=("train", "val", "test", "").index):
        classes = {c: counts[split, c] for c in dataset.classes}
        labelled = sum(classes.values())
        splits[split] = {"samples": labelled + counts[split, None], "labelled": labelled, "classes": classes}
    return {
        "dataset": dataset.name,
        "root": str(root),
        "usable": usable,
        "classes": list(dataset.classes),
        "samples": counts.total(),
        "expected": dict(dataset.expect),
        "splits": splits,
        "problems": [asdict(problem) for problem in problems],
    }


def _existing(root: Path | str) -> Path:
    root = Path(root)
    if not os.path.exists(root):
        raise DataError(f"there is nothing at {root}")
    if root.is_file() and root.suffix.lower() in ARCHIVES:
        raise DataError(f"{root} is an archive", _unpack(root))
    if root.is_dir() and not few(root):
        raise DataError(f"the folder {root} is empty")
    return root


def _unpack(archive: Path) -> str:
    command = f"python -m zipfile -e {archive} FOLDER" if archive.suffix.lower() == ".zip" else f"tar -xf {archive}"
    return f"unpack it first: {command}"
