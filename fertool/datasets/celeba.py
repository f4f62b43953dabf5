"""CelebA: images of celebrities with forty attributes each, but no emotion.

Liu et al., "Deep learning face attributes in the wild", ICCV 2015. The Attention Map Generator of WS-LGRN learns from
seven of the attributes where eyes and mouth are; only these are read.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import find, is_picture, pictures, resolve, tops
from fertool.datasets.tabular import text
from fertool.errors import DataError
from fertool.labels import ATTRIBUTES

COLUMNS = tuple(name for group in ATTRIBUTES.values() for name in group)
SPLITS = ("train", "val", "test")  # codes 0, 1, 2
_PARTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
POINTS = tuple(f"{part}_{axis}" for part in _PARTS for axis in "xy")


def _places(name: str, folder: str) -> tuple[str, ...]:
    """Return where a list may lie: as its authors ship it, beside the others, or as the table of the copy at Kaggle."""
    return f"{folder}/{name}.txt", f"{name}.txt", f"{name}.csv", f"{folder}/{name}.csv"


LISTS = _places("list_attr_celeba", "Anno")
PARTITIONS = _places("list_eval_partition", "Eval")
LANDMARKS = _places("list_landmarks_align_celeba", "Anno")
FOLDERS = tuple(
    f"{above}{name}"
    for above in ("Img/", "")
    for name in ("img_align_celeba/img_align_celeba", "img_align_celeba", "img_align_celeba_png")
)


class CelebA(Dataset):
    name = "celeba"
    priority = 50
    about = "CelebA, Liu et al., ICCV 2015; for research only; attributes instead of emotions"
    marks = "list_attr_celeba.txt or .csv"
    layout = """\
Anno/list_attr_celeba.txt                 forty attributes, 1 or -1 (seven are read)
Anno/list_landmarks_align_celeba.txt      five landmarks (optional)
Eval/list_eval_partition.txt              0 train, 1 val, 2 test
Img/img_align_celeba/000001.jpg ...       178x218 faces; or the .png ones
All may lie at the top instead, or as .csv with img_align_celeba/img_align_celeba/000001.jpg ..."""
    expect = {"train": 162_770, "val": 19_867, "test": 19_962}

    @classmethod
    def matches(cls, root: Path) -> str:
        found = find(root, *LISTS, *FOLDERS)
        return f"it holds {found.relative_to(root)}" if found else ""

    def scan(self) -> Scan:
        problems: list[Problem] = []
        top = next((t for t in tops(self.root) if any(resolve(t, name) for name in (*LISTS, *FOLDERS))), self.root)
        lists = {}
        for what, places in (("attributes", LISTS), ("splits", PARTITIONS), ("landmarks", LANDMARKS)):
            lists[what] = next((found for name in places if (found := resolve(top, name))), None)
            if lists[what] is None:
                wanted = f"{top / places[0]}, or {', '.join(places[1:3])}"
                problems.append(Problem(f"the list of {what} is missing", wanted, fatal=what != "landmarks"))
        folder, names = _image_files(top, problems)
        listed, partition = lists["attributes"], lists["splits"]
        if listed is None or partition is None or any(p.fatal for p in problems):
            return [], problems
        try:
            stems, attributes = _read(listed, [name.removeprefix("attr_") for name in COLUMNS], frozenset((-1, 1)))
            codes = _joined(stems, *_read(partition, ["partition"], frozenset(range(3))))[:, 0]
            points = None
            if lists["landmarks"]:
                points = _joined(stems, *_read(lists["landmarks"], POINTS, frozenset(range(-9999, 10_000))))
        except DataError as e:
            return [], [*problems, Problem(e.message)]

        there = np.array([name.rpartition(".")[0] for name in names])
        ending = names[0].rpartition(".")[2]
        for what, fine in (
            ("images", np.isin(stems, there)),
            ("splits", codes != _ABSENT),
            ("landmarks", None if points is None else (points != _ABSENT).all(axis=1)),
        ):
            if fine is not None and not fine.all():
                absent = stems[~fine]
                note = f"{what} of {len(absent):,} of {len(stems):,} are missing: {some(absent)}"
                where = folder if what == "images" else lists[what]
                problems.append(Problem(note, str(where), fatal=len(absent) == len(stems)))
        splits = ["" if code == _ABSENT else SPLITS[code] for code in codes.tolist()]
        problems += self._uncounted(splits)

        def make(i: int) -> Sample:
            place = None if points is None or points[i, 0] == _ABSENT else points[i]
            return Sample(
                id=str(stems[i]),
                path=folder / f"{stems[i]}.{ending}",
                split=splits[i],
                landmarks=None if place is None else place.reshape(5, 2).astype(float),
                extra=dict(zip(COLUMNS, attributes[i].tolist(), strict=True)),
            )

        return Samples(range(len(stems)), make), problems


_ABSENT = np.iinfo(np.int16).min


def _image_files(top: Path, problems: list[Problem]) -> tuple[Path, list[str]]:
    """Return the folder of images and the names in it."""
    for place in FOLDERS:
        folder = resolve(top, place)
        if folder and folder.is_dir() and (names := pictures(folder)):
            return folder, names
    wanted = f"{top / FOLDERS[1]}, or {', '.join(FOLDERS[4:])}"
    problems.append(Problem("the images are missing", wanted))
    return top, []


def _read(path: Path, wanted: Sequence[str], allowed: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of a list: the stems of its images (N,), and (N, K) int16.

    Cells stand between blanks or commas. The line before the first image names the columns (in .txt lists, those
    after the name); above it the number of images may stand. A list without that line has the columns `wanted`.

    Raises:
        DataError: it cannot be read, lacks a column, or has lines that do not fit.
    """
    stems: list[str] = []
    values = array("h")
    wrong: list[str] = []
    header, places = [], []
    for n, line in enumerate(text(path).split("\n"), start=1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        if not stems and not is_picture(cells[0]):
            header = [name.lower() for name in cells]
            continue
        if not stems:
            count = len(cells) - 1
            names = header[-count:] if len(header) >= count else list(wanted) if count == len(wanted) else []
            if missing := [name for name in wanted if name not in names]:
                raise DataError(f"{path} lacks the columns {', '.join(missing)}")
            places = [1 + names.index(name) for name in wanted]
        try:
            row = [int(cells[place]) for place in places]
            if not allowed.issuperset(row):
                raise ValueError
        except (IndexError, ValueError):
            wrong.append(f"line {n} ({line.strip()[:40]!r})")
            row = [0] * len(places)
        stems.append(cells[0].rpartition(".")[0])
        values.extend(row)
    if wrong or not stems:
        raise DataError(f"{path} has " + (f"lines that do not fit: {some(wrong)}" if wrong else "no line"))
    return np.array(stems), np.frombuffer(values, dtype=np.int16).reshape(len(stems), -1)


def _joined(stems: np.ndarray, listed: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the rows of another list in the order of `stems`; `_ABSENT` where it has none."""
    if np.array_equal(stems, listed):
        return values
    row = {stem: i for i, stem in enumerate(listed.tolist())}
    rows = np.array([row.get(stem, -1) for stem in stems.tolist()])
    return np.where(rows[:, None] < 0, _ABSENT, values[rows]).astype(np.int16)
