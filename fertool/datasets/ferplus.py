"""FER+: the faces of FER2013, each with the votes of ten people.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label distribution",
ICMI 2016. A face is known by its `Image name`, which is not its row number: rows without a name have been removed
from the dataset, and the names of later rows are counted without them.

FER+ ships its votes twice, in fer2013new.csv and in a label.csv per folder, and they differ for 1,602 faces. The
released lists of RAN follow label.csv: its majority rule gives their 28,236 training and 3,137 test faces, each with
the same label.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import find, pictures, resolve
from fertool.datasets.fer2013 import TABLES, USAGE, index_table, read_pixels
from fertool.datasets.tabular import table
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import Settings

CLASSES = PROTOCOLS["ferplus8"]
VOTES = (*CLASSES, "unknown", "NF")
FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}


def majority(votes: np.ndarray) -> np.ndarray:
    """Return the class that more than half of the votes name.

    Single votes do not count. `unknown` and `no face` (NF) can win too: then, and where nothing has more than half,
    the face has no label.

    Args:
        votes: (N, 10) counts, columns as `VOTES`.

    Returns:
        (N,) index into the eight classes, -1 for none.
    """
    votes = _without_single(votes)
    winner = votes.argmax(axis=1)
    clear = 2 * votes.max(axis=1) > votes.sum(axis=1)
    return np.where(clear & (winner < len(CLASSES)), winner, -1)


def distribution(votes: np.ndarray) -> np.ndarray:
    """Return the share of each of the up to three classes that most people named (FER+ `crossentropy` mode).

    Single votes do not count. Classes are taken from the most votes downwards, equal ones together, until three are
    reached, or three quarters of the votes, or `unknown` or `no face` (NF). A face has no distribution if the classes
    taken are more than three or have no more than half of the votes.

    Args:
        votes: (N, 10) counts, columns as `VOTES`.

    Returns:
        (N, 8) rows that sum to 1; NaN where there is no distribution.
    """
    votes = _without_single(votes)
    total = votes.sum(axis=1, keepdims=True)
    ahead = votes[:, None, :] > votes[:, :, None]  # [n, i, j]: j has more votes than i
    taken = (votes > 0) & ((ahead * votes[:, None, :]).sum(axis=2) < 0.75 * total) & (ahead.sum(axis=2) < 3)
    taken &= ~ahead[:, :, len(CLASSES) :].any(axis=2)
    kept = np.where(taken, votes, 0)[:, : len(CLASSES)].astype(float)
    covered = kept.sum(axis=1)
    valid = (2 * covered > total[:, 0]) & ((kept > 0).sum(axis=1) <= 3)
    kept[~valid] = np.nan
    return kept / np.where(valid, covered, 1)[:, None]


def _without_single(votes: np.ndarray) -> np.ndarray:
    return np.where(votes <= 1, 0, votes)


LABEL_HEADER = "Usage,Image name," + ",".join(VOTES)


class Face(NamedTuple):
    """A row of a table of votes and where its image is: a file (offset -1), or a byte of a table of pixels."""

    name: str
    split: str
    votes: tuple[int, ...]
    path: Path | None = None
    offset: int = -1


def read_votes(path: Path) -> list[Face]:
    """Return the rows of fer2013new.csv in their order, those without a name too.

    Raises:
        DataError: the table cannot be read, lacks a column, or a line does not fit; the message says which.
    """
    header, *lines = table(path) or [[]]
    columns = {name.strip().lower(): i for i, name in enumerate(header)}
    wanted = [name.lower() for name in LABEL_HEADER.split(",")]
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}", f"expected header: {LABEL_HEADER}")
    usage, image, *votes = (columns[name] for name in wanted)
    faces = []
    for n, line in enumerate(lines, start=2):
        try:
            split = USAGE[line[usage].strip().lower()]
            faces.append(Face(line[image].strip(), split, tuple([int(line[v]) for v in votes])))
        except (KeyError, IndexError, ValueError) as e:
            raise DataError(f"{path}: row {n} is not usage, image name and ten votes: {','.join(line)[:80]}") from e
    return faces


def read_folder_votes(path: Path, split: str) -> list[Face]:
    """Return the rows of a folder's label.csv: `name,"(0, 0, 48, 48)",` and ten votes, without a header.

    Raises:
        DataError: as `read_votes`.
    """
    faces = []
    for n, line in enumerate(table(path), start=1):
        try:
            name, _, *votes = line
            if len(votes) != len(VOTES):
                raise ValueError
            faces.append(Face(name.strip(), split, tuple(int(v) for v in votes)))
        except ValueError as e:
            raise DataError(f"{path}: row {n} is not name, box and ten votes: {','.join(line)[:80]}") from e
    return faces


@dataclass(frozen=True, kw_only=True)
class FerPlusOptions(Settings):
    """How FER+ is read."""

    label_rule: Annotated[
        Literal["majority", "distribution"],
        "rule from ten votes to `label`; the distribution is always stored",
    ] = "majority"
    votes: Annotated[
        Literal["auto", "fer2013new", "label"],
        "votes of fer2013new.csv (auto: if present) or of label.csv, which RAN's lists follow",
    ] = "auto"


class FerPlus(Dataset):
    name = "ferplus"
    priority = 5
    classes = CLASSES
    about = "FER+, Barsoum et al., ICMI 2016; labels MIT, pictures those of FER2013 (no licence stated)"
    marks = "fer2013new.csv or label.csv, and FER2013Train or fer2013.csv"
    layout = """\
FER2013Train/fer0000000.png ...    48x48 faces; or, instead of the three folders,
FER2013Valid/                      fer2013.csv: the faces as numbers, row by row those of fer2013new.csv
FER2013Test/
fer2013new.csv                     Usage, Image name and ten votes per face; or, in each of the folders,
label.csv                          Image name, box and ten votes: another count, which RAN's released lists follow"""
    expect = {"train": 28_558, "val": 3_579, "test": 3_573}
    Options = FerPlusOptions

    @classmethod
    def matches(cls, root: Path) -> str:
        if root.is_file():
            return "it is FER+'s table of votes" if root.name.lower() == "fer2013new.csv" else ""
        votes = find(root, "fer2013new.csv", *(f"{folder}/label.csv" for folder in FOLDERS.values()))
        faces = find(root, *FOLDERS.values(), *TABLES)
        return f"it holds {faces.relative_to(root)} and {votes.relative_to(root)}" if votes and faces else ""

    def scan(self) -> Scan:
        root = self.root.parent if self.root.is_file() else self.root
        problems: list[Problem] = []
        folders = {split: found for split, name in FOLDERS.items() if (found := find(root, name))}
        try:
            files = {split: set(pictures(folder)) for split, folder in folders.items()}
            votes = find(root, "fer2013new.csv") if self.chosen["votes"] != "label" else None
            if not votes and self.chosen["votes"] == "fer2013new":
                raise DataError(f"the table of votes is missing ({root / 'fer2013new.csv'})")
            self.chosen["votes"] = "fer2013new" if votes else "label"
            table_of_pixels = find(root, *TABLES)
            if votes and table_of_pixels and not any(files.values()):
                faces = _last_of_each(_with_pixels(votes, table_of_pixels), problems)
            else:
                listed = read_votes(votes) if votes else _listed(root, folders, problems)
                faces = _with_files(_last_of_each(listed, problems), root, folders, files, problems)
        except DataError as e:
            return [], [*problems, Problem(e.message)]
        problems += self._uncounted(face.split for face in faces)

        counts = np.array([face.votes for face in faces], dtype=np.int32).reshape(-1, len(VOTES))
        shares = distribution(counts)
        valid = ~np.isnan(shares[:, 0])
        if self.chosen["label_rule"] == "majority":
            label = majority(counts)
        else:
            label = np.where(valid, np.nan_to_num(shares).argmax(axis=1), -1)

        def make(i: int) -> Sample:
            face = faces[i]
            return Sample(
                id=face.name.rpartition(".")[0] or face.name,
                path=face.path,
                offset=face.offset,
                label=CLASSES[label[i]] if label[i] >= 0 else None,
                split=face.split,
                distribution=tuple(shares[i].tolist()) if valid[i] else None,
                extra={f"vote_{name}": n for name, n in zip(VOTES, face.votes, strict=True)},
            )

        return Samples(range(len(faces)), make), problems

    def read(self, sample: Sample) -> np.ndarray:
        return super().read(sample) if sample.offset < 0 else read_pixels(sample.file, sample.offset)


def _listed(root: Path, folders: dict[str, Path], problems: list[Problem]) -> list[Face]:
    """Return the rows of the folders' label.csv."""
    faces = []
    for split, folder in folders.items():
        if labels := resolve(folder, "label.csv"):
            faces += read_folder_votes(labels, split)
        else:
            problems.append(Problem("the table of votes is missing", str(folder / "label.csv"), fatal=False))
    if not faces:
        wanted = [str(root / name / "label.csv") for name in FOLDERS.values()]
        if not find(root, "fer2013new.csv"):
            wanted.append(str(root / "fer2013new.csv"))
        problems.append(Problem("the tables of votes are missing", " or ".join(wanted)))
    return faces


def _last_of_each(faces: list[Face], problems: list[Problem]) -> list[Face]:
    """Return faces with a name; of several rows with one name the last, as in the files of FER+'s own tool."""
    last: dict[str, Face] = {}
    again = []
    for face in faces:
        if face.name:
            if face.name in last:
                again.append(face.name)
            last[face.name] = face
    if again:
        problems.append(Problem(f"names used twice, the last row counts: {some(again, 10)}", fatal=False))
    return list(last.values())


def _with_pixels(votes: Path, table_of_pixels: Path) -> list[Face]:
    listed, pixels = read_votes(votes), index_table(table_of_pixels)
    if len(listed) != len(pixels):
        raise DataError(f"{votes} has {len(listed):,} rows, {table_of_pixels} {len(pixels):,}: they must go together")
    faces = []
    for n, (face, row) in enumerate(zip(listed, pixels, strict=True), start=2):
        if USAGE.get(row.usage.lower()) != face.split:
            raise DataError(f"row {n} of {votes} and of {table_of_pixels} have different Usage: they must go together")
        faces.append(face._replace(path=table_of_pixels, offset=row.offset))
    return faces


def _with_files(
    faces: list[Face], root: Path, folders: dict[str, Path], files: dict[str, set[str]], problems: list[Problem]
) -> list[Face]:
    """Return the faces whose folder is there, with their paths; an image missing from its folder stays in the list."""
    if faces and not any(files.values()):
        where = f"{root}/{{{','.join(FOLDERS.values())}}}/*.png, and {root / TABLES[0]}"
        problems.append(Problem(f"all of the {len(faces):,} images are missing", where))
    for split, folder in FOLDERS.items():
        names = {face.name for face in faces if face.split == split}
        if split not in folders:
            problems.append(Problem(f"the folder of {len(names):,} images is missing", str(root / folder), False))
            continue
        if absent := sorted(names - files[split]):
            note = f"{len(absent):,} of {len(names):,} images are missing: {some(absent)}"
            problems.append(Problem(note, str(folders[split]), fatal=False))
        if unlisted := sorted(files[split] - names):
            note = f"{len(unlisted):,} images have no votes and are left out: {some(unlisted)}"
            problems.append(Problem(note, str(folders[split]), fatal=False))
    return [face._replace(path=folders[face.split] / face.name) for face in faces if face.split in folders]
