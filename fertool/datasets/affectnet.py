"""AffectNet: images from the web with expression, valence and arousal, by one annotator each.

Mollahosseini, Hasani & Mahoor, "AffectNet: a database for facial expression, valence, and arousal computing in the
wild", IEEE Transactions on Affective Computing 2019. Two releases are read: the manually annotated part with its lists,
and the later one with eight labels, whose annotations lie in four small files per image.
"""

import io
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import find, pictures, printable, resolve
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import Settings

CODES = PROTOCOLS["affectnet8"]  # in the order of the codes; 8 none, 9 uncertain and 10 no face are left out
IMAGES = tuple(
    f"{above}Manually_Annotated_Images" for above in ("", "Manually_Annotated/", "Manually_Annotated_compressed/")
)
LISTS = {
    split: (f"Manually_Annotated_file_lists/{name}.csv", f"{name}.csv")
    for split, name in (("train", "training"), ("val", "validation"))
}
FOLDERS = {"train": "train_set", "val": "val_set"}
#: of the lists; that of the validation split is shipped without this line
HEADER = (
    *("subdirectory_filepath", "face_x", "face_y", "face_width", "face_height"),
    *("facial_landmarks", "expression", "valence", "arousal"),
)


@dataclass(frozen=True)
class Part:
    """The images of a split that are taken.

    Attributes:
        folder: where their images lie.
        names: of the images, with folders below `folder`. codes: their expressions.
        known: number of an image -> what else is known of it, as fields of `Sample`.
        stem: name of an image -> id.
    """

    folder: Path
    names: list[str]
    codes: bytes
    known: Callable[[int], dict]
    stem: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class AffectNetOptions(Settings):
    """How AffectNet is read."""

    contempt: Annotated[Literal["keep", "drop"], "eight classes, or seven without contempt"] = "keep"


class AffectNet(Dataset):
    name = "affectnet"
    priority = 20
    classes = PROTOCOLS["affectnet8"]
    about = "AffectNet, Mollahosseini et al., TAC 2019; on request from its authors, for research only"
    marks = "Manually_Annotated_Images, or train_set/annotations"
    layout = """\
Manually_Annotated_file_lists/training.csv           and validation.csv (with or without a header)
Manually_Annotated_Images/1/0a1b....jpg ...          or, in the release with eight labels,
train_set/images/0.jpg ...                           and val_set in the same way
train_set/annotations/0_exp.npy ...                  expression; 0_lnd.npy, 0_val.npy, 0_aro.npy"""
    expect = {"train": 287_651, "val": 4_000}
    Options = AffectNetOptions

    def __init__(self, root: Path | str, **options: Any):
        super().__init__(root, **options)
        if self.chosen["contempt"] == "drop":
            self.classes, self.expect = PROTOCOLS["affectnet7"], {"train": 283_901, "val": 3_500}

    @classmethod
    def matches(cls, root: Path) -> str:
        found = find(root, *IMAGES, "Manually_Annotated_file_lists", *(f"{f}/annotations" for f in FOLDERS.values()))
        return f"it holds {found.relative_to(root)}" if found else ""

    def scan(self) -> Scan:
        problems: list[Problem] = []
        wanted = bytes(code for code, name in enumerate(CODES) if name in self.classes)
        small = [find(self.root, f"{folder}/annotations") for folder in FOLDERS.values()]
        try:
            parts = (_of_folders if any(small) else _of_lists)(self.root, wanted, problems)
        except DataError as e:
            return [], [*problems, Problem(e.message)]
        rows = [(split, i) for split, part in parts.items() for i in range(len(part.names))]
        if not any(p.fatal for p in problems):
            problems += self._uncounted(split for split, _ in rows)
            if not rows:
                problems.append(Problem("there are no images with an expression", str(self.root)))

        def make(row: int) -> Sample:
            split, i = rows[row]
            part = parts[split]
            name = part.names[i]
            label = CODES[part.codes[i]]
            return Sample(printable(part.stem(name)), part.folder / name, label=label, split=split, **part.known(i))

        return Samples(range(len(rows)), make), problems


# ------------------------------------------------------------------------------------------- the release with lists


def _of_lists(root: Path, wanted: bytes, problems: list[Problem]) -> dict[str, Part]:
    images = find(root, *IMAGES)
    if images is None:
        problems.append(Problem("the folder of images is missing", str(root / IMAGES[0])))
    parts: dict[str, Part] = {}
    for split, names in LISTS.items():
        path = find(root, *names)
        if path is None:
            problems.append(Problem(f"the list of split {split} is missing", str(root / names[0])))
        elif images:
            parts[split] = _listed(path, images, wanted)
    absent = [name for part in parts.values() for name in _absent(part.folder, part.names)]
    if absent:
        count = sum(len(part.names) for part in parts.values())
        note = f"{len(absent):,} of {count:,} images are missing: {some(map(printable, absent))}"
        problems.append(Problem(note, str(images), fatal=len(absent) == count))
    return parts


def _listed(path: Path, images: Path, wanted: bytes) -> Part:
    """Return the rows of a list with one of the wanted expressions; what else they say is read when it is asked for.

    Raises:
        DataError: the list cannot be read, lacks a column or has lines that do not fit.
    """
    names: list[str] = []
    codes, offsets, wrong = bytearray(), array("q"), []
    columns = {name: i for i, name in enumerate(HEADER)}
    for n, (offset, cells) in enumerate(_lines(path), start=1):
        if n == 1 and cells[0].lower().startswith(b"subdirectory"):
            columns = {cell.decode("latin-1").lower(): i for i, cell in enumerate(cells)}
            if missing := [name for name in HEADER if name not in columns]:
                raise DataError(f"{path} lacks the columns {', '.join(missing)}")
            continue
        try:
            name, code = os.fsdecode(cells[columns[HEADER[0]]]), int(cells[columns["expression"]])
            if code not in range(11) or len(cells) != len(columns):
                raise ValueError
        except (ValueError, IndexError):
            wrong.append(f"line {n}")
            continue
        if code in wanted:
            names.append(name.replace("\\", "/"))
            codes.append(code)
            offsets.append(offset)
    if wrong:
        raise DataError(f"{path} has lines that are no row of {', '.join(HEADER)}: {some(wrong)}")

    def known(i: int) -> dict:
        with open(path, "rb") as f:
            f.seek(offsets[i])
            cells = _cells(f.readline())
        x, y, width, height, valence, arousal = (
            _number(cells[columns[name]])
            for name in ("face_x", "face_y", "face_width", "face_height", "valence", "arousal")
        )
        points = [_number(cell) for cell in cells[columns["facial_landmarks"]].split(b";")]
        has_points = len(points) == 136 and np.isfinite(points).all()
        return {
            "box": (x, y, x + width, y + height) if width > 0 and height > 0 and np.isfinite([x, y]).all() else None,
            "landmarks": np.array(points).reshape(68, 2) if has_points else None,
            "extra": {"valence": valence, "arousal": arousal},
        }

    return Part(images, names, bytes(codes), known, lambda name: os.path.splitext(name)[0])


def _lines(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the byte where it begins, and the cells, of every line that is not empty."""
    try:
        with open(path, "rb") as f:
            offset = 0
            for line in f:
                if line.strip():
                    yield offset, _cells(line)
                offset += len(line)
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e


def _cells(line: bytes) -> list[bytes]:
    return [cell.strip(b' "\r\n\xef\xbb\xbf') for cell in line.split(b",")]


def _number(cell: bytes) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _absent(folder: Path, names: Sequence[str]) -> list[str]:
    """Return those of many files in subfolders that are missing; every folder is listed once."""
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(os.path.dirname(name), []).append(name)
    absent = []
    for below, members in by_folder.items():
        where = os.path.join(folder, below)
        there = {e.name for e in os.scandir(where)} if os.path.isdir(where) else ()
        absent += [name for name in members if os.path.basename(name) not in there]
    return absent


# -------------------------------------------------------------------------------- the release with files of annotation


def _of_folders(root: Path, wanted: bytes, problems: list[Problem]) -> dict[str, Part]:
    parts = {}
    for split, name in FOLDERS.items():
        top = find(root, name)
        images, notes = (top and resolve(top, kind) for kind in ("images", "annotations"))
        for kind, there in (("images", images), ("annotations", notes)):
            if there is None:
                problems.append(Problem(f"the {kind} of split {split} are missing", str((top or root / name) / kind)))
        if images and notes:
            parts[split] = _annotated(images, notes, name, wanted, problems)
    return parts


def _annotated(images: Path, notes: Path, name: str, wanted: bytes, problems: list[Problem]) -> Part:
    """Return the images in a folder whose annotation is one of the wanted expressions."""
    names, codes, bad = [], bytearray(), []
    for picture in sorted(pictures(images), key=lambda p: (len(p), p)):  # numbers without zeros in front
        stem = os.path.splitext(picture)[0]
        code = _annotation(notes, stem, "exp")
        if code is None or code.size != 1 or code[0] not in range(11):
            bad.append(f"{stem}_exp.npy")
        elif int(code[0]) in wanted:
            names.append(picture)
            codes.append(int(code[0]))
    if bad:
        note = f"expressions of {len(bad):,} images are missing or not from 0 to 10: {some(map(printable, bad))}"
        problems.append(Problem(note, str(notes), fatal=not names))

    def known(i: int) -> dict:
        stem = os.path.splitext(names[i])[0]
        points, valence, arousal = (_annotation(notes, stem, kind) for kind in ("lnd", "val", "aro"))
        values = {"valence": valence, "arousal": arousal}
        return {
            "landmarks": points.reshape(68, 2) if points is not None and points.size == 136 else None,
            "extra": {key: float(v[0]) if v is not None and v.size == 1 else np.nan for key, v in values.items()},
        }

    return Part(images, names, bytes(codes), known, lambda picture: f"{name}/{os.path.splitext(picture)[0]}")


def _annotation(folder: Path, stem: str, kind: str) -> np.ndarray | None:
    """Return the numbers (N,) in a .npy file, some of which are written as texts; None if it is not there or damaged.

    numpy's own reader parses the header of every file anew, which for a million of them takes minutes.
    """
    try:
        with open(os.path.join(folder, f"{stem}_{kind}.npy"), "rb") as f:
            content = f.read()
        start = 10 + int.from_bytes(content[8:10], "little")
        if content[:8] != b"\x93NUMPY\x01\x00":
            return None
        return np.frombuffer(content, _kind(content[8:start]), offset=start).astype(float)
    except (FileNotFoundError, ValueError):
        return None


@lru_cache(64)
def _kind(header: bytes) -> np.dtype:
    """Return the type of numbers that a .npy file's header names; objects cannot be read from it."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(header))[2]
