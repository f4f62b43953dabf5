"""Any images listed in a table: path, label and what else is known of them."""

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fertool.datasets import columns
from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import ARCHIVES, CLASSES, SPLITS, class_names, emotion, few, ignored, is_picture, printable
from fertool.datasets.tabular import header, table, unescape_formula
from fertool.errors import DataError
from fertool.labels import ordered
from fertool.outputs import inode, is_drawn, is_predictions

ENDINGS = (".csv", ".tsv")
LONGEST = 64  # characters of a text that is carried along
_EMPTY = ("", "nan", "na", "n/a", "null", "none", "-", "?")  # as other programs write a cell without a value
_LARGEST = 2**31 - 1  # number of a frame


class Table(Dataset):
    """Images listed in a table.

    Args:
        images: folder that the paths are relative to; None for the table's own.
    """

    name = "csv"
    priority = 80
    about = "your own images, listed in a table"
    marks = "one table with a column path, image, file or filename"
    layout = """\
labels.csv                       path,label[,split][,subject][,sequence][,frame][,id] in any order, with a header
Other usual names are understood (filepath, image, emotion, expression, usage, person ...); it says which column was
taken for what. Paths are relative to the table, or to --images DIR. Labels are names of emotions, or numbers if
classes.txt beside the table says which is which (a line for each: 3 happy). Further columns of numbers or short texts
are carried along. Separated by commas, semicolons or tabs, in UTF-8 or UTF-16. An id names one file."""

    def __init__(self, root: Path | str, images: Path | None = None, **options: Any):
        super().__init__(root, **options)
        self.images = images
        self.problems()  # the table says which classes there are

    @classmethod
    def matches(cls, root: Path) -> str:
        found = find_tables(root)
        return f"{found[0].name} lists images ({', '.join(header(found[0]))})" if len(found) == 1 else ""

    def scan(self) -> Scan:
        found = find_tables(self.root)
        if len(found) != 1:
            have = f"there are several, {some(p.name for p in found)}: name one" if found else "there is none"
            return [], [Problem(f"a table with a column 'path' is needed; {have}", str(self.root))]
        source = Path(os.path.abspath(found[0]))
        problems: list[Problem] = []

        def report(note: str, fatal: bool = True) -> None:
            problems.append(Problem(note, str(source), fatal))

        try:
            cells, short = _columns(source)
            numbered = class_names(source.parent)
        except DataError as e:
            return [], [Problem(e.message)]
        meanings = _meanings(numbered)
        roles = columns.roles(cells, meanings)
        written = cells[roles["path"]]
        if bare := written.count(""):
            return [], [Problem(f"{bare:,} rows without a path", str(source))]
        if short:
            report(f"{short:,} rows have fewer cells than the header, the rest counts as empty", fatal=False)
        extra = _extra({name: cells[name] for name in cells if name not in roles.values()}, report)
        if note := _taken(roles, extra):
            report(note, fatal=False)

        nothing = [""] * len(written)

        def translate(role: str, wanted: str) -> list:
            """Return the cells of a column as what they mean; None where it is empty or there is no such column."""
            column = cells[roles[role]] if role in roles else nothing
            known = {cell: meanings[role](cell) for cell in set(column)}
            if wrong := Counter(cell for cell in column if known[cell] is None):
                what = some(f"{cell[:40]!r} ({n:,} rows)" for cell, n in wrong.most_common())
                report(f"column {roles[role]}: {what} should be {wanted}")
            return [None if known[cell] == "" else known[cell] for cell in column]

        wanted = f"one of the numbers in {CLASSES}" if numbered else "names of emotions"
        labels = translate(
            "label", wanted + ("" if numbered else _on_numbers(cells[roles["label"]] if "label" in roles else ()))
        )
        splits = translate("split", "train, val or test")
        frames = translate("frame", f"whole numbers up to {_LARGEST:,}")
        if "label" in roles and (bare := labels.count(None)):
            report(f"{bare:,} of {len(labels):,} rows have no label", fatal=False)
        files = _Files(self.images or source.parent)
        paths = files.locate(written)
        for note in files.notes:
            report(note, fatal=False)
        names = _names(paths, written, str(files.folder))
        ids = _ids(cells[roles["id"]], names, report) if "id" in roles else names
        subjects, sequences = (
            ["" if _is_empty(cell) else cell for cell in cells[roles[r]]] if r in roles else nothing
            for r in ("subject", "sequence")
        )

        _check_files(paths, names, labels, splits, report)
        rows = _rows(ids, paths, written, report)
        if drawn := [row for row in rows if is_drawn(paths[row])]:
            report(f"{len(drawn):,} images that fertool drew are left out: {some(ids[r] for r in drawn)}", fatal=False)
            rows = sorted(set(rows) - set(drawn))
        if absent := [row for row in rows if not os.path.isfile(paths[row])]:
            what = f"{len(absent):,} of {len(rows):,} files are missing: {some(ids[row] for row in absent)}"
            report(f"{what}; {files.looked_for(paths[absent[0]])}", fatal=len(absent) == len(rows))
        if unlisted := files.unlisted(paths):
            report(f"{len(unlisted):,} images beside those listed are in no row: {some(unlisted)}", fatal=False)
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


def find_tables(root: Path) -> list[Path]:
    """Return the tables of images meant by a file, or lying in a folder."""
    if root.is_file():
        return [root] if columns.has_paths(header(root)) else []
    candidates = [p for p in few(root) if p.suffix.lower() in ENDINGS]
    return [p for p in candidates if columns.has_paths(header(p)) and not is_predictions(p)]


def _columns(path: Path) -> tuple[dict[str, list[str]], int]:
    """Return the cells of a table by the names of their columns, and how many rows are shorter than the header.

    Raises:
        DataError: it cannot be read, has no rows, or rows that do not fit its header.
    """
    lines = table(path)
    keys, rows = [name.strip() for name in lines[0]], lines[1:]
    if not rows:
        raise DataError(f"{path} has no rows")
    if twice := columns.repeated(keys):
        raise DataError(f"{path} has several columns of the same name: {some(twice)}")
    if long := [",".join(row)[:60] for row in rows if any(row[len(keys) :])]:
        raise DataError(f"{path} has rows with more cells than columns (names with commas need quotes): {some(long)}")
    cells = {key: [_cell(row, place) for row in rows] for place, key in enumerate(keys) if key}
    return cells, sum(len(row) < len(keys) for row in rows)


def _cell(row: list[str], place: int) -> str:
    return unescape_formula(row[place].strip()) if place < len(row) else ""


def _meanings(numbered: dict[int, str]) -> dict[str, Callable[[str], object]]:
    """Return what a column can hold -> what a cell of it means: "" if it is empty, None for what it cannot be."""

    def label(cell: str) -> str | None:
        number = _whole(cell) if numbered else None
        return emotion(cell) if number is None else numbered.get(number)

    def or_empty(meaning: Callable[[str], object]) -> Callable[[str], object]:
        return lambda cell: "" if _is_empty(cell) else meaning(cell)

    return {
        "path": lambda cell: cell if is_picture(re.split(r"[\\/]", cell)[-1]) else None,
        "label": or_empty(label),
        "split": or_empty(lambda cell: SPLITS.get(cell.lower())),
        "frame": or_empty(_whole),
    }


def _is_empty(cell: str) -> bool:
    return cell.lower() in _EMPTY


def _whole(cell: str) -> int | None:
    """Return a whole number as it may be written, 3 or 3.0; None if it is none, or too large."""
    if re.fullmatch(r"\d{1,10}(\.0*)?", cell, re.ASCII) and (number := int(float(cell))) <= _LARGEST:
        return number
    return None


def _on_numbers(cells: Iterable[str]) -> str:
    if any(_whole(cell) is not None for cell in cells):
        return f"; numbers are read with a file {CLASSES} beside the table, a line for each (3 happy)"
    return ""


def _taken(roles: dict[str, str], extra: dict[str, list]) -> str:
    """Return which columns were taken for what, where that is not as they are called; "" if all is plain."""
    others = f"carried along as they are: {some(extra, 20)}" if extra else ""
    taken = [f"{name} for {role}" for role, name in roles.items() if columns.slug(name) != role]
    unlabelled = "" if "label" in roles else "no column of labels was found: all images are unlabelled"
    if not taken and not unlabelled:
        return ""
    return "; ".join(filter(None, (unlabelled, f"columns taken: {', '.join(taken)}" if taken else "", others)))


def _extra(cells: dict[str, list[str]], report: Callable) -> dict[str, list]:
    """Return further columns, under names they can have in a file."""
    extra: dict[str, list] = {}
    for name, column in cells.items():
        key = columns.slug(name).strip("_")
        values = _values(column)
        if values is None:
            report(f"column {name!r} holds texts of more than {LONGEST} characters and is left out", fatal=False)
        elif key in columns.TAKEN or key in extra or not key:
            report(f"column {name!r} is left out, lists of faces have one of that name: rename it", fatal=False)
        else:
            extra[key] = values
    return extra


class _Files:
    """Finds the files that a table names.

    Attributes:
        folder: that the paths are relative to.
        notes: what had to be read otherwise than it is written.
    """

    def __init__(self, folder: Path):
        self.folder = Path(os.path.abspath(folder))
        self.notes: list[str] = []
        self._listed: dict[str, dict[str, str | None]] = {}

    def locate(self, written: list[str]) -> list[str]:
        """Return the file of every path, relative to the folder.

        Paths may be written as on Windows, in other letter case or in another Unicode form; if all are absolute paths
        of another machine, their files are found by the ends of the paths.
        """
        paths: list[str] = []
        otherwise: list[str] = []
        elsewhere: list[str] = []
        drop = 0
        moved = not any(os.path.exists(name) for name in written if _is_absolute(name))
        for name in written:
            path = os.path.normpath(os.path.join(self.folder, name))
            if not os.path.exists(path):
                slashes = name.replace("\\", "/")
                similar = self._similar(slashes)
                if similar is None and moved and _is_absolute(slashes):
                    similar, drop = self._moved(slashes, drop)
                    elsewhere += [name] if similar else []
                elif similar is not None and slashes == name:
                    otherwise.append(name)
                path = similar or os.path.normpath(os.path.join(self.folder, slashes))
            paths.append(path)
        if otherwise:
            note = f"{len(otherwise):,} files were found in other letter case or Unicode form: {some(otherwise)}"
            self.notes.append(note)
        if elsewhere:
            note = f"{len(elsewhere):,} paths of another place were looked for in {self.folder}: {some(elsewhere, 3)}"
            self.notes.append(note)
        return paths

    def _moved(self, name: str, drop: int) -> tuple[str | None, int]:
        """Return the file of another machine's absolute path, by its end, and the number of dropped folders."""
        parts = [part for part in name.split("/") if part]
        for n in dict.fromkeys((drop, *range(len(parts)))):
            if n < len(parts) and (path := self._similar("/".join(parts[n:]))):
                return path, n
        return None, drop

    def _similar(self, name: str) -> str | None:
        """Return the file of a path in any letter case and Unicode form; None if there is none, or no single one."""
        path = str(self.folder)
        if os.path.isabs(name):
            return name if os.path.exists(name) else None
        for part in name.split("/"):
            exact = os.path.normpath(os.path.join(path, part))
            if not os.path.exists(exact):
                if (similar := self._in(path).get(_plain(part))) is None:
                    return None
                exact = os.path.join(path, similar)
            path = exact
        return path

    def _in(self, folder: str) -> dict[str, str | None]:
        """Return the names in a folder by their plain form; None for what several have."""
        if folder not in self._listed:
            names: dict[str, str | None] = {}
            with suppress(OSError):
                for name in os.listdir(folder):
                    names[_plain(name)] = None if _plain(name) in names else name
            self._listed[folder] = names
        return self._listed[folder]

    def looked_for(self, path: str) -> str:
        """Return where a file was looked for, and what else is the matter there."""
        archive = next((p for p in Path(path).parents if p.is_file()), None)
        if archive is None:
            near = Path(path).parent
            archive = next((p for p in map(near.with_suffix, ARCHIVES) if p.is_file()), None) if near.name else None
        hint = f"unpack {archive}" if archive else "--images DIR names the folder that paths are relative to"
        return f"looked for {path} ({hint})"

    def unlisted(self, paths: list[str]) -> list[str]:
        """Return the names of the images that lie in the folders of the files, and are none of them."""
        listed = set(paths)
        return [
            name
            for folder in sorted({os.path.dirname(path) for path in paths})
            if os.path.isdir(folder)
            for name in sorted(os.listdir(folder))
            if is_picture(name) and not ignored(name) and os.path.join(folder, name) not in listed
        ]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or re.match(r"[A-Za-z]:/", name) is not None


def _names(paths: list[str], written: list[str], folder: str) -> list[str]:
    """Return names of files that do not depend on where the data lie: relative to the folder, or to what they share."""
    inside = all(path.startswith(f"{folder}{os.sep}") for path in paths)
    base = folder if inside else os.path.commonpath([os.path.dirname(path) for path in paths])
    return [printable(path.removeprefix(base).lstrip(os.sep)) for path in paths]


def _ids(cells: list[str], names: list[str], report: Callable) -> list[str]:
    """Return the column of ids; that of an empty cell is the file's name, and absolute paths are none."""
    if absolute := [cell for cell in cells if _is_absolute(cell.replace("\\", "/"))]:
        report(f"ids that are absolute paths are not kept: {some(absolute, 3)}", fatal=False)
    unusable = {"", *absolute}
    return [name if cell in unusable else cell for cell, name in zip(cells, names, strict=True)]


def _check_files(paths: list[str], names: list[str], labels: list, splits: list, report: Callable) -> None:
    """Report files that have two labels, or lie in two splits, by whatever name or link they are listed."""
    files: list[Hashable] = [inode(path) or path for path in paths]
    for what, values in (("labels", labels), ("splits", splits)):
        said: dict[Hashable, set] = {}
        for file, value in zip(files, values, strict=True):
            said.setdefault(file, set()).add(value)
        several = {file: values for file, values in said.items() if len(values) > 1}
        if several:
            called = dict(zip(files, names, strict=True))
            shown = (f"{called[p]} ({', '.join(sorted(v or 'none' for v in vs))})" for p, vs in several.items())
            report(f"{len(several):,} files have several {what}: {some(shown)}")


def _rows(ids: list[str], paths: list[str], written: list[str], report: Callable) -> list[int]:
    """Return the rows that are taken: one for each id. Reports rows that share an id."""
    first: dict[str, int] = {}
    clashes: dict[str, list[str]] = {}
    again = []
    for row, name in enumerate(ids):
        one = first.setdefault(name, row)
        if paths[one] != paths[row]:
            clashes.setdefault(name, [written[one]]).append(written[row])
        elif one != row:
            again.append(name)
    if clashes:
        shown = some((f"{name} ({some(files, 3)})" for name, files in clashes.items()), 3)
        report(f"{len(clashes):,} ids stand for several files: {shown}; if they name people, call the column subject")
    if again:
        report(f"{len(again):,} rows repeat a row of the same file and are left out: {some(again)}", fatal=False)
    return list(first.values())


def _values(cells: list[str]) -> list[int] | list[float] | list[str] | None:
    """Return a column as whole numbers, numbers (NaN where empty) or short texts; None if its texts are too long."""
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", cell, re.ASCII) for cell in cells):
        return [int(cell) for cell in cells]
    if any(cells) and not any(re.fullmatch(r"0\d+", cell) for cell in cells):
        with suppress(ValueError):
            return [float(cell) if cell else math.nan for cell in cells]
    return cells if max(map(len, cells)) <= LONGEST else None
