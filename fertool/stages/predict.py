"""predict: photographs, films or a camera → the expression of every face in them."""

import csv
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fertool import artefact, console, pool
from fertool.datasets.base import some
from fertool.errors import ArtefactError, DataError, Stopped, UsageError
from fertool.faces import detect, landmarks
from fertool.faces.finder import Cut, Finder, rgb, whole
from fertool.faces.sources import Picture, count, named, pictures
from fertool.models.base import FerModel
from fertool.regions import masks
from fertool.regions.crops import WHOLE, boxes_of
from fertool.settings import DetectAlign, Predict
from fertool.stages.drawings import Drawings
from fertool.training.devices import Devices, one_device
from fertool.training.infer import network_boxes, show
from fertool.training.trained import Trained

_HELD = 60_000_000  # bytes of pictures that wait for their faces to be judged, at most
_NAMED = 20  # pictures without a face, or unreadable ones, that are named one by one


@dataclass
class Face:
    """A face in a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the picture.
        score: of the detector, NaN if it gives none.
        matrix: (2, 3) picture → face.
        pixels: (H, W, C) uint8, the face.
        marks: (K, 2) landmarks in pixels of the face, or None.
        logits: (classes,) what the network says.
        attention: what it looked at, by name.
        view: (4,) the part of the face that the network saw, as fractions.
    """

    box: np.ndarray
    score: float
    matrix: np.ndarray
    pixels: np.ndarray
    marks: np.ndarray | None
    logits: np.ndarray = field(default_factory=lambda: np.empty(0))
    attention: dict[str, np.ndarray] = field(default_factory=dict)
    view: np.ndarray = field(default_factory=lambda: np.array(WHOLE))

    @property
    def probabilities(self) -> np.ndarray:
        powers = np.exp(self.logits - self.logits.max())
        return powers / powers.sum()


@dataclass(frozen=True)
class Seen:
    """A picture and the faces in it, the largest first."""

    picture: Picture
    faces: list[Face]


def run(
    words: Sequence[str],
    trained: Trained,
    *,
    settings: Predict,
    devices: Devices,
    out: Path | None = None,
    draw: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Find every face and say its expression.

    Rows go to `out`/predictions.csv; without `out` they go to stdout as CSV, or under --json only into what is
    returned. Pictures come and go in batches: however many there are, a few are in memory.

    Args:
        words: files, folders, numbers of cameras.
        out: folder for predictions.csv and the drawn pictures.
        draw: also write the pictures and films with faces framed and labelled into `out`.

    Returns:
        run, classes, pictures, faces (how many), expressions {class: n}, without_face [names], unreadable [{file,
        problem}], seconds, pictures_per_second; under --json also `rows`, one dict per face.

    Raises:
        UsageError: a network that predicts no expressions; `draw` without `out`.
        ArtefactError: a file that is there already.
        DataError: nothing can be read, or there is no face in anything.
        Stopped: Ctrl-C; rows so far are kept. A camera is ended by it.
    """
    _check(trained, out, draw, overwrite)
    sources = named(words)
    if not sources:
        raise DataError(f"there is no picture in {', '.join(words)} or below", "name photographs, folders or films")
    live = any(s.is_camera for s in sources)
    looker = _Looker(trained, settings, devices, live)
    tally = _Tally(trained)
    rows: list[dict] | None = [] if console.is_json() else None
    with ExitStack() as stack:
        stack.enter_context(pool.stoppable())
        table = stack.enter_context(_Table(out, trained, looker.parts)) if out or rows is None else None
        drawings = stack.enter_context(Drawings(out, trained)) if draw else None
        total = count(sources, settings.every)
        silent = total is None or (out is None and sys.stdout.isatty())
        advance = stack.enter_context(console.progress("predict", total, "pictures")) if not silent else _nothing
        try:
            for seen in looker(pictures(sources, settings.every)):
                tally.add(seen)
                made = _rows(seen, trained.classes)
                if table:
                    table.write(made)
                if rows is not None:
                    rows += made
                if drawings and seen.picture.pixels is not None:
                    drawings.add(seen.picture, seen.faces)
                advance(note=seen.picture.source.name)
        except KeyboardInterrupt:
            if not live:
                kept = f"; their rows are in {table.path}" if table and table.path else ""
                raise Stopped(f"stopped after {tally.pictures:,} pictures{kept}") from None
    facts = tally.facts()
    if not tally.faces:
        tally.refuse()
    if drawings:
        facts["drawn"] = [str(path) for path in drawings.written]
    return facts | ({"rows": rows} if rows is not None else {}) | ({"out": str(table.path)} if out else {})


def report(facts: dict) -> None:
    """Print how many faces there were, and of which expressions."""
    found = ", ".join(f"{name} {n:,}" for name, n in facts["expressions"].items() if n)
    console.say(f"{_many(facts['faces'], 'face')} in {_many(facts['pictures'], 'picture')}: {found}")
    if facts["faceless"]:
        console.say(f"no face in {facts['faceless']:,} of them")
    console.say(f"{facts['seconds']:.1f} s, {facts['pictures_per_second']:.1f} pictures per second")
    if "out" in facts:
        console.say(f"→ {facts['out']}")
    if facts.get("drawn"):
        console.say(f"→ {some(facts['drawn'], 3)}")


def _nothing(n: int = 1, note: str = "") -> None:
    pass


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _check(trained: Trained, out: Path | None, draw: bool, overwrite: bool) -> None:
    if not trained.classes or not type(trained.network()).classifies:
        raise UsageError(
            f"{trained.name} predicts no expressions", f"name a run of the network that stands on {trained.model.name}"
        )
    if draw and out is None:
        raise UsageError("--draw needs a folder to write to", "add --out FOLDER")
    if out and (out / _Table.NAME).exists() and not overwrite:
        raise ArtefactError(f"{out / _Table.NAME} is already there", "add --overwrite, or choose another --out")


# --------------------------------------------------------------------------------------------------- pictures → faces


class _Looker:
    """Finds the faces of pictures and lets the network judge them, many at a time."""

    def __init__(self, trained: Trained, settings: Predict, devices: Devices, live: bool):
        self.settings, self.live = settings, live
        self.faces, self.regions = _faces_settings(trained, settings), trained.regions
        fabric = one_device(devices, settings.precision)
        self.net: FerModel = trained.network().to(fabric.device)
        self._forward = fabric.setup_module(self.net, move_to_device=False)
        self._device = fabric.device
        self._finder = Finder(self.faces, fabric.device.type)
        self.parts = _parts(self.net, trained.region_names)

    def __call__(self, stream: Iterable[Picture]) -> Iterator[Seen]:
        """Every picture with its judged faces, in order. Those of a camera one by one: nobody waits for a batch."""
        groups = ([p] for p in stream) if self.live else self._finder.groups(stream, lambda p: p.pixels)
        held: list[Seen] = []
        for group in groups:
            held += self._find(group)
            size = sum(s.picture.pixels.nbytes for s in held if s.picture.pixels is not None)
            if self.live or size > _HELD or sum(len(s.faces) for s in held) >= self.settings.batch:
                self._judge(held)
                yield from held
                held = []
        self._judge(held)
        yield from held

    def _find(self, group: list[Picture]) -> Iterator[Seen]:
        if group[0].pixels is None:
            return (Seen(picture, []) for picture in group)
        colour = [rgb(p.pixels) for p in group]
        found = self._finder.find(colour)
        return (Seen(p, self._cut(p, c, f)) for p, c, f in zip(group, colour, found, strict=True))

    def _cut(self, picture: Picture, colour: np.ndarray, found: detect.Faces) -> list[Face]:
        made = []
        for i in sorted(range(len(found)), key=lambda i: -_area(found.boxes[i])):
            cut = self._finder.cut(picture.pixels, found.boxes[i], self._finder.marks(colour, found, i))
            if cut is not None:
                made.append(_face(found.boxes[i], found.scores[i], cut))
        if not made and self.settings.missed == "keep":
            made.append(_face(whole(colour).boxes[0], np.nan, self._finder.keep(picture.pixels)))
        return made

    @torch.inference_mode()
    def _judge(self, held: list[Seen]) -> None:
        faces = [(face, _id(seen.picture, i)) for seen in held for i, face in enumerate(seen.faces)]
        for start in range(0, len(faces), self.settings.batch):
            part = [face for face, _ in faces[start : start + self.settings.batch]]
            images = torch.from_numpy(np.stack([face.pixels for face in part])).permute(0, 3, 1, 2)
            boxes = self._boxes(part, [name for _, name in faces[start : start + self.settings.batch]])
            output = show(self.net, self._forward, images.to(self._device), boxes)
            views = network_boxes(self.net, boxes, self.faces.shape[:2]).numpy()
            logits = output.logits.float().cpu().numpy()
            attention = {name: values.float().cpu().numpy() for name, values in output.attention.items()}
            for i, face in enumerate(part):
                face.logits, face.view = logits[i], views[i, 0]
                face.attention = {name: values[i] for name, values in attention.items()}

    def _boxes(self, faces: list[Face], ids: list[str]) -> torch.Tensor:
        """(N, K, 4) regions as they were made for the run's own faces."""
        if self.regions is None:
            return torch.tensor(WHOLE).expand(len(faces), 1, 4)
        points = None
        if self.regions.mode == "landmark":
            k = next((len(face.marks) for face in faces if face.marks is not None), 5)
            points = np.stack([np.full((k, 2), np.nan) if face.marks is None else face.marks for face in faces])
        return torch.from_numpy(boxes_of(self.regions, ids, points, self.faces.shape[:2]).astype(np.float32))


def _face(box: np.ndarray, score: float, cut: Cut) -> Face:
    return Face(box, float(score) if np.isfinite(score) else np.nan, cut.matrix, cut.pixels, cut.marks)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _id(picture: Picture, face: int) -> str:
    """What decides random crops: for the largest face of a photograph the id it has in a data set of that folder."""
    parts = [picture.source.below, *([str(picture.frame)] if picture.frame else []), *([str(face + 1)] if face else [])]
    return " ".join(parts)


def _faces_settings(trained: Trained, settings: Predict) -> DetectAlign:
    """How faces are found and brought to what the network learnt from: as its own were, as far as that can be done
    with photographs of which no data set tells anything."""
    faces, data = trained.faces, trained.prepared["faces"].get("dataset") or "the data set"
    changes: dict[str, Any] = {}
    if settings.detector not in ("as-trained", faces.detector):
        changes = {"detector": settings.detector, "min_score": 0.0}  # scores of another detector mean something else
    elif faces.detector == "shipped":
        console.say(f"{data} ships the boxes of its faces; mtcnn finds them here")
        changes = {"detector": "mtcnn", "min_score": 0.0}
    elif faces.detector == "none":
        console.say(
            f"{trained.name} learnt from whole pictures: each of these is taken as a face (or --detector mtcnn)"
        )
    if settings.min_score is not None:
        changes["min_score"] = settings.min_score
    if faces.landmarks == "shipped":
        console.say(f"{data} ships landmarks; ert68 places them here")
        changes["landmarks"] = "ert68"
    if faces.landmarks == "sdm":
        file = landmarks.sdm_file(settings.sdm)
        if artefact.read(file, "landmarks").digest != trained.prepared["sdm"]:
            raise ArtefactError(
                f"{file} is not what placed the landmarks of the faces of {trained.name}",
                "name the file of fit-sdm that detect-align was given",
            )
        changes["sdm"] = str(file)
    elif settings.sdm:
        raise UsageError(f"no file of fit-sdm placed the landmarks of {trained.name}", "leave out --sdm")
    return replace(faces, **changes)


# --------------------------------------------------------------------------------------------------- faces → rows


def _parts(net: FerModel, regions: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """What the entries of an attention vector of some name and length stand for."""

    def parts(name: str, n: int) -> Sequence[str]:
        if name in ("mu", "nu", "weight") and n == len(regions):
            return regions
        if name == "regions" and n == len(masks.REGIONS):
            return masks.REGIONS
        if name == "branches":
            return net.names
        return [str(i + 1) for i in range(n)]

    return parts


def _rows(seen: Seen, classes: Sequence[str]) -> list[dict]:
    """What is told of each face of a picture."""
    picture, rows = seen.picture, []
    for number, face in enumerate(seen.faces, 1):
        p = face.probabilities
        rows.append(
            {
                "file": picture.source.name,
                "frame": picture.frame or None,
                "seconds": round(picture.seconds, 3) if np.isfinite(picture.seconds) else None,
                "face": number,
                "box": [round(float(v), 1) for v in face.box],
                "score": round(face.score, 4) if np.isfinite(face.score) else None,
                "expression": classes[int(p.argmax())],
                "probability": round(float(p.max()), 4),
                "probabilities": {name: round(float(v), 6) for name, v in zip(classes, p, strict=True)},
                "logits": [round(float(v), 6) for v in face.logits],
                "attention": {k: np.round(v.astype(float), 4).tolist() for k, v in face.attention.items()},
            }
        )
    return rows


class _Table:
    """Rows as CSV, in a file or on stdout; on a terminal, as one short line per face. Maps have no place in it."""

    NAME = "predictions.csv"

    def __init__(self, out: Path | None, trained: Trained, parts: Callable[[str, int], Sequence[str]]):
        self.path = None if out is None else out / self.NAME
        self._classes, self._parts = trained.classes, parts
        self._short = out is None and sys.stdout.isatty()
        self._header: list[str] | None = None

    def __enter__(self) -> "_Table":
        self._file = sys.stdout
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self._csv = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(self, *_) -> None:
        if self.path:
            self._file.close()

    def write(self, rows: list[dict]) -> None:
        for row in rows:
            if self._short:
                at = f" {row['seconds']:.2f} s" if row["seconds"] is not None else ""
                x0, y0, x1, y1 = (round(v) for v in row["box"])
                said = f"{row['expression']} {100 * row['probability']:.0f} %"
                print(f"{row['file']}{at}  face {row['face']} ({x0}, {y0})–({x1}, {y1})  {said}", file=self._file)
                continue
            flat = {name: "" if row[name] is None else row[name] for name in ("file", "frame", "seconds", "face")}
            flat |= dict(zip(("x0", "y0", "x1", "y1"), row["box"], strict=True))
            flat |= {"score": "" if row["score"] is None else row["score"]}
            flat |= {name: row[name] for name in ("expression", "probability")}
            flat |= {f"p_{name}": row["probabilities"][name] for name in self._classes}
            for name, values in row["attention"].items():
                if not isinstance(values[0], list):
                    flat |= {f"{name}_{p}": v for p, v in zip(self._parts(name, len(values)), values, strict=True)}
            if self._header is None:
                self._header = list(flat)
                self._csv.writerow(self._header)
            self._csv.writerow(flat.values())
        self._file.flush()


class _Tally:
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
            if not picture.source.is_film:
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
            "pictures_per_second": round(self.pictures / max(seconds, 1e-9), 2),
        }

    def refuse(self) -> None:
        """Nothing was found at all.

        Raises:
            DataError: the message says whether nothing could be read, or nothing had a face.
        """
        if not self.pictures:
            first = self.unreadable[0]
            more = f" (and {_many(len(self.unreadable) - 1, 'more')})" if len(self.unreadable) > 1 else ""
            raise DataError(f"nothing could be read: {first['file']}: {first['problem']}{more}")
        raise DataError(
            f"no face was found in {_many(self.pictures, 'picture')}",
            "other detectors may find some (--detector dlib-cnn); if each picture is a face: --missed keep",
        )
