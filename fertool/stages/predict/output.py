"""What is told of faces: rows, a table of them, and what was found or not, counted."""

import csv
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np

from fertool import console, files, locks
from fertool.artefact import partial_path
from fertool.datasets.tabular import escape_formula
from fertool.errors import DataError
from fertool.models.base import FerModel
from fertool.outputs import PREDICTIONS
from fertool.regions import masks
from fertool.stages.predict.inference import Seen
from fertool.training.checkpoint import Trained

_NO_FACE = "no face"
_NAMED = 20  # pictures without a face, or unreadable ones, that are named one by one


def many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


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


def rows_of(seen: Seen, classes: Sequence[str]) -> list[dict]:
    """Return a row for each face of an image or frame; without a face, one with the number 0 that says why."""
    picture, rows = seen.picture, []
    place = {
        "file": picture.source.name,
        "frame": picture.frame or None,
        "seconds": round(picture.seconds, 3) if np.isfinite(picture.seconds) else None,
    }
    if not seen.faces:
        empty = dict.fromkeys(("box", "score", "expression", "probability", "probabilities", "logits", "attention"))
        return [{**place, "face": 0, **empty, "problem": picture.problem or _NO_FACE}]
    for number, face in enumerate(seen.faces, 1):
        p = face.probabilities
        rows.append(
            {
                **place,
                "face": number,
                "box": [round(float(v), 1) for v in face.box],
                "score": round(face.score, 4) if np.isfinite(face.score) else None,
                "expression": classes[int(p.argmax())],
                "probability": round(float(p.max()), 4),
                "probabilities": {name: round(float(v), 6) for name, v in zip(classes, p, strict=True)},
                "logits": [round(float(v), 6) for v in face.logits],
                "attention": {k: np.round(v.astype(float), 4).tolist() for k, v in face.attention.items()},
                "problem": "",
            }
        )
    return rows


class Table:
    """Rows as CSV, in a file or on stdout; on a terminal, as one short line per face. Maps have no place in it.

    Until the last row the file is called NAME.partial: what has its final name is whole.

    Args:
        out: folder of the file; None for stdout.
        shapes: of what the network pays attention to, by name.
        parts: what the entries of an attention vector of some name and length stand for.

    Raises:
        ArtefactError: another process writes the file.
    """

    NAME = "predictions.csv"

    def __init__(
        self,
        out: Path | None,
        trained: Trained,
        shapes: Mapping[str, tuple[int, ...]],
        parts: Callable[[str, int], Sequence[str]],
    ):
        self.path = None if out is None else out / self.NAME
        self.partial = self.path and partial_path(self.path)
        self._classes = trained.classes
        self._short = out is None and sys.stdout.isatty()
        #: names of attention -> columns of their entries
        vectors = {name: shape[0] for name, shape in shapes.items() if len(shape) == 1}
        self._attention = {name: [f"{name}_{part}" for part in parts(name, n)] for name, n in vectors.items()}
        self._held = ExitStack()

    def __enter__(self) -> "Table":
        self._file = sys.stdout
        if self.path and self.partial:
            self._held.enter_context(locks.exclusive(self.path))
            with files.writing(self.path):
                self._file = self._held.enter_context(open(self.partial, "w", newline="", encoding="utf-8"))
        self._csv = csv.writer(self._file, lineterminator="\n")
        if not self._short:
            boxes = ("x0", "y0", "x1", "y1", "score", "expression", "probability")
            attention = [column for columns in self._attention.values() for column in columns]
            self._csv.writerow((*PREDICTIONS, *boxes, *(f"p_{name}" for name in self._classes), *attention, "problem"))
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
                    self._csv.writerow("" if cell is None else cell for cell in self._cells(row))
                elif row["face"]:
                    print(_line(row), file=self._file)
            self._file.flush()

    def _cells(self, row: dict) -> Iterator:
        yield escape_formula(row["file"])
        yield from (row[name] for name in ("frame", "seconds", "face"))
        yield from row["box"] or [None] * 4
        yield from (row[name] for name in ("score", "expression", "probability"))
        yield from ((row["probabilities"] or {}).get(name) for name in self._classes)
        for name, columns in self._attention.items():
            yield from (row["attention"] or {}).get(name) or [None] * len(columns)
        yield escape_formula(row["problem"])


def _line(row: dict) -> str:
    at = f" {row['seconds']:.2f} s" if row["seconds"] is not None else ""
    x0, y0, x1, y1 = (round(v) for v in row["box"])
    said = f"{row['expression']} {100 * row['probability']:.0f} %"
    return console.visible(f"{row['file']}{at}  face {row['face']} ({x0}, {y0})–({x1}, {y1})  {said}")


class Tally:
    """What was found, counted; what was not, named."""

    def __init__(self, trained: Trained):
        self.name, self.classes = trained.name, trained.classes
        self.pictures = self.faces = self.faceless = 0
        self.expressions: Counter[str] = Counter()
        self.without: list[str] = []
        self.unreadable: list[dict[str, str]] = []
        self._began = time.monotonic()

    def add(self, seen: Seen) -> None:
        picture = seen.picture
        if picture.pixels is None:
            self.unreadable.append({"file": picture.source.name, "problem": picture.problem})
            self._warn(len(self.unreadable), f"{picture.source.name}: {picture.problem}")
            return
        self.pictures += 1
        self.faces += len(seen.faces)
        self.expressions.update(self.classes[int(face.logits.argmax())] for face in seen.faces)
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
            "faceless": self.faceless,
            "without_face": self.without,
            "unreadable": self.unreadable,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.pictures / max(seconds, 1e-9), 2),
        }

    def refuse(self) -> None:
        """Nothing was found at all.

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
