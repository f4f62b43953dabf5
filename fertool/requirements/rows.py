"""Rows of a faces file that are trained on or scored together."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError
from fertool.faces.status import HAS_IMAGE


@dataclass(frozen=True)
class Rows:
    """Rows of a faces file that are used together: (N,) indices, labels, and distributions or None."""

    index: Tensor
    labels: Tensor
    distributions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)


def select(
    faces: Artefact,
    splits: Iterable[str],
    *,
    labels: str = "majority",
    subsets: Artefact | None = None,
    fold: int | None = None,
) -> Rows:
    """Return the rows of some splits that have an image and a label.

    Args:
        labels: "majority" (the `label` column), "distribution" (also `label_distribution`), or "list" (labels and
            train/test split of the released lists, from the subsets file).
        fold: instead of their splits, faces of this fold of the subsets file are "test" and all others "train".

    Raises:
        ArtefactError: the file does not carry what `labels` asks for.
    """
    label, split = np.array(faces["label"], dtype=np.int64), faces["split"]
    keep = np.isin(np.asarray(faces["status"]), HAS_IMAGE)
    distributions = None
    if labels == "list":
        if subsets is None or "list_label" not in subsets:
            raise ArtefactError(
                "labels: list requires subsets made from the released lists",
                "run: fertool build-subsets --lists FOLDER",
            )
        subsets.require_parent(faces)
        label, split = np.array(subsets["list_label"], dtype=np.int64), subsets["list_split"]
    elif labels == "distribution":
        if "label_distribution" not in faces:
            raise ArtefactError(f"{faces.path} has no label distributions", "train with labels: majority")
        distributions = np.array(faces["label_distribution"])
        known = np.isfinite(distributions).all(axis=1)
        label = np.where(known, np.nan_to_num(distributions).argmax(axis=1), -1)
    if fold is not None:
        split = fold_splits(subsets, fold)
    keep &= np.isin(split, list(splits)) & (label >= 0)
    index = np.flatnonzero(keep)
    return Rows(
        torch.from_numpy(index),
        torch.from_numpy(label[index]),
        None if distributions is None else torch.from_numpy(distributions[index].astype(np.float32)),
    )


def fold_count(subsets: Artefact) -> int:
    """Return how many folds build-subsets made.

    Raises:
        ArtefactError: none.
    """
    if "fold" not in subsets:
        raise ArtefactError(f"{subsets.path} has no folds", "run: fertool build-subsets --folds 10 --overwrite")
    return int(np.asarray(subsets["fold"]).max()) + 1


def fold_splits(subsets: Artefact | None, fold: int) -> np.ndarray:
    """Return (N,) "test" for the faces of a fold, "train" for those of the others, "" for those that are in none.

    Raises:
        ArtefactError: there are no folds, or not that one.
    """
    if subsets is None:
        raise ArtefactError("there is no subsets file, which holds the folds", "run: fertool build-subsets --folds 10")
    last = fold_count(subsets) - 1
    folds = np.asarray(subsets["fold"])
    if fold > last:
        raise ArtefactError(f"{subsets.path} has no fold {fold}: they are 0 to {last}", "or --folds all")
    return np.select([folds == fold, folds >= 0], ["test", "train"], "").astype(object)


def check_some(faces: Artefact, rows: Rows, what: str) -> None:
    """Refuse to go on with no faces."""
    if not len(rows):
        raise DataError(f"{faces.path} has no labelled faces with a picture {what}", "fertool inspect shows its splits")


def check_classes(faces: Artefact, rows: Rows, what: str) -> None:
    """Refuse to go on with no faces, or to train on a single class."""
    check_some(faces, rows, what)
    if len(rows.labels.unique()) == 1:
        name = (faces.classes or ())[int(rows.labels[0])]
        raise DataError(
            f"all {len(rows)} faces of {faces.path} {what} are of the class {name!r}",
            "fertool inspect shows its labels",
        )
