"""A small made-up workspace on disk: faces, regions, subsets, and runs with predictions."""

from pathlib import Path

import numpy as np

from fertool import artefact
from fertool.artefact import Artefact
from fertool.faces.status import KEPT, OK
from fertool.labels import PROTOCOLS

BOXES = np.array(
    [
        [0, 0, 1, 1],
        [0, 0, 0.75, 0.75],
        [0.25, 0, 1, 0.75],
        [0.125, 0.25, 0.875, 1],
        [0.05, 0.05, 0.95, 0.95],
        [0.075, 0.075, 0.925, 0.925],
    ],
    dtype="f4",
)
CLASSES = PROTOCOLS["ferplus8"]


def make_faces(folder: Path, labels, *, side: int = 16, seed: int = 0, dataset: str = "ferplus", ids=None) -> Artefact:
    """Grey noise with the given labels, all in the split "test"; every fifth face was missed and kept whole."""
    n = len(labels)
    ids = [f"face{i:03d}.png" for i in range(n)] if ids is None else ids
    images = np.random.default_rng(seed).integers(0, 256, (n, side, side, 1), dtype="u1")
    columns = {
        "id": np.array(ids, dtype=object),
        "images": images,
        "status": np.where(np.arange(n) % 5 == 4, KEPT, OK).astype("u1"),
        "label": np.asarray(labels, dtype="i2"),
        "split": np.array(["test"] * n, dtype=object),
    }
    params = {"dataset": dataset, "align": "similarity"}
    return artefact.save(folder / "faces.h5", "faces", columns, params=params, classes=CLASSES)


def make_regions(faces: Artefact, boxes: np.ndarray = BOXES) -> Artefact:
    names = ["face", *(f"crop-{i}" for i in range(1, len(boxes)))]
    columns = {"id": faces.ids, "boxes": np.repeat(boxes[None], faces.rows, axis=0)}
    return artefact.save(
        faces.path.with_name("regions.h5"), "regions", columns, params={"regions": names}, inputs=[faces.as_parent()]
    )


def make_subsets(faces: Artefact, **members: np.ndarray) -> Artefact:
    columns = {"id": faces.ids, **{name.replace("_", "-"): np.asarray(m, bool) for name, m in members.items()}}
    return artefact.save(faces.path.with_name("subsets.h5"), "subsets", columns, params={}, inputs=[faces.as_parent()])


def make_run(
    faces: Artefact, name: str, /, *, variant: str = "ran", recipe: str = "", epochs: int = 3, parents=(), **model
):
    """A run without weights but with a history."""
    t = np.arange(1, epochs + 1, dtype=float)
    history = {"epoch": t, "lr": 0.01 / t, "loss": 2 / t, "train_accuracy": 1 - 0.8 / t, "val_accuracy": 1 - 0.9 / t}
    params = {
        "recipe": recipe,
        "variant": variant,
        "train": {
            "train_splits": ["train"],
            "val_split": "test",
            "labels": "majority",
            "init": "none",
            "oversample": False,
            "select_on": "last",
        },
        "model": {"name": "ran", "backbone": "resnet18", "region": 0} | model,
    }
    return artefact.save(
        faces.path.parent / "runs" / name / "run.h5",
        "run",
        {f"history/{k}": v for k, v in history.items()},
        params=params,
        inputs=[faces.as_parent(), *parents],
        classes=CLASSES,
    )


def make_predictions(
    run: Artefact, faces: Artefact, predicted, *, rows=None, attention=None, sure=5.0, parents=()
) -> Artefact:
    """Predictions that say `predicted` (class indices) about the given rows of the faces, with weights of regions or,
    by name, other attention."""
    rows = np.arange(faces.rows) if rows is None else np.asarray(rows)
    logits = np.zeros((len(rows), len(CLASSES)), "f4")
    logits[np.arange(len(rows)), predicted] = sure
    columns = {
        "id": faces.ids[rows],
        "row": rows.astype("i4"),
        "label": np.asarray(faces["label"])[rows],
        "status": np.asarray(faces["status"])[rows],
        "logits": logits,
    }
    if attention is not None:
        attention = attention if isinstance(attention, dict) else {"weight": attention}
        columns |= {f"attention_{name}": np.asarray(values, "f4") for name, values in attention.items()}
    inputs = [run.as_parent(), faces.as_parent(), *parents]
    path = run.path.with_name("predictions.h5")
    return artefact.save(path, "predictions", columns, params={"split": "test"}, inputs=inputs, classes=CLASSES)
