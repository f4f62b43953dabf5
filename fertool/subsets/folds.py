"""Folds for cross-validation."""

from collections import defaultdict
from typing import Any

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import DataError, RecipeError

#: RaFD's five groups of models, by the highest number in each (Sun et al., section 4.1)
_RAFD_LAST = (15, 29, 43, 57, 73)
NONE = -1


def assign(faces: Artefact, scheme: str, number: int) -> np.ndarray:
    """Return the fold of every labelled face, (N,) int16; -1 for faces without a label.

    Args:
        faces: the faces file.
        scheme: `subjects`: subjects in ascending order, every `number`-th in one fold (MAN). `rafd`: RaFD's five
            ranges of models. `stratified`: whole subjects with balanced classes (greedy, subjects with most faces
            first). `one-subject`: one fold per subject. `sequences`: as `subjects`, by recording; a subject may be in
            several folds. `faces`: single faces, class by class.
        number: number of folds; `rafd` and `one-subject` have their own.

    Raises:
        DataError: faces without subject or recording, or fewer subjects than folds.
    """
    labelled = np.asarray(faces["label"]) >= 0
    folds = np.full(faces.rows, NONE, np.int16)
    if scheme == "faces":
        for label in np.unique(faces["label"][labelled]):
            rows = np.flatnonzero(np.asarray(faces["label"]) == label)
            folds[rows] = np.arange(len(rows)) % number
        return folds
    column = "sequence" if scheme == "sequences" else "subject"
    groups = faces[column] if column in faces else np.full(faces.rows, "", object)
    if (groups[labelled] == "").any():
        raise DataError(
            f"{faces.path} has labelled faces without a {column}; folds by {column} require one for each",
            "choose --fold-scheme faces, which may put one subject into several folds",
        )
    subjects = sorted(set(groups[labelled]), key=_ascending)
    if scheme == "rafd":
        fold_of = {s: _rafd(s) for s in subjects}
    elif scheme == "one-subject":
        fold_of = {s: i for i, s in enumerate(subjects)}
    elif scheme == "stratified":
        fold_of = _balanced(subjects, groups[labelled], np.asarray(faces["label"])[labelled], number)
    else:
        fold_of = {s: i % number for i, s in enumerate(subjects)}
    if scheme not in ("rafd", "one-subject") and len(subjects) < number:
        raise DataError(f"{faces.path} has {len(subjects)} subjects, fewer than {number} folds", "make fewer folds")
    folds[labelled] = [fold_of[group] for group in groups[labelled]]
    return folds


def check_disjoint(folds: np.ndarray, subjects: np.ndarray) -> None:
    """Check that no subject is in two folds.

    Raises:
        RecipeError: a subject is in two folds.
    """
    fold_of: dict[str, int] = {}
    for fold, subject in zip(folds, subjects, strict=True):
        if fold >= 0 and fold_of.setdefault(subject, fold) != fold:
            raise RecipeError(
                f"{subject} is in folds {fold_of[subject]} and {fold}", "choose a scheme that keeps subjects whole"
            )


def facts(folds: np.ndarray, faces: Artefact) -> list[dict[str, Any]]:
    """Return subjects, faces and missing classes of each fold."""
    label, classes = np.asarray(faces["label"]), faces.classes or ()
    subjects = faces["subject"] if "subject" in faces else np.full(len(folds), "", object)
    found = []
    for fold in range(folds.max() + 1):
        rows = folds == fold
        present = set(label[rows].tolist())
        found.append(
            {
                "fold": fold,
                "subjects": len(set(subjects[rows]) - {""}),
                "faces": int(rows.sum()),
                "missing": [name for i, name in enumerate(classes) if i not in present],
            }
        )
    return found


def _ascending(name: str) -> tuple[list[int], str]:
    """Return a sort key that orders numbers in names by value: S9 before S10."""
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return [int(d) for d in digits], name


def _rafd(subject: str) -> int:
    try:
        return next(i for i, last in enumerate(_RAFD_LAST) if int(subject) <= last)
    except (ValueError, StopIteration):
        raise DataError(f"{subject!r} is not a model of RaFD (1 to 73)", "choose another --fold-scheme") from None


def _balanced(subjects: list[str], groups: np.ndarray, label: np.ndarray, number: int) -> dict[str, int]:
    """Assign subjects to folds, those with most faces first, each to the fold that keeps class counts most equal."""
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(label.max() + 1))
    for subject, one in zip(groups, label, strict=True):
        counts[subject][one] += 1
    share = np.bincount(label) / number
    filled = np.zeros((number, label.max() + 1))
    fold_of = {}
    for subject in sorted(subjects, key=lambda s: (-counts[s].sum(), _ascending(s))):
        after = filled[None] + np.eye(number)[:, :, None] * counts[subject]  # (fold it goes to, fold, class)
        fold = int(((after - share) ** 2 / np.maximum(share, 1)).sum(axis=(1, 2)).argmin())
        filled[fold] += counts[subject]
        fold_of[subject] = fold
    return fold_of
