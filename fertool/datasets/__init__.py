"""Datasets: which there are, and which one a tree on disk is."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fertool import plugins
from fertool.datasets.affectnet import AffectNet
from fertool.datasets.base import Dataset, some
from fertool.datasets.celeba import CelebA
from fertool.datasets.ckplus import CkPlus
from fertool.datasets.disk import ARCHIVES, CLASSES, few
from fertool.datasets.fedro import FedRo
from fertool.datasets.fer2013 import Fer2013
from fertool.datasets.ferplus import FerPlus
from fertool.datasets.folder import Folder
from fertool.datasets.happei import Happei
from fertool.datasets.mmi import Mmi
from fertool.datasets.oulu_casia import OuluCasia
from fertool.datasets.rafd import RaFD
from fertool.datasets.rafdb import RafDb
from fertool.datasets.rendered import Rendered
from fertool.datasets.sfew import Sfew
from fertool.datasets.table import ENDINGS, Table, find_tables
from fertool.datasets.tabular import header
from fertool.errors import DataError, UsageError

#: in the order in which they are recognised: what is named by its own files first
DATASETS: tuple[type[Dataset], ...] = (
    Rendered,
    FerPlus,
    Fer2013,
    RafDb,
    AffectNet,
    Sfew,
    CkPlus,
    OuluCasia,
    Mmi,
    RaFD,
    CelebA,
    FedRo,
    Happei,
    Table,
    Folder,
)


def get(name: str) -> type[Dataset]:
    """Return the dataset of a name, or of a plugin, see `fertool.plugins`.

    Raises:
        UsageError: there is none, with the nearest name.
    """
    for cls in DATASETS:
        if cls.name == name.lower():
            return cls
    own: type[Dataset] = plugins.resolve("datasets", name).object
    return own


def recognise(root: Path | str) -> tuple[type[Dataset], str]:
    """Return the dataset that lies at `root`, and a sentence that says why.

    Raises:
        DataError: nothing is there, the folder is empty, or no dataset's layout is found in it.
    """
    root = _existing(root)
    for cls in DATASETS:
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
    layouts = "the layouts: fertool datasets; every image in it and below, without labels: --dataset folder"
    if any(p.name.isdecimal() and p.is_dir() for p in few(root)):
        layouts = f"if the numbers are classes, name them in {root / CLASSES}, a line for each (3 happy); {layouts}"
    raise DataError(
        f"{root} has the layout of no dataset known here. It holds: {some(p.name for p in few(root))}. "
        "Looked for: " + "; ".join(f"{cls.marks} ({cls.name})" for cls in DATASETS),
        layouts,
    )


def open_dataset(
    root: Path | str,
    name: str | None = None,
    *,
    image_folder: Path | None = None,
    usual: Mapping[str, str] | None = None,
    **options: str | None,
) -> Dataset:
    """Open the dataset at `root`: the named one, else the one recognised.

    Options that are None were not given. The default of an option that only other datasets have asks for nothing.

    Args:
        image_folder: of a table, the folder that its paths are relative to; None for its own.
        usual: what a recipe says, which may be used for several datasets: likewise, it asks nothing of those without
            such an option.

    Raises:
        DataError: nothing is there, or it is not recognised.
        UsageError: no dataset of that name, or an option it does not take.
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
    defaults = {(option, allowed[0]) for c in DATASETS for option, allowed in c.options.items()}
    defaults |= set((usual or {}).items())
    asked = {o: v for o, v in options.items() if v is not None and (o in cls.options or (o, v) not in defaults)}
    return cls(_existing(root), **asked)


def check(
    name: str | None,
    root: Path | str,
    *,
    image_folder: Path | None = None,
    usual: Mapping[str, str] | None = None,
    **options: str | None,
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
