"""What is told of faces: rows, a table of them, and what was found or not, counted."""

import csv
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fertool import console, files, locks
from fertool.artefact import partial_path
from fertool.datasets.tabular import escape_formula
from fertool.errors import DataError
from fertool.faces import sdm
from fertool.landmarks import landmark_class
from fertool.landmarks.sdm import sdm_file
from fertool.models.base import FerModel
from fertool.outputs import PREDICTIONS
from fertool.regions import masks
from fertool.settings import DetectAlign, Predict
from fertool.stages.predict.detection import Seen
from fertool.training.checkpoint import Trained

if TYPE_CHECKING:
    import pandas as pd

_NO_FACE = "no face"
_NAMED = 20  # pictures without a face, or unreadable ones, that are named one by one


def many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def landmark_count(faces: DetectAlign) -> int:
    """Return how many landmarks a face has."""
    if faces.landmarks == "sdm":
        return len(sdm.load(sdm_file(faces.sdm)).mean)
    return landmark_class(faces.landmarks).points


def parts_of(net: FerModel, regions: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """Return what the entries of an attention vector of some name and length stand for."""

    def parts(name: str, n: int) -> Sequence[str]:
        if name in ("mu", "nu", "weight") and n == len(regions):
            return regions
        if name == "regions" and n == len(masks.REGIONS):
            return masks.REGIONS
        if name == "branches":
            return cast(Sequence[str], net.names)
        return [str(i + 1) for i in range(n)]

    return parts


def rows_of(seen: Seen, classes: Sequence[str], wanted: Predict) -> list[dict]:
    """Return a row for each face of an image or frame; without a face, one with the number 0 that says why."""
    picture, rows = seen.picture, []
    place = {
        "file": picture.source.name,
        "frame": picture.frame or None,
        "seconds": round(picture.seconds, 3) if np.isfinite(picture.seconds) else None,
    }
    if not seen.faces:
        asked = [name for name in ("pose", "landmarks") if getattr(wanted, name)]
        return [{**place, "face": 0, **dict.fromkeys((*_OF_FACE, *asked)), "problem": picture.problem or _NO_FACE}]
    for number, face in enumerate(seen.faces, 1):
        p = face.probabilities
        row = {
            **place,
            "face": number,
            "track": face.track or None,
            "box": _rounded(face.box, 1),
            "score": round(face.score, 4) if np.isfinite(face.score) else None,
            "expression": classes[int(p.argmax())],
            "probability": round(float(p.max()), 4),
            "probabilities": dict(zip(classes, _rounded(p, 6), strict=True)),
            "logits": _rounded(face.logits, 6),
            "attention": {k: _rounded(v, 4) for k, v in face.attention.items()},
        }
        if wanted.pose:
            row["pose"] = None if face.pose is None or np.isnan(face.pose).any() else _rounded(face.pose, 1)
        if wanted.landmarks:
            row["landmarks"] = None if face.landmarks is None else _rounded(face.landmarks, 1)
        rows.append(row | {"problem": ""})
    return rows


_OF_FACE = ("track", "box", "score", "expression", "probability", "probabilities", "logits", "attention")


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(values.astype(float), digits).tolist()


class Columns:
    """The columns of a table of rows; maps have no place in it.

    Args:
        shapes: of what the network pays attention to, by name.
        parts: what the entries of an attention vector of some name and length stand for.
        points: how many landmarks a face has in the table.

    Attributes:
        names: of the columns.
        whole, words: those of whole numbers, and those of text; all others hold numbers.
    """

    whole = ("frame", "face", "track")
    words = ("file", "expression", "problem")

    def __init__(
        self,
        classes: Sequence[str],
        shapes: Mapping[str, tuple[int, ...]],
        parts: Callable[[str, int], Sequence[str]],
        pose: bool,
        points: int,
    ):
        self._classes, self._pose, self._points = classes, pose, points
        #: names of attention -> columns of their entries
        vectors = {name: shape[0] for name, shape in shapes.items() if len(shape) == 1}
        self._attention = {name: [f"{name}_{part}" for part in parts(name, n)] for name, n in vectors.items()}
        self.names = (
            *(*PREDICTIONS, "track", "x0", "y0", "x1", "y1", "score", "expression", "probability"),
            *(f"p_{name}" for name in classes),
            *(column for columns in self._attention.values() for column in columns),
            *(("pitch", "yaw", "roll") if pose else ()),
            *(f"{axis}_{i}" for axis in "xy" for i in range(points)),
            "problem",
        )

    def cells(self, row: dict) -> list:
        """Return a row's cells, None where there is nothing."""
        attention, marks = row["attention"] or {}, row.get("landmarks") or [[None, None]] * self._points
        return [
            *(row[name] for name in (*PREDICTIONS, "track")),
            *(row["box"] or [None] * 4),
            *(row[name] for name in ("score", "expression", "probability")),
            *((row["probabilities"] or {}).get(name) for name in self._classes),
            *(v for name, of in self._attention.items() for v in attention.get(name) or [None] * len(of)),
            *((row.get("pose") or [None] * 3) if self._pose else ()),
            *(point[axis] for axis in (0, 1) for point in marks),
            row["problem"],
        ]

    def frame(self, rows: list[dict]) -> "pd.DataFrame":
        """Return rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([self.cells(row) for row in rows], columns=self.names).astype(
            {name: "Int64" for name in self.whole}
        )


class Table:
    """Rows as CSV, in a file or on stdout; on a terminal, as one short line per face.

    Until the last row the file is called NAME.partial: what has its final name is whole.

    Args:
        out: folder of the file; None for stdout.

    Raises:
        ArtefactError: another process writes the file.
    """

    NAME = "predictions.csv"

    def __init__(self, out: Path | None, columns: Columns):
        self.path = None if out is None else out / self.NAME
        self.partial = self.path and partial_path(self.path)
        self._columns = columns
        self._short = out is None and sys.stdout.isatty()
        self._held = ExitStack()

    def __enter__(self) -> "Table":
        self._file = sys.stdout
        if self.path and self.partial:
            self._held.enter_context(locks.exclusive(self.path))
            with files.writing(self.path):
                self._file = self._held.enter_context(open(self.partial, "w", newline="", encoding="utf-8"))
        self._csv = csv.writer(self._file, lineterminator="\n")
        if not self._short:
            self._csv.writerow(self._columns.names)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with files.writing(self.path or "standard output"), self._held:
            if self.path and self.partial and kind is None:
                self._file.close()  # Windows renames no open file
                self.partial.replace(self.path)

    def write(self, rows: list[dict]) -> None:
        """Write the rows of an image or frame.

        Raises:
            DataError: there is no room for them.
        """
        with files.writing(self.path or "standard output"):
            for row in rows:
                if not self._short:
                    self._csv.writerow(map(_cell, self._columns.cells(row)))
                elif row["face"]:
                    print(_line(row), file=self._file)
            self._file.flush()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return escape_formula(value) if isinstance(value, str) else value


def _line(row: dict) -> str:
    at = f" {row['seconds']:.2f} s" if row["seconds"] is not None else ""
    x0, y0, x1, y1 = (round(v) for v in row["box"])
    who = f" person {row['track']}" if row["track"] else ""
    said = f"{row['expression']} {100 * row['probability']:.0f} %"
    return console.visible(f"{row['file']}{at}  face {row['face']}{who} ({x0}, {y0})–({x1}, {y1})  {said}")


class Tally:
    """What was found, counted; what was not, named."""

    def __init__(self, trained: Trained):
        self.name, self.classes = trained.name, trained.classes
        self.pictures = self.faces = self.faceless = 0
        self.expressions: Counter[str] = Counter()
        self.people: Counter[str] = Counter()
        self.without: list[str] = []
        self.unreadable: list[dict[str, str]] = []
        self._began = time.monotonic()

    def add(self, seen: Seen) -> None:
        picture = seen.picture
        if picture.problem:
            self.unreadable.append({"file": picture.source.name, "problem": picture.problem})
            self._warn(len(self.unreadable), f"{picture.source.name}: {picture.problem}")
            return
        self.pictures += 1
        self.faces += len(seen.faces)
        self.expressions.update(self.classes[int(face.probabilities.argmax())] for face in seen.faces)
        people = max((face.track for face in seen.faces), default=0)
        if people:
            self.people[picture.source.name] = max(people, self.people[picture.source.name])
        if not seen.faces:
            self.faceless += 1
            if not picture.source.is_video:
                self.without.append(picture.source.name)
                self._warn(len(self.without), f"{picture.source.name}: no face")

    def _warn(self, number: int, message: str) -> None:
        if number <= _NAMED:
            console.say(f"warning: {message}")
        elif number == _NAMED + 1:
            console.say("warning: and more such pictures")

    def facts(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        return {
            "run": self.name,
            "classes": list(self.classes),
            "pictures": self.pictures,
            "faces": self.faces,
            "expressions": {name: self.expressions[name] for name in self.classes},
            "people": dict(self.people),
            "faceless": self.faceless,
            "without_face": self.without,
            "unreadable": self.unreadable,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.pictures / max(seconds, 1e-9), 2),
        }

    def refuse(self) -> None:
        """Raise DataError: nothing was found at all.

        Raises:
            DataError: the message says whether nothing could be read, or nothing had a face.
        """
        if not self.pictures:
            first = self.unreadable[0]
            more = f" (and {many(len(self.unreadable) - 1, 'more')})" if len(self.unreadable) > 1 else ""
            raise DataError(f"nothing could be read: {first['file']}: {first['problem']}{more}")
        raise DataError(
            f"no face was found in {many(self.pictures, 'picture')}",
            "other detectors may find some (--detector dlib-cnn); if each picture is a face: --on-no-face keep",
        )
