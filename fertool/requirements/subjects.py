"""Networks that learn to tell people apart: the people they are trained on, and the other people they are tested on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fertool import console
from fertool.artefact import Artefact
from fertool.errors import DataError
from fertool.faces.status import HAS_IMAGE
from fertool.requirements.base import FOLDS, Inputs, NeededFile, Selection
from fertool.requirements.rows import Rows, fold_splits
from fertool.settings import Train
from fertool.subsets.pairs import draw_pairs


@dataclass(frozen=True)
class Subjects(Selection):
    """Whose face each is, for a network that learns to tell people apart; its setting `subjects` counts them.

    Attributes:
        held_out: share of the people that are tested on where the faces have no splits.
    """

    held_out: float

    def files(self, settings: Train) -> tuple[NeededFile, ...]:
        return () if settings.fold is None else (FOLDS,)

    def settle(self, model: Any, inputs: Inputs) -> Any:
        found = self._people(inputs)
        _say(found, inputs.val_split)
        return replace(model, subjects=len(found.train.labels.unique()))

    def train_rows(self, inputs: Inputs) -> Rows:
        return self._people(inputs).train

    def val_rows(self, inputs: Inputs) -> Rows:
        return _enough_to_verify(self._people(inputs).test)

    def _people(self, inputs: Inputs) -> "People":
        return people(inputs.faces, inputs.settings.as_dict(), self.held_out, inputs.val_split, inputs.subsets)


@dataclass(frozen=True)
class People:
    """Rows of a faces file by person.

    Attributes:
        train: rows that are trained on; a label is the place of the person among all trained on, by name.
        single: number of people left out of them because they have one face only.
        test: rows of the split that is watched, of people who are not trained on; labels likewise.
        known: number of people left out of them because they are trained on.
    """

    train: Rows
    single: int
    test: Rows
    known: int


def people(
    faces: Artefact, train: Mapping[str, Any], held_out: float, split: str, subsets: Artefact | None = None
) -> People:
    """Return the rows that a run learns from, and those of a split.

    Args:
        train: the settings `train_splits` and `fold` of the run.
        held_out: share of the people who are "test" where the faces have no splits, every N-th by name; all
            others are "train".
        split: whose rows are `test`.
        subsets: the folds, where a fold is left out.

    Raises:
        DataError: the faces have no subjects, or fewer than two people have two faces to train on.
    """
    subject = subjects(faces)
    if not (subject != "").any():
        raise DataError(
            f"{faces.path} has no subjects, which identity learns to tell apart",
            "folders per person: fertool detect-align FOLDER --dataset folder --set data.folders=subjects",
        )
    usable = np.isin(np.asarray(faces["status"]), HAS_IMAGE) & (subject != "")
    fold, wanted = train.get("fold"), train["train_splits"] if train.get("fold") is None else ["train"]
    splits = fold_splits(subsets, fold) if fold is not None else _splits(faces, subject, held_out)
    names, counts = np.unique(subject[usable & np.isin(splits, list(wanted))], return_counts=True)
    eligible = names[counts > 1]
    if len(eligible) < 2:
        where = f"in split {', '.join(wanted)}" if fold is None else f"outside fold {fold}"
        raise DataError(
            f"{faces.path} {where} has {len(names):,} {_people(len(names))}, of whom {len(eligible):,} "
            f"{'has' if len(eligible) == 1 else 'have'} two faces or more: identity needs two such people",
            "fertool inspect shows its splits; train.train_splits names the training splits",
        )
    test = usable & (splits == split)
    unseen = test & ~np.isin(subject, eligible)
    return People(
        _rows(subject, usable & np.isin(splits, list(wanted)) & np.isin(subject, eligible)),
        len(names) - len(eligible),
        _rows(subject, unseen),
        len(np.unique(subject[test & ~unseen])),
    )


def subjects(faces: Artefact) -> np.ndarray:
    """Return (N,) whose face each is, "" where it is not known."""
    return np.asarray(faces["subject"], dtype=str) if "subject" in faces else np.full(faces.rows, "")


def _splits(faces: Artefact, subject: np.ndarray, held_out: float) -> np.ndarray:
    """Return the splits of the faces; where they have none, of their people."""
    splits = np.asarray(faces["split"], dtype=str)
    if (splits != "").any():
        return splits
    _, place = np.unique(subject, return_inverse=True)
    step = max(2, round(1 / held_out))
    return np.where(place % step == step - 1, "test", "train")


def _rows(subject: np.ndarray, keep: np.ndarray) -> Rows:
    index = np.flatnonzero(keep)
    _, label = np.unique(subject[index], return_inverse=True)
    return Rows(torch.from_numpy(index), torch.from_numpy(label.astype(np.int64)))


def _enough_to_verify(rows: Rows) -> Rows:
    """Return the rows; none of them if their faces make too few pairs."""
    pairs, _ = draw_pairs(rows.labels.numpy(), 20)
    return rows if len(pairs) else Rows(rows.index[:0], rows.labels[:0])


def _say(found: People, split: str) -> None:
    """Print who is trained on, who is tested on, and who is left out."""
    trained, tested = (len(rows.labels.unique()) for rows in (found.train, found.test))
    console.say(f"{trained:,} people to train on, {tested:,} others in {split}")
    if found.single:
        console.say(f"note: {found.single:,} {_people(found.single)} with one face are left out of the training")
    if found.known:
        console.say(f"note: {found.known:,} {_people(found.known)} in {split} are trained on, and not verified")
    if not len(_enough_to_verify(found.test)):
        console.say(f"note: the unseen people in {split} have too few faces for verification: 20 pairs are needed")


def _people(n: int) -> str:
    return "person" if n == 1 else "people"
