"""Networks that learn masks of regions, or groups of attributes: both come from make-masks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, RecipeError
from fertool.faces.status import HAS_IMAGE
from fertool.requirements.base import FOLDS, Inputs, NeededFile, Selection
from fertool.requirements.rows import Rows, fold_splits
from fertool.settings import Train

_MASKS = NeededFile("masks", "make-masks")


@dataclass(frozen=True)
class Masks(Selection):
    """Masks of facial regions as targets: `Targets.given["masks"]`, (N, R, h, w) uint8.

    Attributes:
        shape: (R, h, w) of the network's masks.
    """

    shape: tuple[int, int, int]

    def files(self, settings: Train) -> tuple[NeededFile, ...]:
        return (_MASKS,) if settings.fold is None else (FOLDS, _MASKS)

    def check(self, net: Any, inputs: Inputs) -> None:
        masks, name, s = inputs.files["masks"], net.settings.name, inputs.settings
        moved = [k for k in ("flip", "rotate", "shift", "scale", "rotation_angles") if getattr(s, k)]
        if moved:
            raise RecipeError(
                f"{name} learns masks that lie where the face was stored, and {moved[0]} would move the face",
                f"set train.{moved[0]} to {'[]' if moved[0] == 'rotation_angles' else '0'}",
            )
        if "masks" in masks and (found := masks["masks"].shape[1:]) != self.shape:
            raise ArtefactError(
                f"{name} learns masks of {_times(self.shape)}, and {masks.path} has {_times(found)}",
                f"run: fertool make-masks --grid {self.shape[-1]} --overwrite",
            )

    def targets(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"masks": torch.from_numpy(np.array(inputs.files["masks"]["masks"]))}

    def train_rows(self, inputs: Inputs) -> Rows:
        return _masked(inputs, inputs.train_splits)

    def val_rows(self, inputs: Inputs) -> Rows:
        return _masked(inputs, [inputs.val_split])


@dataclass(frozen=True)
class AttributeGroups(Selection):
    """Whether a face has any attribute of a group, as targets.

    `Targets.given["groups"]` is (N, groups) int8, -1 where a face was not sampled for the group. The faces sampled by
    make-masks are an epoch, whatever their split or fold.
    """

    def files(self, settings: Train) -> tuple[NeededFile, ...]:
        return (_MASKS,)

    def targets(self, inputs: Inputs) -> dict[str, Tensor]:
        masks = inputs.files["masks"]
        groups = np.where(np.asarray(masks["drawn"]) > 0, np.asarray(masks["groups"]), -1)
        return {"groups": torch.from_numpy(groups.astype(np.int8))}

    def train_rows(self, inputs: Inputs) -> Rows:
        return _drawn(inputs, "train")

    def val_rows(self, inputs: Inputs) -> Rows:
        return _drawn(inputs, "val")


def _masked(inputs: Inputs, splits: Iterable[str]) -> Rows:
    """Return the rows of some splits that have region masks, labelled or not.

    Raises:
        ArtefactError: the masks file has none, or belongs to other faces.
    """
    faces, masks, fold = inputs.faces, inputs.files["masks"], inputs.settings.fold
    _require(faces, masks, "valid", "landmarks")
    split = faces["split"] if fold is None else fold_splits(inputs.subsets, fold)
    return _unlabelled(faces, np.isin(split, list(splits)) & np.asarray(masks["valid"]))


def _drawn(inputs: Inputs, use: str) -> Rows:
    """Return the rows drawn for the attribute groups, to be used for "train" or "val".

    Raises:
        ArtefactError: the masks file has no attribute groups, or belongs to other faces.
        DataError: nothing was drawn for a group.
    """
    faces, masks = inputs.faces, inputs.files["masks"]
    _require(faces, masks, "drawn", "attributes")
    mine = np.asarray(masks["drawn"]) == {"train": 1, "val": 2}[use]
    for name, column in zip(masks.params["groups"], mine.T, strict=True):
        if use == "train" and not column.any():
            raise DataError(
                f"no faces are drawn for the group {name!r}: all in split train have its attributes, or none has",
                "fertool make-masks --overwrite shows the draw",
            )
    return _unlabelled(faces, mine.any(axis=1))


def _require(faces: Artefact, masks: Artefact, column: str, made_from: str) -> None:
    masks.require_parent(faces)
    if column not in masks:
        raise ArtefactError(
            f"{masks.path} holds nothing made from {made_from}: these faces have no {made_from}",
            "fertool inspect shows what a file holds",
        )


def _unlabelled(faces: Artefact, keep: np.ndarray) -> Rows:
    index = np.flatnonzero(keep & np.isin(np.asarray(faces["status"]), HAS_IMAGE))
    label = np.array(faces["label"], dtype=np.int64)[index]
    return Rows(torch.from_numpy(index), torch.from_numpy(label))


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))
