"""Looking around on disk: names in any letter case, an extra folder on top, lists of pictures, tables as text."""

import csv
import io
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fertool.errors import DataError
from fertool.labels import canonical, is_emotion

#: endings of the files that are taken for pictures
PICTURES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".pnm", ".jp2")
)

#: what splits are called, in lower case -> what they are called here
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "publictest": "val",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}

#: the folders of a release hold few entries; a folder of 300,000 pictures is not searched for a release's names
FEW = 1000


def ignored(name: str) -> bool:
    """Names that machines leave behind: .DS_Store, ._copy.jpg, __MACOSX, Thumbs.db, ..."""
    return name.startswith((".", "@")) or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture; what it holds is seen when it is read."""
    return os.path.splitext(name)[1].lower() in PICTURES and not ignored(name)


def emotion(name: str) -> str | None:
    """The emotion that a folder or column is named by, a number in front or not ("1_Happy"); None if it is none."""
    bare = re.sub(r"^\d+[\s._-]+", "", name.strip())
    return canonical(bare) if is_emotion(bare) else None


def pictures(folder: Path | str) -> list[str]:
    """Names of the pictures lying directly in a folder, sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(e.name for e in found if is_picture(e.name))
    except OSError as e:
        raise DataError(f"cannot read {folder}: {e.strerror}") from e


def pictures_below(root: Path) -> list[Path]:
    """The pictures in a folder and in all below it, by the order of their names.

    Raises:
        DataError: a folder cannot be read.
    """

    def refuse(e: OSError) -> None:
        raise DataError(f"cannot read {e.filename}: {e.strerror}") from e

    found = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not ignored(name)]
        found += [Path(folder, name) for name in files if is_picture(name)]
    return sorted(found, key=lambda path: (path.name, path))


def frames(folder: Path) -> list[tuple[int, Path]]:
    """The pictures of a recording in their order: the number that each file's name ends with, and the file.

    Raises:
        DataError: the folder cannot be read.
    """
    numbered = ((re.search(r"(\d+)$", os.path.splitext(name)[0]), name) for name in pictures(folder))
    return sorted((int(number[1]), folder / name) for number, name in numbered if number)


def taken(found: list[tuple[int, Path]], which: str) -> list[tuple[int, Path, bool]]:
    """The frames of a recording that are taken, with whether each is the neutral one; none if it has too few.

    Args:
        found: see `frames`.
        which: "last3", or "first-last" in a recording that begins with a neutral face.
    """
    first, last = (0, 3) if which == "last3" else (1, 1)
    if len(found) < first + last:
        return []
    return [(*frame, True) for frame in found[:first]] + [(*frame, False) for frame in found[-last:]]


def called(root: Path, word: str) -> Path | None:
    """The folder `root`, or the only one in it and so on down, whose name begins with `word`; None if none does.

    Letter case and what is no letter or number make no difference: FED-RO and fed_ro begin with "fedro".
    """
    root = Path(os.path.abspath(root))
    while root.is_dir():
        if re.sub(r"[\W_]", "", root.name.lower()).startswith(word):
            return root
        inside = [p for p in few(root) if p.is_dir()]
        if len(inside) != 1:
            return None
        root = inside[0]
    return None


def few(folder: Path | str) -> list[Path]:
    """What lies in a folder, sorted by name, at most `FEW` entries.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(Path(e.path) for e in islice(found, FEW) if not ignored(e.name))
    except OSError as e:
        raise DataError(f"cannot read {folder}: {e.strerror}") from e


def resolve(root: Path, name: str) -> Path | None:
    """`root/name` in whatever letter case it is written on disk; None if it is not there."""
    path = root
    for part in name.split("/"):
        exact = path / part
        if not os.path.exists(exact):
            if not os.path.isdir(path):
                return None
            exact = next((p for p in few(path) if p.name.lower() == part.lower()), None)
            if exact is None:
                return None
        path = exact
    return path


def tops(root: Path) -> Iterator[Path]:
    """`root` and the folders directly in it: unpacking often adds one folder on top."""
    yield root
    if os.path.isdir(root):
        yield from (p for p in few(root) if os.path.isdir(p))


def find(root: Path, *names: str) -> Path | None:
    """The first of `names` that lies in `root` or one folder further down, in any letter case."""
    return next((path for top in tops(root) for name in names if (path := resolve(top, name))), None)


def printable(name: str) -> str:
    """A file name as text that can be stored; bytes of an older encoding are written as \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def text(path: Path) -> str:
    """A text file in UTF-8, with or without BOM, line ends made one.

    Raises:
        DataError: it cannot be read, or is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from e


def table(path: Path) -> list[list[str]]:
    """The rows of a table that are not empty, separated as `separator` tells from the first.

    Raises:
        DataError: see `text`; or quotes without end.
    """
    content = text(path)
    try:
        rows = csv.reader(io.StringIO(content), delimiter=separator(content.split("\n", 1)[0]), strict=True)
        return [row for row in rows if any(row)]
    except csv.Error as e:
        raise DataError(f"{path} is not a readable table: {e}") from e


def header(path: Path) -> list[str]:
    """The first row of a table, or of whatever file it is; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as f:
            first = f.readline(10_000).strip("\n")
        return next(csv.reader([first], delimiter=separator(first)), [])
    except (OSError, csv.Error):
        return []


def separator(line: str) -> str:
    """What separates the cells of a table's first line: comma, semicolon or tab."""
    return max(",;\t", key=line.count)
