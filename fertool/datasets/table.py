"""Any photographs listed in a table: path, label and what else is known of them."""

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fertool.datasets.base import Dataset, Problem, Sample, Samples, some
from fertool.datasets.disk import SPLITS, emotion, few, header, printable, table
from fertool.errors import DataError
from fertool.labels import ordered

PATHS = ("path", "image", "file", "filename")
KNOWN = ("path", "id", "label", "split", "subject", "sequence", "frame")
ENDINGS = (".csv", ".tsv")
#: columns that a list of faces has anyway
TAKEN = (
    *("status", "images", "faces_found", "bbox", "score", "landmarks", "transform", "pose", "pose_error"),
    "label_distribution",
)
LONGEST = 64  # characters of a text that is carried along


class Table(Dataset):
    name = "csv"
    about = "your own photographs, listed in a table"
    marks = "one table with a column path, image, file or filename"
    layout = """\
labels.csv                       path,label[,split][,subject][,sequence][,frame][,id] in any order, with a header
Paths are relative to the table. Further columns of numbers or short texts are carried along. Separated by commas,
semicolons or tabs, in UTF-8."""

    def __init__(self, root: Path | str, **options: str):
        super().__init__(root, **options)
        self.problems()  # the table says which classes there are

    @classmethod
    def matches(cls, root: Path) -> str:
        found = _tables(root)
        return f"{found[0].name} lists pictures ({', '.join(header(found[0]))})" if len(found) == 1 else ""

    def scan(self):
        found = _tables(self.root)
        if len(found) != 1:
            have = f"there are several, {some(p.name for p in found)}: name one" if found else "there is none"
            return [], [Problem(f"a table with a column 'path' is needed; {have}", str(self.root))]
        source = Path(os.path.abspath(found[0]))
        try:
            columns = _columns(source)
        except DataError as e:
            return [], [Problem(e.message)]
        problems: list[Problem] = []

        def report(note: str, fatal: bool = True) -> None:
            problems.append(Problem(note, str(source), fatal))

        def translate(key: str, meaning: Callable[[str], object], wanted: str) -> list:
            """The cells of a column as what they mean; "" where there is no such column."""
            cells = columns.get(key, [""] * len(columns["path"]))
            meanings = {cell: meaning(cell) for cell in set(cells)}
            if wrong := Counter(cell for cell in cells if cell and meanings[cell] is None):
                what = some(f"{cell!r} ({n:,} rows)" for cell, n in wrong.most_common())
                report(f"column {key}: {what} should be {wanted}")
            return [meanings[cell] for cell in cells]

        labels = translate("label", emotion, "names of emotions")
        splits = translate("split", lambda cell: SPLITS.get(cell.lower()), "train, val or test")
        frames = translate("frame", lambda cell: int(cell) if cell.isdecimal() else None, "whole numbers")
        folder, nothing = str(source.parent), [""] * len(labels)
        paths = [_locate(folder, cell) for cell in columns["path"]]
        ids = columns.get("id") or _names(paths, folder)
        subjects, sequences = columns.get("subject", nothing), columns.get("sequence", nothing)
        extra = {}
        for key in (key for key in columns if key and key not in KNOWN):  # pandas writes a column without a name
            values = _values(columns[key])
            if values is None:
                report(f"column {key!r} holds texts of more than {LONGEST} characters and is left out", fatal=False)
            elif (slug := re.sub(r"\W+", "_", key)) in TAKEN:
                report(f"column {key!r} is left out, lists of faces have one of that name: rename it", fatal=False)
            else:
                extra[slug] = values

        rows = list({name: row for row, name in enumerate(ids)}.values())
        if again := [name for name, n in Counter(ids).items() if n > 1]:
            report(f"{len(again):,} listed more than once, the last row counts: {some(again)}", fatal=False)
        if absent := [ids[row] for row in rows if not os.path.isfile(paths[row])]:
            note = f"{len(absent):,} of {len(rows):,} files are missing: {some(absent)}; looked for {paths[0]}"
            report(note, fatal=len(absent) == len(rows))
        self.classes = ordered({label for label in labels if label})

        def make(row: int) -> Sample:
            return Sample(
                id=ids[row],
                path=Path(paths[row]),
                label=labels[row],
                split=splits[row] or "",
                subject=subjects[row],
                sequence=sequences[row],
                frame=-1 if frames[row] is None else frames[row],
                extra={key: values[row] for key, values in extra.items()},
            )

        return Samples(rows, make), problems


def _tables(root: Path) -> list[Path]:
    """The tables of pictures meant by a file, or lying in a folder."""
    if root.is_file():
        return [root] if "path" in _named(header(root)) else []
    return [p for p in few(root) if p.suffix.lower() in ENDINGS and "path" in _named(header(p))]


def _named(names: list[str]) -> list[str]:
    """Column names in lower case, that of the pictures (the first of `PATHS` there) as "path"."""
    keys = [name.strip().lower() for name in names]
    pictures = next((name for name in PATHS if name in keys), None)
    return ["path" if key == pictures else key for key in keys]


def _columns(path: Path) -> dict[str, list[str]]:
    """The cells of a table by the names of their columns.

    Raises:
        DataError: it cannot be read, has no rows, or rows that do not fit its header.
    """
    lines = table(path)
    keys, rows = _named(lines[0]), lines[1:]
    if not rows:
        raise DataError(f"{path} has no rows")
    if twice := [key for key, n in Counter(keys).items() if n > 1]:
        raise DataError(f"{path} has several columns of the same name: {some(twice)}")
    if long := [",".join(row)[:60] for row in rows if len(row) > len(keys)]:
        raise DataError(f"{path} has rows with more cells than columns (names with commas need quotes): {some(long)}")
    columns = {key: [row[place].strip() if place < len(row) else "" for row in rows] for place, key in enumerate(keys)}
    if bare := columns["path"].count(""):
        raise DataError(f"{path} has {bare:,} rows without a path")
    return columns


def _locate(folder: str, written: str) -> str:
    """The file that a cell names, relative to the table's folder; written on Windows or not."""
    path = os.path.join(folder, written)
    return path if "\\" not in written or os.path.exists(path) else path.replace("\\", "/")


def _names(paths: list[str], folder: str) -> list[str]:
    """Names of files that do not depend on where the data lie: relative to the table, or to what they share."""
    inside = all(path.startswith(f"{folder}{os.sep}") for path in paths)
    base = folder if inside else os.path.commonpath([os.path.dirname(path) for path in paths])
    return [printable(os.path.normpath(path).removeprefix(base).lstrip(os.sep)) for path in paths]


def _values(cells: list[str]) -> list[int] | list[float] | list[str] | None:
    """A column as whole numbers, numbers (NaN where empty) or short texts; None if its texts are too long."""
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", cell) for cell in cells):
        return [int(cell) for cell in cells]
    if any(cells) and not any(re.fullmatch(r"0\d+", cell) for cell in cells):
        with suppress(ValueError):
            return [float(cell) if cell else math.nan for cell in cells]
    return cells if max(map(len, cells)) <= LONGEST else None
