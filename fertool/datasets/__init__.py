"""Data sets: which there are, and which one a tree on disk is."""

import os
from pathlib import Path

from fertool.datasets.base import Dataset
from fertool.datasets.fer2013 import Fer2013
from fertool.datasets.ferplus import FerPlus
from fertool.errors import DataError, UsageError, nearest

#: in the order in which they are recognised: what is named by its own files first
DATASETS: tuple[type[Dataset], ...] = (FerPlus, Fer2013)


def get(name: str) -> type[Dataset]:
    """The data set of a name.

    Raises:
        UsageError: there is none, with the nearest name.
    """
    for cls in DATASETS:
        if cls.name == name.lower():
            return cls
    raise UsageError(f"there is no data set {name!r}", nearest(name, [cls.name for cls in DATASETS]))


def recognise(root: Path | str) -> tuple[type[Dataset], str]:
    """Which data set lies at `root`, and a sentence that says why.

    Raises:
        DataError: nothing is there, the folder is empty, or no data set's layout is found in it.
    """
    root = _existing(root)
    for cls in DATASETS:
        if why := cls.matches(root):
            return cls, f"{root} is taken for {cls.name}: {why}"
    known = ", ".join(cls.name for cls in DATASETS)
    raise DataError(
        f"{root} has the layout of no data set known here (looked for: {known})",
        "the layouts: fertool datasets; to name it yourself: --dataset NAME",
    )


def open_dataset(root: Path | str, name: str | None = None, **options: str | None) -> Dataset:
    """The data set at `root`: the named one, else the one recognised.

    Options that are None were not given. The default of an option that only other data sets have asks for nothing.

    Raises:
        DataError: nothing is there, or it is not recognised.
        UsageError: no data set of that name, or an option it does not take.
    """
    cls = get(name) if name else recognise(root)[0]
    defaults = {(option, allowed[0]) for c in DATASETS for option, allowed in c.options.items()}
    asked = {o: v for o, v in options.items() if v is not None and (o in cls.options or (o, v) not in defaults)}
    return cls(_existing(root), **asked)


def _existing(root: Path | str) -> Path:
    root = Path(root)
    if not root.exists():
        raise DataError(f"there is nothing at {root}")
    if root.is_dir() and not any(os.scandir(root)):
        raise DataError(f"{root} is empty")
    return root
