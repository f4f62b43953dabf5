"""Folds for cross-validation: which faces are left out together."""

from collections import defaultdict

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import DataError, RecipeError

#: RaFD's five groups of models, by the highest number in each (Sun et al., section 4.1)
_RAFD_LAST = (15, 29, 43, 57, 73)
NONE = -1


def assign(faces: Artefact, scheme: str, number: int) -> np.ndarray:
    """The fold of every labelled face, (N,) int16; -1 where a face has no label.

    Args:
        scheme: `subjects`: people in ascending order, every `number`-th into one fold (as in MAN). `rafd`: the five
            ranges of models of RaFD. `stratified`: whole people, so that classes are spread evenly (greedy, the
            rarest classes first). `one-subject`: everybody is a fold. `sequences`: as `subjects`, by recording, where
            one person may be in several folds. `faces`: every face for itself, class by class.
        number: how many folds; `rafd` and `one-subject` have their own.

    Raises:
        DataError: the faces do not say whose they are, or fewer people than folds.
    """
    labelled = np.asarray(faces["label"]) >= 0
    folds = np.full(faces.rows, NONE, np.int16)
    if scheme == "faces":
        for label in np.unique(faces["label"][labelled]):
            rows = np.flatnonzero(np.asarray(faces["label"]) == label)
            folds[rows] = np.arange(len(rows)) % number
        return folds
    column = "sequence" if scheme == "sequences" else "subject"
    who = faces[column] if column in faces else np.full(faces.rows, "", object)
    if (who[labelled] == "").any():
        raise DataError(
            f"folds by {column} need to know the {column} of every labelled face, and {faces.path} does not",
            "choose --fold-scheme faces, which may put one person into several folds",
        )
    people = sorted(set(who[labelled]), key=_ascending)
    if scheme == "rafd":
        place = {p: _rafd(p) for p in people}
    elif scheme == "one-subject":
        place = {p: i for i, p in enumerate(people)}
    elif scheme == "stratified":
        place = _spread(people, who[labelled], np.asarray(faces["label"])[labelled], number)
    else:
        place = {p: i % number for i, p in enumerate(people)}
    if scheme not in ("rafd", "one-subject") and len(people) < number:
        raise DataError(f"{number} folds of {len(people)} people in {faces.path}", "ask for fewer folds")
    folds[labelled] = [place[p] for p in who[labelled]]
    return folds


def check_apart(folds: np.ndarray, who: np.ndarray) -> None:
    """Refuse folds that share a person.

    Raises:
        RecipeError: somebody is in two folds.
    """
    seen: dict[str, int] = {}
    for fold, person in zip(folds, who, strict=True):
        if fold >= 0 and seen.setdefault(person, fold) != fold:
            raise RecipeError(
                f"{person} is in folds {seen[person]} and {fold}", "choose a scheme that keeps people whole"
            )


def facts(folds: np.ndarray, faces: Artefact) -> list[dict]:
    """What is in each fold: people, faces, and classes that it lacks."""
    label, classes = np.asarray(faces["label"]), faces.classes
    who = faces["subject"] if "subject" in faces else np.full(len(folds), "", object)
    found = []
    for fold in range(folds.max() + 1):
        rows = folds == fold
        present = set(label[rows].tolist())
        found.append(
            {
                "fold": fold,
                "subjects": len(set(who[rows]) - {""}),
                "faces": int(rows.sum()),
                "lacks": [name for i, name in enumerate(classes) if i not in present],
            }
        )
    return found


def _ascending(name: str) -> tuple:
    """Numbers in names by value, so that S9 comes before S10."""
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return [int(d) for d in digits], name


def _rafd(person: str) -> int:
    try:
        return next(i for i, last in enumerate(_RAFD_LAST) if int(person) <= last)
    except (ValueError, StopIteration):
        raise DataError(
            f"{person!r} is no model of RaFD, who are numbered 1 to 73", "choose another --fold-scheme"
        ) from None


def _spread(people: list[str], who: np.ndarray, label: np.ndarray, number: int) -> dict[str, int]:
    """People to folds, those with most faces first, each to the fold in which the counts of classes then differ
    least."""
    counts = defaultdict(lambda: np.zeros(label.max() + 1))
    for person, one in zip(who, label, strict=True):
        counts[person][one] += 1
    share = np.bincount(label) / number
    filled = np.zeros((number, label.max() + 1))
    place = {}
    for person in sorted(people, key=lambda p: (-counts[p].sum(), _ascending(p))):
        after = filled[None] + np.eye(number)[:, :, None] * counts[person]  # (fold it goes to, fold, class)
        fold = int(((after - share) ** 2 / np.maximum(share, 1)).sum(axis=(1, 2)).argmin())
        filled[fold] += counts[person]
        place[person] = fold
    return place
