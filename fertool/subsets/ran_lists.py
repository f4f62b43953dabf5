"""Read the lists that the authors of RAN published (github.com/kaiwang960112/Challenge-condition-FER-dataset).

They name occluded and turned faces of FERPlus, RAF-DB and AffectNet, and the training and test faces. fertool ships
none of them; it reads the authors' folders:

    FERplus_dir    occlusion  "1_fer0034656.png 8 0"        label_name, always 8, type 0..3; CRLF
                   pose       "0/fer0032226.jpg"            label/name
                   train, val "0/fer0000001 6"              label/name, number of crops; labels again in a second file
    RAF_DB_dir     occlusion  "test_0003_aligned 3 4"       name, label, type 1..4; CRLF
                   pose       "0/test_0004_aligned.jpg"     the label file begins with a line "1247 7"
    AffectNet_dir  occlusion  "val/0/<hash>/"               no types
                   pose       "0/<hash>.jpg", "7/<hash>/8.jpg"
                   train, val "7/<hash> 1"

Images are matched by their bare name, whatever the folder or extension. Labels are positions in `protocol`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool.artefact import Parent
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.subsets.names import Ids

_NUMBERED = re.compile(r"(?P<label>\d)/(?P<name>[^/\s]+?)(\.\w+)?( \d+)?")


@dataclass(frozen=True)
class ListFile:
    """One published list.

    Attributes:
        path: path inside the folder.
        line: pattern of a line.
        example: an example line, for messages.
        labels: path of the file that repeats the labels, "" if there is none.
    """

    path: str
    line: re.Pattern
    example: str
    labels: str = ""


@dataclass(frozen=True)
class Layout:
    """One of the authors' folders.

    Attributes:
        folder: published name.
        title: name of the dataset, as written in papers.
        protocol: class order of the labels.
        lists: role (occlusion, pose30, pose45, train, test) -> file.
        types: code of an occlusion type -> name.
        types_are_guessed: whether the authors do not define the codes.
        paper: sizes in Table I of the paper, by subset name.
    """

    folder: str
    title: str
    protocol: str
    lists: dict[str, ListFile]
    types: dict[str, str]
    paper: dict[str, int]
    types_are_guessed: bool = False


FERPLUS = Layout(
    folder="FERplus_dir",
    title="FERPlus",
    protocol="ferplus8",
    lists={
        "occlusion": ListFile(
            "jianfei_occlusion_list.txt",
            re.compile(r"(?P<label>\d)_(?P<name>\S+?)(\.\w+)? \d+ (?P<type>[0-3])"),
            "1_fer0034656.png 8 0",
        ),
        "pose30": ListFile("pose_30_ferplus_list.txt", _NUMBERED, "0/fer0032226.jpg"),
        "pose45": ListFile("pose_45_ferplus_list.txt", _NUMBERED, "0/fer0032226.jpg"),
        "train": ListFile(
            "dlib_ferplus_train_center_crop_range_list.txt",
            _NUMBERED,
            "0/fer0000001 6",
            "dlib_ferplus_train_center_crop_range_label.txt",
        ),
        "test": ListFile(
            "dlib_ferplus_val_center_crop_range_list.txt",
            _NUMBERED,
            "7/fer0032220 6",
            "dlib_ferplus_val_center_crop_range_label.txt",
        ),
    },
    types={"0": "upper", "1": "bottom", "2": "left-right", "3": "glasses-mask"},
    paper={
        "occlusion": 605,
        "occlusion-upper": 70,
        "occlusion-bottom": 138,
        "occlusion-left-right": 213,
        "occlusion-glasses-mask": 184,
        "pose30": 1171,
        "pose45": 634,
    },
)

RAFDB = Layout(
    folder="RAF_DB_dir",
    title="RAF-DB",
    protocol="rafdb7",
    lists={
        "occlusion": ListFile(
            "rafdb_occlusion_list.txt",
            re.compile(r"(?P<name>\S+) (?P<label>\d) (?P<type>[1-4])"),
            "test_0003_aligned 3 4",
        ),
        "pose30": ListFile("val_raf_db_list.txt", _NUMBERED, "0/test_0004_aligned.jpg", "val_raf_db_label.txt"),
        "pose45": ListFile("val_raf_db_list_45.txt", _NUMBERED, "0/test_0004_aligned.jpg", "val_raf_db_label_45.txt"),
    },
    types={"1": "upper", "2": "bottom", "3": "left-right", "4": "glasses-mask"},
    types_are_guessed=True,
    paper={
        "occlusion": 735,
        "occlusion-upper": 126,
        "occlusion-bottom": 151,
        "occlusion-left-right": 160,
        "occlusion-glasses-mask": 298,
        "pose30": 1248,
        "pose45": 558,
    },
)

AFFECTNET = Layout(
    folder="AffectNet_dir",
    title="AffectNet",
    protocol="affectnet8",
    lists={
        "occlusion": ListFile(
            "occlusion_affectnet_list.txt",
            re.compile(r"(val/)?(?P<label>\d)/(?P<name>[^/\s]+)/?"),
            "val/0/bc9ad400db82.../",
        ),
        "pose30": ListFile("pose_30_affectnet_list.txt", _NUMBERED, "0/83dac9d7eec7....jpg"),
        "pose45": ListFile(
            "pose_45_affectnet_list.txt",
            re.compile(r"(?P<label>\d)/(?P<name>[^/\s]+)/\d+\.\w+"),
            "7/3c028208c27c.../8.jpg",
        ),
        "train": ListFile(
            "simple_sample/train_affectnet8part_list.txt",
            _NUMBERED,
            "7/81456263be24... 1",
            "simple_sample/train_affectnet8part_label.txt",
        ),
        "test": ListFile(
            "simple_sample/val_affectnet8part_list.txt",
            _NUMBERED,
            "7/81456263be24... 1",
            "simple_sample/val_affectnet8part_label.txt",
        ),
    },
    types={},
    paper={"occlusion": 682, "pose30": 1949, "pose45": 985},
)

LAYOUTS = (FERPLUS, RAFDB, AFFECTNET)


@dataclass(frozen=True)
class Entries:
    """The lines of a list.

    Attributes:
        path: the list's file.
        names: names as written.
        labels: positions in the protocol.
        types: occlusion types, "" if the list has none.
        rows: row of the faces for each name, or -1.
    """

    path: Path
    names: list[str]
    labels: np.ndarray
    types: list[str]
    rows: np.ndarray

    @property
    def known_rows(self) -> np.ndarray:
        """Return the rows of the listed faces, sorted, without repetitions."""
        return np.unique(self.rows[self.rows >= 0])


@dataclass(frozen=True)
class RanLists:
    """The lists of one dataset: role -> entries; `missing` are published files that the folder lacks."""

    layout: Layout
    folder: Path
    lists: dict[str, Entries]
    missing: list[str]
    parent: Parent

    def classes_in(self, classes: tuple[str, ...] | None) -> np.ndarray:
        """Return, for each label of the lists, its index in `classes`, or -1."""
        ours = list(classes or ())
        return np.array([ours.index(c) if c in ours else -1 for c in PROTOCOLS[self.layout.protocol]])


def read_lists(root: Path, ids: Ids, faces: Path) -> RanLists:
    """Read the authors' lists of these faces: those at or below `root` that match most ids.

    Args:
        root: one of the authors' folders (under any name), or the folder that contains them.
        ids: ids of the faces.
        faces: path of the faces file, for messages.

    Raises:
        DataError: no list, no list of these faces, or a malformed line (with file and line number).
    """
    found = list(_find(Path(root)))
    if not found:
        wanted = ", ".join(f"{layout.folder}/{layout.lists['occlusion'].path}" for layout in LAYOUTS)
        problem = "holds none of the RAN authors' lists" if Path(root).is_dir() else "is not a folder"
        raise DataError(f"{root} {problem}", f"give the authors' folder or its parent, which has {wanted}")
    hits = [_hits(layout, folder, ids) for layout, folder in found]
    layout, folder = found[hits.index(max(hits))]
    lists = _parse(layout, folder, ids)
    if not any(hits):
        example = next((e.names[0] for e in lists.values() if e.names), "nothing")
        those = " and ".join(f"{layout.title} ({folder})" for layout, folder in found)
        raise DataError(
            f"no name in the lists of {those} is an id of {faces}: e.g. {example!r} against {ids.example!r}",
            "use the lists of the dataset of these faces, or name other faces with --data",
        )
    missing = [f.path for role, f in layout.lists.items() if role not in lists]
    return RanLists(layout, folder, lists, missing, _as_parent(layout, folder, lists))


def _find(root: Path) -> Iterator[tuple[Layout, Path]]:
    folders = [root, *sorted(d for d in root.iterdir() if d.is_dir())] if root.is_dir() else []
    for folder in folders:
        for layout in LAYOUTS:
            if any((folder / f.path).is_file() for f in layout.lists.values()):
                yield layout, folder


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    for number, line in enumerate(content.splitlines(), start=1):
        if line := line.strip():
            yield number, line


def _hits(layout: Layout, folder: Path, ids: Ids) -> int:
    """Count the lines of the folder's lists that name a face."""
    n = 0
    for file in layout.lists.values():
        if (folder / file.path).is_file():
            matches = (file.line.fullmatch(line) for _, line in _lines(folder / file.path))
            n += sum(ids.row(m["name"]) >= 0 for m in matches if m)
    return n


def _parse(layout: Layout, folder: Path, ids: Ids) -> dict[str, Entries]:
    lists = {}
    for role, file in layout.lists.items():
        if (folder / file.path).is_file():
            lists[role] = _parse_list(layout, folder / file.path, file, ids)
            if file.labels and (folder / file.labels).is_file():
                _check_labels(folder / file.labels, lists[role])
    return lists


def _parse_list(layout: Layout, path: Path, file: ListFile, ids: Ids) -> Entries:
    classes = len(PROTOCOLS[layout.protocol])
    names: list[str] = []
    labels: list[int] = []
    types: list[str] = []
    malformed: list[tuple[int, str]] = []
    for number, line in _lines(path):
        match = file.line.fullmatch(line)
        if match is None or int(match["label"]) >= classes:
            malformed.append((number, line))
            continue
        names.append(match["name"])
        labels.append(int(match["label"]))
        types.append(layout.types[match["type"]] if "type" in file.line.groupindex else "")
    if malformed:
        number, line = malformed[0]
        more = f" (and {len(malformed) - 1} more lines)" if len(malformed) > 1 else ""
        raise DataError(
            f"{path}, line {number}: {line[:60]!r} is not an entry of this list{more}",
            f"a line looks like {file.example!r}, with a label below {classes}",
        )
    return Entries(path, names, np.array(labels, dtype=np.int16), types, ids.rows(names))


def _check_labels(path: Path, entries: Entries) -> None:
    """Check that the label file beside a list agrees with the list."""
    lines = list(_lines(path))
    if lines and len(lines[0][1].split()) == 2:  # RAF-DB's begins with its own length and the number of classes
        lines = lines[1:]
    if len(lines) != len(entries.names):
        raise DataError(
            f"{path} has {len(lines)} labels and {entries.path.name} {len(entries.names)} faces",
            "one of the two files is incomplete: fetch both again",
        )
    for (number, line), label, name in zip(lines, entries.labels, entries.names, strict=True):
        if line != str(label):
            raise DataError(
                f"{path}, line {number}: label {line[:20]!r}, but {entries.path.name} gives {name} the label {label}",
                "the two files do not belong together: fetch both again",
            )


def _as_parent(layout: Layout, folder: Path, lists: dict[str, Entries]) -> Parent:
    digest = hashlib.blake2b(digest_size=16)
    for role in sorted(lists):
        digest.update(f"{role}\0".encode() + lists[role].path.read_bytes() + b"\0")
    return Parent("lists", "lists", layout.folder, "", digest.hexdigest())
