"""Pictures → the faces in them, each with what the network says of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fertool import artefact, console
from fertool.detectors.base import Faces
from fertool.detectors.none import whole
from fertool.errors import ArtefactError, UsageError
from fertool.faces.media import Picture, Source
from fertool.faces.pipeline import Cut, Finder, rgb
from fertool.landmarks.sdm import sdm_file
from fertool.models.base import FerModel, Output
from fertool.regions.crops import WHOLE, boxes_of
from fertool.settings import DetectAlign, Predict
from fertool.training.checkpoint import Trained
from fertool.training.devices import Devices, on_one_device
from fertool.training.inference import network_boxes, require_finite_outputs, show

_HELD = 60_000_000  # bytes of pictures that wait for their faces to be judged, at most


@dataclass
class Face:
    """A face in a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image, the centre of the top-left one being (0, 0); as the detector gives
            it, so it may reach beyond the image.
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


class Looker:
    """Finds the faces of pictures and lets the network judge them, many at a time."""

    def __init__(self, trained: Trained, settings: Predict, devices: Devices, live: bool):
        self.settings, self.live = settings, live
        self.faces, self.regions = faces_settings(trained, settings), trained.regions
        self.net, self._infer = _network(trained, devices, settings.precision)
        self._name = trained.name
        self._finder = Finder(self.faces, devices.kind)

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

    def attention_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of what the network pays attention to in a face, by name, as a blank face shows it."""
        blank = self._finder.keep(np.zeros((8, 8, 3), np.uint8))
        face = _face(np.zeros(4), np.nan, blank)
        self._judge([Seen(Picture(Source("", Path(), ""), None), [face])])
        return {name: values.shape for name, values in face.attention.items()}

    def _find(self, group: list[Picture]) -> Iterator[Seen]:
        if group[0].pixels is None:
            return (Seen(picture, []) for picture in group)
        images = [p.pixels for p in group if p.pixels is not None]
        colour = [rgb(image) for image in images]
        found = self._finder.find(colour)
        return (Seen(p, self._cut(i, c, f)) for p, i, c, f in zip(group, images, colour, found, strict=True))

    def _cut(self, image: np.ndarray, colour: np.ndarray, found: Faces) -> list[Face]:
        made = []
        for i in sorted(range(len(found)), key=lambda i: -_area(found.boxes[i])):
            cut = self._finder.cut(image, found.boxes[i], self._finder.marks(colour, found, i))
            if cut is not None:
                made.append(_face(found.boxes[i], found.scores[i], cut))
        if not made and self.settings.on_no_face == "keep":
            made.append(_face(whole(colour).boxes[0], np.nan, self._finder.keep(image)))
        return made

    @torch.inference_mode()
    def _judge(self, held: list[Seen]) -> None:
        faces = [(face, _id(seen.picture, i)) for seen in held for i, face in enumerate(seen.faces)]
        for start in range(0, len(faces), self.settings.batch):
            part, names = map(list, zip(*faces[start : start + self.settings.batch], strict=True))
            images = torch.from_numpy(np.stack([face.pixels for face in part])).permute(0, 3, 1, 2)
            boxes = self._boxes(part, names)
            output = self._infer(images, boxes)
            views = network_boxes(self.net, boxes, self.faces.shape[:2]).numpy()
            logits = output.logits.float().cpu().numpy()
            attention = {name: values.float().cpu().numpy() for name, values in output.attention.items()}
            require_finite_outputs(self._name, names, self.settings.precision, {"logits": logits, **attention})
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


def _network(
    trained: Trained, devices: Devices, precision: str
) -> tuple[FerModel, Callable[[torch.Tensor, torch.Tensor], Output]]:
    """Return a network, and what runs it on faces (N, C, H, W) uint8 and their region boxes (N, K, 4).

    Raises:
        UsageError: an exported graph, in another precision than its own.
    """
    if trained.graph is not None:
        if precision != "32":
            raise UsageError(f"{trained.name} is an ONNX graph, which has its own precision", "leave out --precision")
        return trained.outline(), trained.graph
    net = trained.network()
    device, forward = on_one_device(net, devices, precision)
    return net, lambda images, boxes: show(net, forward, images.to(device), boxes)


def _face(box: np.ndarray, score: float, cut: Cut) -> Face:
    return Face(box, float(score) if np.isfinite(score) else np.nan, cut.matrix, cut.pixels, cut.marks)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _id(picture: Picture, face: int) -> str:
    """Return what decides random crops: for the largest face of an image the id it has in a dataset of that folder."""
    parts = [picture.source.below, *([str(picture.frame)] if picture.frame else []), *([str(face + 1)] if face else [])]
    return " ".join(parts)


def faces_settings(trained: Trained, settings: Predict) -> DetectAlign:
    """How faces are found and brought to what the network learnt from: as its own were, as far as that can be done
    with images of which no dataset tells anything.
    """
    faces, data = trained.faces, trained.prepared["faces"].get("dataset") or "the dataset"
    changes: dict[str, Any] = {}
    if settings.detector not in ("as-trained", faces.detector):
        changes = {"detector": settings.detector, "min_score": 0.0}  # scores of another detector mean something else
    elif faces.detector == "dataset":
        console.say(f"{data} ships the boxes of its faces; mtcnn finds them here")
        changes = {"detector": "mtcnn", "min_score": 0.0}
    elif faces.detector == "none":
        console.say(
            f"{trained.name} learnt from whole pictures: each of these is taken as a face (or --detector mtcnn)"
        )
    if settings.min_score is not None:
        changes["min_score"] = settings.min_score
    if faces.landmarks == "dataset":
        console.say(f"{data} ships landmarks; ert68 places them here")
        changes["landmarks"] = "ert68"
    if faces.landmarks == "sdm":
        file = sdm_file(settings.sdm)
        if artefact.read(file, "landmarks").digest != trained.prepared["sdm"]:
            raise ArtefactError(
                f"{file} is not what placed the landmarks of the faces of {trained.name}",
                "name the file of fit-sdm that detect-align was given",
            )
        changes["sdm"] = str(file)
    elif settings.sdm:
        raise UsageError(f"no file of fit-sdm placed the landmarks of {trained.name}", "leave out --sdm")
    return replace(faces, **changes)
