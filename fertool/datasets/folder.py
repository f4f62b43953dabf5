"""Any photographs in folders: split/class/picture, class/picture, or pictures without labels."""

import os
from collections import Counter
from pathlib import Path

from fertool.datasets.base import Dataset, Problem, Sample, Samples, some
from fertool.datasets.disk import SPLITS, emotion, few, ignored, is_picture, printable
from fertool.labels import ordered


class Folder(Dataset):
    name = "folder"
    about = "your own photographs"
    marks = "folders named by emotion, or pictures"
    layout = """\
train/happy/anna 1.jpg ...       split/class/picture (splits: train, val or validation, test), or
happy/anna 1.jpg ...             class/picture, or
anna 1.jpg ...                   pictures without labels, in folders of any other name if you say --dataset folder
Classes in any usual name (happy, Happiness, 3_joy); folders inside a class folder are read too."""

    def __init__(self, root: Path | str, **options: str):
        super().__init__(root, **options)
        self.top = _top(self.root)
        #: folder below `top` -> split, label
        self._places: dict[str, tuple[str, str | None]] = {}
        self.problems()  # the folders say which classes there are

    @classmethod
    def matches(cls, root: Path) -> str:
        if root.is_file():
            return "it is a picture" if is_picture(root.name) else ""
        folders = [root := _top(root)]
        folders += [child for child in few(root) if child.name.lower() in SPLITS and child.is_dir()]
        inside = [child for folder in folders for child in few(folder)]
        classes = sorted({child.name for child in inside if emotion(child.name) and child.is_dir()})
        if classes:
            return f"it holds folders named by emotion: {some(classes, 8)}"
        return "it holds pictures without labels" if any(is_picture(child.name) for child in inside) else ""

    def scan(self):
        if self.root.is_file():
            return Samples([self.root.name], self._sample), []
        rows: list[str] = []
        strangers: Counter[str] = Counter()
        unlabelled, unreadable, seen = 0, [], set()
        for folder, folders, files in os.walk(self.top, followlinks=True, onerror=unreadable.append):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not ignored(name))
            names = sorted(name for name in files if is_picture(name))
            if not names:
                continue
            below = os.path.relpath(folder, self.top)
            parts = [] if below == "." else below.split(os.sep)
            split = SPLITS.get(parts[0].lower(), "") if parts else ""
            parts = parts[1:] if split else parts
            label = emotion(parts[0]) if parts else None
            if parts and label is None:
                strangers[parts[0]] += len(names)
            unlabelled += len(names) if label is None else 0
            prefix = "" if below == "." else below + os.sep
            self._places[prefix.rstrip(os.sep)] = split, label
            rows += [prefix + name for name in names]

        problems = [Problem(f"cannot be read: {e.strerror}", e.filename, fatal=False) for e in unreadable]
        if not rows:
            problems.append(Problem("there is no picture in it or below", str(self.top)))
        self.classes = ordered({label for _, label in self._places.values() if label})
        split = any(split for split, _ in self._places.values())
        if strangers and (self.classes or split or any(name.isdecimal() for name in strangers)):
            folders = some((f"{printable(name)} ({n:,} pictures)" for name, n in sorted(strangers.items())), 20)
            note = f"folders that are named by no emotion: {folders}; rename them, or list the pictures in a CSV"
            problems.append(Problem(note, str(self.top)))
        elif self.classes and unlabelled:
            note = f"{unlabelled:,} pictures lie outside the class folders and have no label"
            problems.append(Problem(note, str(self.top), fatal=False))
        return Samples(rows, self._sample), problems

    def _sample(self, name: str) -> Sample:
        split, label = self._places.get(os.path.dirname(name), ("", None))
        return Sample(printable(name.replace(os.sep, "/")), self.top / name, label=label, split=split)


def _top(root: Path) -> Path:
    """The folder of the splits, classes or pictures: `root` itself, or what unpacking put between."""
    while root.is_dir():
        inside = few(root)
        name = inside[0].name if len(inside) == 1 else ""
        if not name or name.lower() in SPLITS or emotion(name) or not inside[0].is_dir():
            return root
        root = inside[0]
    return root.parent
