"""Looking around on disk: names in any letter case, an extra folder on top, lists of pictures, tables as text."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from fertool.errors import DataError

#: endings of the files that are taken for pictures
PICTURES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".pnm")
)


def ignored(name: str) -> bool:
    """Names that machines leave behind: .DS_Store, ._copy.jpg, __MACOSX, Thumbs.db, ..."""
    return name.startswith((".", "@")) or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture; what it holds is seen when it is read."""
    return os.path.splitext(name)[1].lower() in PICTURES and not ignored(name)


def entries(folder: Path | str) -> list[os.DirEntry]:
    """What lies in a folder, sorted by name, without what machines leave behind.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not ignored(e.name)), key=lambda e: e.name)
    except OSError as e:
        raise DataError(f"cannot read {folder}: {e.strerror}") from e


def pictures(folder: Path) -> dict[str, str]:
    """Stem in lower case -> file name of the pictures lying directly in a folder."""
    with os.scandir(folder) as found:
        return {os.path.splitext(e.name)[0].lower(): e.name for e in found if is_picture(e.name)}


def resolve(root: Path, name: str) -> Path | None:
    """`root/name` in whatever letter case it is written on disk; None if it is not there."""
    path = root
    for part in name.split("/"):
        if not (path / part).exists():
            if not path.is_dir():
                return None
            part = next((e.name for e in entries(path) if e.name.lower() == part.lower()), part)
        path = path / part
    return path if path.exists() else None


def tops(root: Path) -> Iterator[Path]:
    """`root` and the folders directly in it: unpacking often adds one folder on top."""
    yield root
    if root.is_dir():
        for entry in entries(root):
            if entry.is_dir():
                yield Path(entry.path)


def find(root: Path, *names: str) -> Path | None:
    """The first of `names` that lies in `root` or one folder further down, in any letter case."""
    return next((path for top in tops(root) for name in names if (path := resolve(top, name))), None)


def text(path: Path) -> str:
    """A text file as UTF-8 (with or without BOM) or UTF-16 with BOM, line ends made one.

    Raises:
        DataError: it cannot be read, or is in another encoding.
    """
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from e


def table(path: Path) -> list[list[str]]:
    """The rows of a table separated by commas, semicolons or tabs (whichever the first line has most of).

    Raises:
        DataError: see `text`; or a field without end.
    """
    content = text(path)
    first = content.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        return [row for row in csv.reader(io.StringIO(content), delimiter=separator) if any(row)]
    except csv.Error as e:
        raise DataError(f"{path} is not a readable table: {e}") from e
