"""RAF-DB, basic emotions: images from the web, each labelled by about forty people.

Li, Deng & Du, "Reliable crowdsourcing and deep locality-preserving learning for expression recognition in the wild",
CVPR 2017.
"""

import os
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import few, find, pictures, resolve, tops
from fertool.datasets.tabular import table, text
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import Settings

LISTS = tuple(
    f"{folder}list_{spelling}_label.txt" for folder in ("EmoLabel/", "") for spelling in ("patition", "partition")
)
CODES = ("1", "2", "3", "4", "5", "6", "7")
#: landmarks of a face by the option `landmarks`; `both` are the manual ones, then the automatic ones
POINTS = {"manual": 5, "auto": 37, "both": 42}
GENDER = ("male", "female", "unsure")
RACE = ("Caucasian", "African-American", "Asian")
AGE = ("0-3", "4-19", "20-39", "40-69", "70+")


@dataclass(frozen=True, kw_only=True)
class RafDbOptions(Settings):
    """How RAF-DB is read."""

    images: Annotated[Literal["auto", "aligned", "original"], "aligned images (auto: if present) or originals"] = "auto"
    landmarks: Annotated[
        Literal["manual", "auto", "both"],
        "five manual landmarks, 37 automatic ones, or both: the eye corners of MAN's regions are then those of the 37, "
        "where present",
    ] = "manual"


class RafDb(Dataset):
    name = "rafdb"
    priority = 15
    classes = PROTOCOLS["rafdb7"]
    about = "RAF-DB (basic), Li et al., CVPR 2017; on request from its authors, for research only"
    marks = "EmoLabel/list_patition_label.txt, or train/1 to train/7"
    layout = """\
EmoLabel/list_patition_label.txt                  train_00001.jpg 5
Image/aligned/train_00001_aligned.jpg ...         100x100 faces, and/or
Image/original/train_00001.jpg ...                images; or, in place of list and images,
DATASET/train/5/train_00001_aligned.jpg ...       and DATASET/test in the same way, with train_labels.csv beside it
Annotation/manual/train_00001_manu_attri.txt ...  five landmarks, gender, race, age (optional)
Annotation/auto/train_00001_auto_attri.txt ...    37 landmarks (optional)
Annotation/boundingbox/train_00001_boundingbox.txt ...  (optional)"""
    expect = {"train": 12_271, "test": 3_068}
    Options = RafDbOptions

    @classmethod
    def matches(cls, root: Path) -> str:
        found = find(root, *LISTS) or _numbered(root)
        return f"it holds {found.relative_to(root)}" if found else ""

    def scan(self) -> Scan:
        problems: list[Problem] = []
        if not find(self.root, *LISTS) and (train := _numbered(self.root)):
            return self._scan_numbered(train.parent.parent)
        top = next((t for t in tops(self.root) if any(resolve(t, name) for name in (*LISTS, "Image"))), self.root)
        labels = next((found for name in LISTS if (found := resolve(top, name))), None)
        if labels is None:
            problems.append(Problem("the list of labels is missing", str(top / LISTS[0])))
        folder, files = self._image_files(top, problems)
        if labels is None or any(p.fatal for p in problems):
            return [], problems
        try:
            listed = _read_labels(labels, self.classes, problems)
        except DataError as e:
            return [], [Problem(e.message)]

        suffix = "_aligned" if folder.name.lower() == "aligned" else ""
        absent = [stem for stem, _ in listed if stem.lower() + suffix not in files]
        if absent:
            note = f"{len(absent):,} of {len(listed):,} images are missing: {some(absent)}"
            problems.append(Problem(note, str(folder), fatal=len(absent) == len(listed)))
        problems += self._uncounted(_split(stem) for stem, _ in listed)
        # the shipped coordinates are those of the original images
        notes = _Annotation(top, [stem for stem, _ in listed], self.chosen["landmarks"], located=not suffix)
        problems += notes.problems

        def make(i: int) -> Sample:
            stem, label = listed[i]
            name = files.get(stem.lower() + suffix, f"{stem}{suffix}.jpg")
            return Sample(
                stem,
                folder / name,
                label=label,
                split=_split(stem),
                landmarks=notes.landmarks[i],
                box=notes.boxes[i],
                extra=notes.extra[i],
            )

        return Samples(range(len(listed)), make), problems

    def _scan_numbered(self, top: Path) -> Scan:
        """Return the copy whose aligned faces lie in folders named by the code of their class."""
        self.chosen["images"] = "aligned"  # this copy has no others
        problems: list[Problem] = []
        found: dict[str, tuple[str, Path]] = {}
        for split, code in product(("train", "test"), CODES):
            folder = resolve(top, f"{split}/{code}")
            if folder is None:
                problems.append(Problem(f"the folder of class {code} is missing", str(top / split / code), fatal=False))
                continue
            for name in pictures(folder):
                stem = os.path.splitext(name)[0].lower().removesuffix("_aligned")
                if _split(stem) != split or stem in found:
                    problems.append(
                        Problem(
                            f"left out, it belongs to {_split(stem)}, or is there twice: {name}",
                            str(folder),
                            fatal=False,
                        )
                    )
                else:
                    found[stem] = self.classes[int(code) - 1], folder / name
        problems += _differing(top, {stem: label for stem, (label, _) in found.items()}, self.classes)
        problems += self._uncounted(map(_split, found))
        rows = sorted(found)

        def make(i: int) -> Sample:
            label, path = found[rows[i]]
            return Sample(rows[i], path, label=label, split=_split(rows[i]), extra={})

        return Samples(range(len(rows)), make), problems

    def _image_files(self, top: Path, problems: list[Problem]) -> tuple[Path, dict[str, str]]:
        """Return the folder of images, and stem in lower case -> file name of those in it."""
        kinds = ("aligned", "original") if self.chosen["images"] == "auto" else (self.chosen["images"],)
        for kind in kinds:
            folder = resolve(top, f"Image/{kind}")
            if folder and folder.is_dir() and (names := pictures(folder)):
                self.chosen["images"] = kind
                return folder, {os.path.splitext(name)[0].lower(): name for name in names}
        for kind in kinds:
            problems.append(Problem("the images are missing", str(top / "Image" / kind / "*.jpg")))
        return top, {}


def _numbered(root: Path) -> Path | None:
    """Return the folder train/1 (or another class) of the copy with folders named by codes; None if there is none."""
    for top, name, code in product(tops(root), ("DATASET/train", "train"), CODES):
        folder = resolve(top, f"{name}/{code}")
        if folder and folder.is_dir() and any(re.match(r"train_\d+", p.name.lower()) for p in few(folder)[:5]):
            return folder
    return None


def _differing(top: Path, labels: dict[str, str], classes: tuple[str, ...]) -> list[Problem]:
    """Return what the tables of labels beside the folders say otherwise."""
    problems = []
    for split in ("train", "test"):
        path = resolve(top, f"{split}_labels.csv") or resolve(top.parent, f"{split}_labels.csv")
        if path is None:
            continue
        try:
            listed = {os.path.splitext(row[0])[0].lower().removesuffix("_aligned"): row[-1] for row in table(path)[1:]}
        except DataError as e:
            problems.append(Problem(e.message, fatal=False))
            continue
        mine = {stem: label for stem, label in labels.items() if _split(stem) == split}
        said = {stem: classes[int(code) - 1] if code in CODES else code for stem, code in listed.items()}
        if other := [stem for stem in mine if stem in said and said[stem] != mine[stem]]:
            note = f"{len(other):,} images lie in the folder of another class than the table says: {some(other)}"
            problems.append(Problem(note, str(path)))
        for note, stems in (
            ("images are in no row of the table", mine.keys() - said.keys()),
            ("images of the table are missing", said.keys() - mine.keys()),
        ):
            if stems:
                problems.append(Problem(f"{len(stems):,} {note}: {some(sorted(stems))}", str(path), fatal=False))
    return problems


def _split(stem: str) -> str:
    return stem.lower().split("_")[0]


def _read_labels(path: Path, classes: tuple[str, ...], problems: list[Problem]) -> list[tuple[str, str]]:
    """Return (stem, emotion) of every image; of several lines for the same one the last."""
    found: dict[str, str] = {}
    again, wrong = [], []
    for n, line in enumerate(text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, code = line.strip().rpartition(" ")
        stem = os.path.splitext(name.strip())[0]
        if _split(stem) not in ("train", "test") or code not in CODES:
            wrong.append(f"line {n} ({line.strip()[:40]!r})")
            continue
        if stem in found:
            again.append(stem)
        found[stem] = classes[int(code) - 1]
    if wrong:
        problems.append(Problem(f"not of the form 'train_00001.jpg 5', codes 1 to 7: {some(wrong)}", str(path)))
    if again:
        problems.append(Problem(f"listed twice, the last line counts: {some(again)}", str(path), fatal=False))
    if not found:
        problems.append(Problem("the list of labels has no line", str(path)))
    return list(found.items())


class _Annotation:
    """What the optional folders tell of each image: landmarks, box, and gender, race and age as text.

    Args:
        top: folder that holds `Annotation`.
        stems: the images.
        points: which landmarks, a key of `POINTS`.
        located: whether landmarks and boxes are wanted, too.
    """

    def __init__(self, top: Path, stems: list[str], points: str, located: bool):
        self.problems: list[Problem] = []
        self.landmarks: list[np.ndarray | None] = [None] * len(stems)
        self.boxes: list[tuple[float, float, float, float] | None] = [None] * len(stems)
        self.extra: list[dict[str, str]] = [{}] * len(stems)
        manual = self._read(top, "manual", "manu_attri", stems, 13)
        if manual is not None:
            self.extra = [_traits(row) for row in manual]
        if located:
            kinds = {"manual": manual}
            if points != "manual":
                kinds["auto"] = self._read(top, "auto", "auto_attri", stems, 2 * POINTS["auto"])
            wanted = [k for k in ("manual", "auto") if points in (k, "both")]
            marks = np.concatenate([_points(kinds[k], POINTS[k], len(stems)) for k in wanted], axis=1)
            self.landmarks = [None if np.isnan(p).all() else p for p in marks]
            boxes = self._read(top, "boundingbox", "boundingbox", stems, 4) or [None] * len(stems)
            turned = [stem for stem, b in zip(stems, boxes, strict=True) if b and not (b[2] > b[0] and b[3] > b[1])]
            if turned:
                self._report(f"{len(turned):,} boxes have no area and are left out: {some(turned)}", top, "boundingbox")
            self.boxes = [(b[0], b[1], b[2], b[3]) if b and b[2] > b[0] and b[3] > b[1] else None for b in boxes]

    def _read(self, top: Path, kind: str, ending: str, stems: list[str], count: int) -> list[list[float] | None] | None:
        """Return the numbers in the file of every image (None where unusable); None if the folder is not there."""
        folder = resolve(top, f"Annotation/{kind}")
        if folder is None:
            self._report(f"there are no {kind} annotations", top, kind)
            return None
        rows: list[list[float] | None] = []
        bad = []
        for stem in stems:
            try:
                with open(os.path.join(folder, f"{stem}_{ending}.txt"), encoding="utf-8-sig") as f:
                    row = [float(number) for number in f.read().replace(",", " ").split()]
                if len(row) < count:
                    raise ValueError
            except (FileNotFoundError, ValueError):
                row = None
                bad.append(stem)
            rows.append(row)
        if bad:
            self._report(f"{len(bad):,} {kind} annotations are missing or incomplete: {some(bad)}", top, kind)
        return rows

    def _report(self, note: str, top: Path, kind: str) -> None:
        self.problems.append(Problem(note, str(top / "Annotation" / kind), fatal=False))


def _points(rows: list[list[float] | None] | None, count: int, faces: int) -> np.ndarray:
    """Return the first numbers of every row as points, (faces, count, 2); NaN where there are none."""
    nothing = [np.nan] * 2 * count
    return np.array([row[: 2 * count] if row else nothing for row in rows or [None] * faces]).reshape(-1, count, 2)


def _traits(row: list[float] | None) -> dict[str, str]:
    codes = row[10:13] if row else (-1, -1, -1)
    meanings = {"gender": GENDER, "race": RACE, "age": AGE}
    return {
        trait: names[int(code)] if code in range(len(names)) else ""
        for (trait, names), code in zip(meanings.items(), codes, strict=True)
    }
