"""A toy dataset that a small network learns in seconds: the class of a face is where its bright bar lies."""

from pathlib import Path

import numpy as np
import torch

from fertool import artefact
from fertool.artefact import Artefact
from fertool.recipe import Recipe
from fertool.settings import Train
from fertool.stages import train
from fertool.training.devices import Devices
from fertool.workspace import Workspace

torch.set_num_threads(1)  # the networks are small, and sums depend on the number of threads in their last bits

CLASSES = ("neutral", "anger", "fear")
BOXES = np.array([[0, 0, 1, 1], [0, 0, 0.75, 0.75], [0.25, 0, 1, 0.75]], "f4")
CPU = Devices("cpu", 1)

#: a training of a second or two; crops of three quarters of 32 pixels are seen as they are
SMALL = {
    "model": {"name": "ran", "backbone": "tiny", "size": 24},
    "global_batch": 16,
    "epochs": 2,
    "lr": 0.05,
    "rotate": 5,
    "shift": 0.05,
}

#: the smallest network of a user's own, as the source of its file
NETWORK = """
from torch import nn
from fertool.backbones.base import InputSpec
from fertool.models.base import FerModel, Output
from fertool.settings import Settings
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class MySettings(Settings):
    name: str = "my-net"

class MyNet(FerModel):
    name = "my-net"
    Settings = MySettings

    def __init__(self, settings, classes, regions=1):
        super().__init__()
        self.settings, self.input = settings, InputSpec((16, 16))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(768, classes))

    def forward(self, views):
        return Output(self.classifier(views[:, 0]))
"""


def bars(labels: np.ndarray, side: int = 32, seed: int = 0) -> np.ndarray:
    """(N, side, side, 1) noise with a bright bar at the top (class 0), in the middle or at the bottom."""
    images = np.random.default_rng(seed).integers(0, 80, (len(labels), side, side, 1), dtype=np.uint8)
    third = side // len(CLASSES)
    for image, label in zip(images, labels, strict=True):
        image[label * third : (label + 1) * third] += 100
    return images


def write_faces(
    folder: Path, train: int = 48, test: int = 24, *, seed: int = 0, classes: tuple[str, ...] = CLASSES, **columns
) -> Artefact:
    """A faces file with `train` and `test` rows; further columns, or others instead of the usual ones, by name.

    `classes` may list the three emotions in another order: the bar of an emotion lies at the same place all the same.
    """
    n = train + test
    emotion = np.random.default_rng(seed).permutation(np.arange(n) % len(CLASSES))
    usual = {
        "id": np.array([f"face {i}.png" for i in range(n)]),
        "images": bars(emotion, seed=seed),
        "status": np.ones(n, "u1"),
        "label": np.array([classes.index(CLASSES[e]) for e in emotion], "i2"),
        "split": np.where(np.arange(n) < train, "train", "test"),
    }
    params = {"dataset": "folder", "seed": seed}
    return artefact.save(folder / "faces.h5", "faces", {**usual, **columns}, params=params, classes=classes)


def write_regions(faces: Artefact, boxes: np.ndarray = BOXES) -> Artefact:
    """The same boxes for every face."""
    columns = {"id": faces.ids, "boxes": np.repeat(boxes[None], faces.rows, axis=0)}
    return artefact.save(faces.path.with_name("regions.h5"), "regions", columns, params={}, inputs=[faces.as_parent()])


def write_subsets(faces: Artefact, **columns: np.ndarray) -> Artefact:
    return artefact.save(
        faces.path.with_name("subsets.h5"),
        "subsets",
        {"id": faces.ids, **columns},
        params={},
        inputs=[faces.as_parent()],
        classes=faces.classes,
    )


def write_all(folder: Path, **sizes: int) -> Artefact:
    """Faces with regions beside them."""
    faces = write_faces(folder, **sizes)
    write_regions(faces)
    return faces


def settings(**changes) -> Train:
    return Recipe().settings("train", {**SMALL, **changes})


def train_toy(faces: Artefact, *, devices: Devices = CPU, out: Path | None = None, options: dict | None = None, **more):
    """Train through the stage; `options` are those of `train.run`, the rest are settings. Gives the run."""
    beside = {kind: faces.path.with_name(f"{kind}.h5") for kind in ("regions", "subsets", "masks")}
    path = train.run(
        faces.path,
        settings=settings(**more),
        devices=devices,
        workspace=Workspace(faces.path.parent.parent),
        out=out,
        **{**beside, **(options or {})},
    )
    return artefact.read(path, "run")


def weights(run: Artefact, which: str = "last") -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in run.group(f"weights/{which}").items()}
