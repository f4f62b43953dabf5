"""FER2013: 48x48 grey faces written as numbers in one table.

Goodfellow et al., "Challenges in representation learning", ICONIP 2013.
"""

import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import find
from fertool.datasets.tabular import header
from fertool.errors import DataError
from fertool.labels import PROTOCOLS

SIDE = 48
USAGE = {"training": "train", "publictest": "val", "privatetest": "test"}
TABLES = ("fer2013.csv", "icml_face_data.csv")


class Row(NamedTuple):
    """A line of the table: byte where its pixels begin, its emotion code and usage as written."""

    offset: int
    emotion: str
    usage: str


def index_table(path: Path) -> list[Row]:
    """Return where the pixels of every row begin, without reading them; columns may stand in any order.

    Raises:
        DataError: the table cannot be read or has no column `pixels`.
    """
    rows = []
    try:
        with open(path, "rb") as f:
            first = f.readline()
            columns = [c.strip(b' "\r\n\xef\xbb\xbf').decode("latin-1").lower() for c in first.split(b",")]
            if "pixels" not in columns:
                raise DataError(f"{path} has no column 'pixels'", "expected header: emotion,pixels,Usage")
            pixels = columns.index("pixels")
            places = {name: columns.index(name) if name in columns else None for name in ("emotion", "usage")}
            start = len(first)
            for line in f:
                fields = line.split(b",")
                if line.strip() and len(fields) > pixels:
                    before = fields[:pixels]
                    offset = start + sum(map(len, before)) + len(before)
                    rows.append(Row(offset, _field(fields, places["emotion"]), _field(fields, places["usage"])))
                start += len(line)
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    return rows


def _field(fields: list[bytes], place: int | None) -> str:
    if place is None or place >= len(fields):
        return ""
    return fields[place].strip(b' "\r\n').decode("latin-1")


def read_pixels(path: Path, offset: int) -> np.ndarray:
    """Return the (48, 48) uint8 image whose numbers begin at byte `offset` of a table.

    Raises:
        UnreadableImage: there are not 48 x 48 numbers from 0 to 255.
        OSError: the table cannot be read now.
    """
    from fertool.faces.images import UnreadableImage

    try:
        with open(path, "rb") as f:
            f.seek(offset)
            numbers = f.readline().split(b",")[0].strip(b' "\r\n')
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy only warns where the numbers end early
            pixels = np.fromstring(numbers, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning) as e:
        raise UnreadableImage(f"{path}, byte {offset}: the pixels are not all numbers") from e
    if pixels.size != SIDE * SIDE:
        raise UnreadableImage(f"{path}, byte {offset}: {pixels.size:,} pixels instead of {SIDE * SIDE:,}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise UnreadableImage(f"{path}, byte {offset}: pixels outside 0..255")
    return pixels.astype(np.uint8).reshape(SIDE, SIDE)


class Fer2013(Dataset):
    name = "fer2013"
    priority = 10
    classes = PROTOCOLS["fer2013_7"]
    about = "FER2013, Goodfellow et al., ICONIP 2013; pictures from the web, no licence stated"
    marks = "fer2013.csv or icml_face_data.csv"
    layout = """\
fer2013.csv                      emotion,pixels,Usage (or icml_face_data.csv: emotion, Usage, pixels)
The release in folders (train/angry/..., test/...) is read as the dataset `folder`."""
    expect = {"train": 28_709, "val": 3_589, "test": 3_589}

    @classmethod
    def matches(cls, root: Path) -> str:
        if root.is_file():
            columns = [name.strip().lower() for name in header(root)]
            return f"{root.name} has a column 'pixels'" if "pixels" in columns else ""
        table = find(root, *TABLES)
        return f"it holds {table.relative_to(root)}" if table else ""

    def scan(self) -> Scan:
        table = self.root if self.root.is_file() else find(self.root, *TABLES)
        if table is None:
            return [], [Problem("the table of faces is missing", str(self.root / TABLES[0]))]
        try:
            rows = index_table(table)
        except DataError as e:
            return [], [Problem(e.message)]
        problems = [] if rows else [Problem("the table has no rows", str(table))]
        codes = {str(i): name for i, name in enumerate(self.classes)}
        unknown = Counter(r.emotion for r in rows if r.emotion and r.emotion not in codes)
        if unknown:
            codes_found = some(f"{code!r} ({n:,} rows)" for code, n in unknown.items())
            problems.append(Problem(f"emotion codes that are not 0..6: {codes_found}", str(table)))
        strange = {r.usage for r in rows if r.usage and r.usage.lower() not in USAGE}
        if strange:
            problems.append(Problem(f"unknown Usage: {some(sorted(strange))}", str(table)))
        problems += self._uncounted(USAGE.get(r.usage.lower(), "") for r in rows)

        def make(i: int) -> Sample:
            row = rows[i]
            split = USAGE.get(row.usage.lower(), "")
            return Sample(f"row{i:05d}", table, row.offset, codes.get(row.emotion), split)

        return Samples(range(len(rows)), make), problems

    def read(self, sample: Sample) -> np.ndarray:
        return read_pixels(sample.file, sample.offset)
