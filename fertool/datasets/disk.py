"""Looking around on disk: names in any letter case, an extra folder on top, lists of images, emotions as names."""

import os
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from pathlib import Path

from fertool.datasets.tabular import text
from fertool.errors import DataError
from fertool.labels import canonical, is_emotion
from fertool.outputs import Inode, inode

#: endings of the files that are taken for images
PICTURES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif")
    + (".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif")
)

#: endings of the files that are taken for videos
VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv")
    + (".ts", ".mts", ".m2ts")
)

#: endings of files that accompany images and are none
NOTES = frozenset(
    (".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".pts", ".npy", ".npz", ".mat")
    + (".h5", ".log", ".py", ".sh", ".ini", ".db", ".lock", ".partial", ".tmp")
)

#: endings of archives, which are to be unpacked first
ARCHIVES = frozenset((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"))

#: file that says which emotion each number stands for
CLASSES = "classes.txt"

#: what splits are called, in lower case -> what they are called here
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "publictest": "val",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}

#: the folders of a release hold few entries; a folder of 300,000 pictures is not searched for a release's names
FEW = 1000

_LEFT_BEHIND = ("__macosx", "thumbs.db", "desktop.ini")

#: folders of fertool's own output: never read as data
_left_out: set[Inode] = set()


def leave_out(*folders: Path | None) -> None:
    """Leave these folders out of every folder that is listed from now on.

    The command line sets its workspace and `--out`.
    """
    _left_out.clear()
    for folder in folders:
        if folder is not None and (found := inode(folder)):
            _left_out.add(found)


def ignored(name: str) -> bool:
    """Return whether a name is one that machines leave behind: .DS_Store, ._copy.jpg, __MACOSX, Thumbs.db, ..."""
    return name.lower().startswith((".", "@eadir", "@syno", "@__thumb", "@recycle")) or name.lower() in _LEFT_BEHIND


def is_picture(name: str) -> bool:
    """Return whether a file's name is that of an image; what it holds is seen when it is read."""
    return os.path.splitext(name)[1].lower() in PICTURES and not ignored(name)


def class_names(folder: Path) -> dict[int, str]:
    """Return the emotion that each number stands for, by the file `classes.txt` in a folder; empty if there is none.

    A line holds a name, the first that of 0, or a number and a name ("1 Surprise", "1: Surprise", "1,Surprise").

    Raises:
        DataError: it cannot be read, or a line is neither.
    """
    path = resolve(folder, CLASSES)
    if path is None or not path.is_file():
        return {}
    named: dict[int, str] = {}
    for number, line in enumerate(line for line in text(path).split("\n") if line.strip()):
        found = re.fullmatch(r"(?:(\d{1,4})[\s:,;=.-]+)?(.+)", line.strip())
        label = emotion(found[2]) if found else None
        if not found or label is None:
            raise DataError(f"{path}: {line.strip()[:40]!r} names no emotion", "one a line: happy, or 3 happy")
        named[int(found[1] or number)] = label
    return named


def emotion(name: str) -> str | None:
    """Return the emotion that names a folder or column, a number in front or not ("1_Happy"); else None."""
    bare = re.sub(r"^\d+[\s._-]+", "", name.strip())
    return canonical(bare) if is_emotion(bare) else None


def pictures(folder: Path | str) -> list[str]:
    """Return the names of the images lying directly in a folder, sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(e.name for e in found if is_picture(e.name))
    except OSError as e:
        raise DataError(f"cannot read {folder}: {e.strerror}") from e


def walk(
    root: Path | str,
    *,
    apart: Callable[[str], Hashable] = lambda below: None,
    onerror: Callable[[OSError], None] | None = None,
    skipped: Callable[[str, str], None] = lambda below, first: None,
) -> Iterator[tuple[str, list[str]]]:
    """Visit a folder and all below it, links to folders too, sorted by name.

    A folder that is reached twice is visited once (once for each value of `apart`), and never inside itself.
    `leave_out` and names that machines leave behind are passed over.

    Args:
        apart: path relative to `root` -> what may hold the same folder again, e.g. its split.
        onerror: called with the error of a folder that cannot be read; None raises.
        skipped: called with the relative path of a link that is not followed, and that of the folder it leads to.

    Yields:
        (path relative to `root`, "" for itself; sorted names of the files in it).

    Raises:
        DataError: a folder cannot be read, and there is no `onerror`.
    """
    visited: dict[tuple[Hashable, Hashable], str] = {}
    stack: list[tuple[str, frozenset]] = [("", frozenset())]
    while stack:
        below, above = stack.pop()
        folder = os.path.join(root, below)
        place = inode(folder)
        first = visited.setdefault((place or below, apart(below)), below)
        if place in above or first != below:
            skipped(below, "a folder that it lies in" if place in above else first or str(root))
            continue
        try:
            with os.scandir(folder) as found:
                entries = [(e.name, _is_folder(e)) for e in found if not ignored(e.name)]
        except OSError as e:
            if onerror is None:
                raise DataError(f"cannot read {folder}: {e.strerror}") from e
            onerror(e)
            continue
        yield below, sorted(name for name, is_folder in entries if not is_folder)
        folders = (os.path.join(below, name) for name, is_folder in sorted(entries, reverse=True) if is_folder)
        stack += [(name, above | {place}) for name in folders if not _is_left_out(os.path.join(root, name))]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def pictures_below(root: Path) -> list[Path]:
    """Return the images in a folder and in all below it, by the order of their names.

    Raises:
        DataError: a folder cannot be read.
    """
    found = [Path(root, below, name) for below, names in walk(root) for name in names if is_picture(name)]
    return sorted(found, key=lambda path: (path.name, path))


def frames(folder: Path) -> list[tuple[int, Path]]:
    """Return the images of a recording in their order: the number that each file's name ends with, and the file.

    Raises:
        DataError: the folder cannot be read.
    """
    numbered = ((re.search(r"(\d+)$", os.path.splitext(name)[0]), name) for name in pictures(folder))
    return sorted((int(number[1]), folder / name) for number, name in numbered if number)


def taken(found: list[tuple[int, Path]], which: str) -> list[tuple[int, Path, bool]]:
    """Return the frames of a recording that are taken, with whether each is the neutral one; none if it has too few.

    Args:
        found: see `frames`.
        which: "last3", or "first-last" in a recording that begins with a neutral face.
    """
    first, last = (0, 3) if which == "last3" else (1, 1)
    if len(found) < first + last:
        return []
    return [(*frame, True) for frame in found[:first]] + [(*frame, False) for frame in found[-last:]]


def called(root: Path, word: str) -> Path | None:
    """Return the folder `root`, or the only one in it and so on down, whose name begins with `word`; None if none does.

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


def _is_left_out(path: str) -> bool:
    return bool(_left_out) and inode(path) in _left_out


def few(folder: Path | str) -> list[Path]:
    """Return what lies in a folder, sorted by name, at most `FEW` entries.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(Path(e.path) for e in islice(found, FEW) if not ignored(e.name) and not _is_left_out(e.path))
    except OSError as e:
        raise DataError(f"cannot read {folder}: {e.strerror}") from e


def resolve(root: Path, name: str) -> Path | None:
    """Return `root/name` in whatever letter case it is written on disk; None if it is not there."""
    path = root
    for part in name.split("/"):
        exact = path / part
        if not os.path.exists(exact):
            if not os.path.isdir(path):
                return None
            similar = next((p for p in few(path) if p.name.lower() == part.lower()), None)
            if similar is None:
                return None
            exact = similar
        path = exact
    return path


def tops(root: Path) -> Iterator[Path]:
    """Yield `root` and the folders directly in it: unpacking often adds one folder on top."""
    yield root
    if os.path.isdir(root):
        yield from (p for p in few(root) if os.path.isdir(p))


def find(root: Path, *names: str) -> Path | None:
    """Return the first of `names` that lies in `root` or one folder further down, in any letter case."""
    return next((path for top in tops(root) for name in names if (path := resolve(top, name))), None)


def printable(name: str) -> str:
    """Return a file name as text, the same on every machine.

    Accents are composed (NFC), bytes of an older encoding are written as \\xe9.
    """
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
