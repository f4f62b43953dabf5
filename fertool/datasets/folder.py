"""Images in folders.

Layouts: split/class/image, class/split/image, class/image, split/person/image, person/image, or images without labels.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import (
    ARCHIVES,
    CLASSES,
    NOTES,
    SPLITS,
    class_names,
    emotion,
    few,
    is_picture,
    printable,
    walk,
)
from fertool.datasets.table import ENDINGS, find_tables
from fertool.errors import DataError
from fertool.labels import ordered
from fertool.outputs import is_drawn, is_predictions
from fertool.settings import Settings


@dataclass(frozen=True, kw_only=True)
class FolderOptions(Settings):
    """How a folder is read."""

    folders: Annotated[Literal["emotions", "subjects"], "one folder per emotion, or per subject"] = "emotions"


class Folder(Dataset):
    name = "folder"
    priority = 90
    about = "your own images"
    marks = "folders named by emotion, or images"
    layout = """\
train/happy/anna 1.jpg ...       split/class/image (splits: train, val or validation, test), or
happy/train/anna 1.jpg ...       class/split/image, or
happy/anna 1.jpg ...             class/image, or
anna 1.jpg ...                   images without labels, in folders of any other name if you say --dataset folder
Classes in any usual name (happy, Happiness, 3_joy), or numbers if classes.txt beside them says which is which (a line
for each: 3 happy); folders inside a class folder are read too.
train/n000001/1.jpg ...          split/person/image, or
n000001/1.jpg ...                person/image, without expressions, with --set data.folders=subjects"""
    Options = FolderOptions

    def __init__(self, root: Path | str, **options: Any):
        super().__init__(root, **options)
        self.by_person = self.chosen["folders"] == "subjects"
        self.top = _top_of_people(self.root) if self.by_person else _top(self.root)
        #: folder below `top` -> split, label, subject
        self._places: dict[str, tuple[str, str | None, str]] = {}
        self.problems()  # the folders say which classes there are

    @classmethod
    def matches(cls, root: Path) -> str:
        if root.is_file():
            return "it is an image" if is_picture(root.name) else ""
        folders = [root := _top(root)]
        folders += [child for child in few(root) if child.name.lower() in SPLITS and child.is_dir()]
        inside = [child for folder in folders for child in few(folder)]
        names = {child.name for child in inside if child.is_dir()}
        if classes := sorted(name for name in names if emotion(name)):
            return f"it holds folders named by emotion: {some(classes, 8)}"
        if (root / CLASSES).is_file() and any(name.isdecimal() for name in names):
            return f"it holds numbered folders and {CLASSES}"
        unlabelled = any(is_picture(child.name) for child in inside) and not find_tables(root)
        return "it holds images without labels" if unlabelled else ""

    def scan(self) -> Scan:
        if self.root.is_file():
            return Samples([self.root.name], self._sample), []
        problems: list[Problem] = []

        def note(message: str, path: str | Path = self.top, fatal: bool = False) -> None:
            problems.append(Problem(message, str(path), fatal))

        try:
            numbered = {} if self.by_person else class_names(self.top)
        except DataError as e:
            return [], [Problem(e.message)]
        rows: list[str] = []
        strangers: Counter[str] = Counter()
        others: Counter[str] = Counter()
        unlabelled = nobody = drawn = 0
        for below, files in walk(
            self.top,
            apart=lambda below: self._place(below, numbered)[0],
            onerror=lambda e: note(f"cannot be read: {e.strerror}", e.filename),
            skipped=lambda below, first: note(f"{printable(below)} is left out, it is a link to {printable(first)}"),
        ):
            images = [name for name in files if is_picture(name)]
            others.update(ending for name in files if not is_picture(name) and (ending := _ending(name)) not in NOTES)
            names = [name for name in images if not is_drawn(self.top / below / name)]
            drawn += len(images) - len(names)
            if not names:
                continue
            split, label, subject, stranger = self._place(below, numbered)
            if stranger:
                strangers[stranger] += len(names)
            unlabelled += len(names) if label is None else 0
            nobody += len(names) if not subject else 0
            self._places[below] = split, label, subject
            rows += [os.path.join(below, name) for name in names]

        if not rows:
            note("there is no image in it or below" + (_advice(others) if others else ""), fatal=True)
        elif others:
            left_out = some((f"{n:,} {ending}" for ending, n in others.most_common()), 8)
            note(f"{others.total():,} files are left out, their names do not end like an image's: {left_out}")
        if tables := [p.name for p in few(self.top) if p.suffix.lower() in ENDINGS and not is_predictions(p)]:
            note(f"tables beside the folders are not read: {some(tables)}")
        if drawn:
            note(f"{drawn:,} images that fertool drew are left out")
        self.classes = ordered({label for _, label, _ in self._places.values() if label})
        has_splits = any(split for split, _, _ in self._places.values())
        if strangers and (self.classes or has_splits or any(name.isdecimal() for name in strangers)):
            folders = some((f"{printable(name)} ({n:,} images)" for name, n in sorted(strangers.items())), 20)
            say = f"name them in {CLASSES} (lines such as: 3 happy)" if _numbers(strangers) else "rename them"
            note(f"folders that are named by no emotion: {folders}; {say}, or list the images in a CSV", fatal=True)
        elif self.classes and unlabelled:
            note(f"{unlabelled:,} images lie outside the class folders and have no label")
        if self.by_person and nobody:
            note(f"{nobody:,} images lie in no person's folder", fatal=nobody == len(rows))
        if again := [name for name, n in Counter(map(_id, rows)).items() if n > 1]:
            note(f"names that differ only in the form of their characters: {some(again)}; rename one", fatal=True)
        problems += self._linked_splits()
        return Samples(rows, self._sample), problems

    def _linked_splits(self) -> list[Problem]:
        """Return a note for every split that is a link to another one: what is tested on must not be learned from."""
        first: dict[str, str] = {}
        names = sorted({below.split(os.sep)[0] for below in self._places})
        return [
            Problem(f"{name} is the same folder as {other}: both splits hold the same images", str(self.top), False)
            for name in names
            if (other := first.setdefault(os.path.realpath(self.top / name), name)) != name
        ]

    def _sample(self, name: str) -> Sample:
        split, label, subject = self._places.get(os.path.dirname(name), ("", None, ""))
        return Sample(_id(name), self.top / name, label=label, split=split, subject=subject)

    def _place(self, below: str, numbered: dict[int, str]) -> tuple[str, str | None, str, str]:
        """Split, label and subject of the images in a folder, and its name if it should be a class and is none."""
        if self.by_person:
            split, parts = _split(below)
            return split, None, printable(parts[0]) if parts else "", ""
        split, label, stranger = _place(below, numbered)
        return split, label, "", stranger


def _id(name: str) -> str:
    return printable(name.replace(os.sep, "/"))


def _place(below: str, numbered: dict[int, str]) -> tuple[str, str | None, str]:
    """Split and label of the images in a folder, and the name of the folder if it should be a class and is none."""
    label, (split, parts) = None, _split(below)
    if parts:
        label = _class(parts[0], numbered)
        if label and not split and len(parts) > 1:
            split = SPLITS.get(parts[1].lower(), "")
    return split, label, parts[0] if parts and label is None else ""


def _split(below: str) -> tuple[str, list[str]]:
    """Return the split that a folder begins with, and the names after it."""
    parts = below.split(os.sep) if below else []
    split = SPLITS.get(parts[0].lower(), "") if parts else ""
    return split, parts[1:] if split else parts


def _class(name: str, numbered: dict[int, str]) -> str | None:
    return numbered.get(int(name)) if name.isdecimal() and numbered else emotion(name)


def _numbers(names: Counter[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without an ending"


def _advice(others: Counter[str]) -> str:
    """Return what else lies there, and what to do with it."""
    held = some((f"{n:,} {ending}" for ending, n in others.most_common()), 8)
    unpack = "; unpack the archive first" if ARCHIVES & others.keys() else ""
    return f", only files of other kinds: {held}{unpack}"


def _top_of_people(root: Path) -> Path:
    """Return what `_top` does, but a folder that holds images is a person's."""
    top = _top(root)
    return top.parent if root.is_dir() and top != root and any(is_picture(child.name) for child in few(top)) else top


def _top(root: Path) -> Path:
    """Return the folder of the splits, classes or images: `root` itself, or what unpacking put between."""
    while root.is_dir():
        inside = few(root)
        name = inside[0].name if len(inside) == 1 else ""
        if not name or name.lower() in SPLITS or emotion(name) or not inside[0].is_dir():
            return root
        root = inside[0]
    return root.parent
