"""Run the network on the faces of images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fertool import artefact, console
from fertool.errors import ArtefactError, UsageError
from fertool.faces.media import Picture, Source
from fertool.landmarks.sdm import sdm_file
from fertool.models.base import FerModel, Output
from fertool.regions.crops import WHOLE, boxes_of
from fertool.settings import DetectAlign, Predict
from fertool.stages.predict.detection import Face, Seen
from fertool.training.checkpoint import Trained
from fertool.training.devices import Devices, on_one_device
from fertool.training.inference import network_boxes, require_finite_outputs, show

_HELD = 60_000_000  # bytes of pictures that wait for their faces to be judged, at most


class Looker:
    """Runs the network on the faces of images, many at a time."""

    def __init__(self, trained: Trained, settings: Predict, devices: Devices, live: bool):
        self.settings, self.live = settings, live
        self.faces, self.regions = faces_settings(trained, settings), trained.regions
        self.net, self._infer = _network(trained, devices, settings.precision)
        self._name = trained.name

    def __call__(self, stream: Iterable[Seen]) -> Iterator[Seen]:
        """Yield every image with its judged faces, in order. Those of a camera one by one: nobody waits for a batch."""
        held: list[Seen] = []
        for seen in stream:
            held.append(seen)
            size = sum(s.picture.pixels.nbytes for s in held if s.picture.pixels is not None)
            full = len(held) >= self.settings.batch or size > _HELD
            if self.live or full or sum(len(s.faces) for s in held) >= self.settings.batch:
                self._judge(held)
                yield from held
                held = []
        self._judge(held)
        yield from held

    def attention_shapes(self, blank: Face) -> dict[str, tuple[int, ...]]:
        """Return the shape of what the network pays attention to in a face, by name, as a blank face shows it."""
        self._judge([Seen(Picture(Source("", Path(), ""), None), [blank])])
        return {name: values.shape for name, values in blank.attention.items()}

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
        """Return (N, K, 4) regions as they were made for the run's own faces."""
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


def _id(picture: Picture, face: int) -> str:
    """Return what decides random crops: for the largest face of an image the id it has in a dataset of that folder."""
    parts = [picture.source.below, *([str(picture.frame)] if picture.frame else []), *([str(face + 1)] if face else [])]
    return " ".join(parts)


def faces_settings(trained: Trained, settings: Predict) -> DetectAlign:
    """Return how faces are detected and aligned: as the faces that the network was trained on.

    What only a dataset ships, such as boxes, is replaced, and that is printed.
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
            f"{trained.name} was trained on whole images: each of these is taken as a face (or --detector mtcnn)"
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
    if settings.landmarks and faces.landmarks == "none":
        console.say(f"the faces of {trained.name} have no landmarks; ert68 places them here")
        changes["landmarks"] = "ert68"
    if settings.pose and faces.pose == "sixd" and faces.align != "frontal":
        console.say("6DRepNet's weights are not part of a run; the pose is estimated by `learned`")
        changes |= {"pose": "learned", "pose_weights": None}
    return replace(faces, **changes)
