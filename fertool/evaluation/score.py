"""Predictions and subsets → scores. Pure arithmetic on artefacts: no network runs here.

All rates in the results are fractions from 0 to 1; None where there is nothing to score.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import ArtefactError, UsageError, nearest
from fertool.evaluation import metrics
from fertool.faces.status import KEPT

#: fewer faces than these are marked: an accuracy on them says little
FEW = 30
#: level of the paired test below which a run is called better
SIGNIFICANT = 0.05
#: how far below all others the logit of a class lies that a run does not have: no probability in float32
_BELOW = 200.0
#: name of the whole split among the subsets of a result; on the command line it asks for every subset
ALL = "all"


@dataclass(frozen=True)
class Scored:
    """The predictions of one run, or of several on the same faces, in the order of the first.

    Attributes:
        source: the first run's predictions.
        classes: the first run's, then those that only others have.
        scores: (N, C) per run, logits; lowest for classes that a run does not have.
    """

    source: Artefact
    classes: tuple[str, ...]
    labels: np.ndarray
    scores: tuple[np.ndarray, ...]

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class indices of the only run, or of the mean of the runs' probabilities."""
        return (self.scores[0] if len(self.scores) == 1 else metrics.fuse(self.scores)).argmax(1)


def score(
    predictions: Artefact | Sequence[Artefact],
    subsets: Artefact | None = None,
    names: Sequence[str] = (),
    *,
    confidence: float = 0.95,
) -> dict:
    """Score the whole split and named subsets of it.

    Args:
        predictions: one run's predictions, or those of several runs, which are fused by the mean of their softmax.
        subsets: the subsets of the faces that were predicted.
        names: which subsets; "all" means every one that has rows here.
        confidence: level of the Wilson intervals.

    Returns:
        {"classes", "confidence", "chance" (accuracy of guessing), "fused" (number of runs), "subsets": {"all": {...},
        name: {...}}}; each subset has n_rows, n_unlabelled (label -1, left out), n_total, n_correct, accuracy, low,
        high, majority (accuracy of always predicting its most frequent class), macro_accuracy, confusion (counts, rows
        true), classes {name: support, n_predicted, n_correct, recall, precision, f1}, n_missed (rows where no face was
        found and the whole image was kept; None if the predictions do not say), and `found` and `missed` with n_total,
        n_correct, accuracy, low, high of the two kinds of rows.

    Raises:
        UsageError: an unknown subset.
        ArtefactError: subsets of other faces, or runs that cannot be fused.
    """
    files = [predictions] if isinstance(predictions, Artefact) else list(predictions)
    together = _same_faces(files)
    source, predicted, classes = together.source, together.predicted, together.classes
    missed = np.asarray(source["status"]) == KEPT if "status" in source else None
    return {
        "classes": list(classes),
        "confidence": confidence,
        "chance": 1 / len(classes),
        "fused": len(files),
        "subsets": {
            name: _score_rows(rows, together.labels, predicted, missed, classes, confidence)
            for name, rows in members(source, subsets, names).items()
        },
    }


def compare(
    predictions: Mapping[str, Artefact],
    subsets: Artefact | None = None,
    names: Sequence[str] = (),
) -> dict:
    """Return the paired comparison of runs on the same faces: every run against the first, face by face.

    Args:
        predictions: run name -> its predictions, at least two; faces are matched by id.
        subsets, names: as for `score`; the subsets belong to the faces of the first run.

    Returns:
        {"reference": name, "subsets": {name: {"n_total", "best" (the run that is significantly better than each of the
        others, or None), "runs": {name: {n_correct, accuracy, difference (accuracy above the reference's),
        only_reference, only_this (faces that one of the two alone got right), p_exact, p_mid (McNemar, two-sided)}}}}};
        the reference itself has n_correct and accuracy alone.
    """
    together = _same_faces(list(predictions.values()))
    right = [scores.argmax(1) == together.labels for scores in together.scores]
    labelled = together.labels >= 0
    reference, *others = predictions
    result: dict = {"reference": reference, "subsets": {}}
    for subset, rows in members(together.source, subsets, names).items():
        keep = rows & labelled
        first = right[0][keep]
        runs = {reference: _rate(first)}
        for name, one in zip(others, right[1:], strict=True):
            test = metrics.mcnemar(first, one[keep])
            runs[name] = {
                **_rate(one[keep]),
                "difference": _fraction(one[keep].mean() - first.mean()) if len(first) else None,
                "only_reference": test.only_first,
                "only_this": test.only_second,
                "p_exact": test.p_exact,
                "p_mid": test.p_mid,
            }
        best = _significantly_best({name: one[keep] for name, one in zip(predictions, right, strict=True)})
        result["subsets"][subset] = {"n_total": int(keep.sum()), "best": best, "runs": runs}
    return result


def _significantly_best(right: Mapping[str, np.ndarray]) -> str | None:
    """Return the run that is better than each of the others by McNemar's exact test; None for few faces or no such run.

    Args:
        right: run -> (N,) bool, which faces it got right.
    """
    best = max(right, key=lambda name: right[name].sum())
    if len(right[best]) < FEW:
        return None
    p = [metrics.mcnemar(right[best], other).p_exact for name, other in right.items() if name != best]
    return best if max(p) < SIGNIFICANT else None


def members(predictions: Artefact, subsets: Artefact | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return which rows of the predictions belong to each subset: "all" first, then the named ones, bool (N,) each.

    Raises:
        UsageError: an unknown subset.
        ArtefactError: no subsets at all, or those of other faces.
    """
    found = {ALL: np.ones(predictions.rows, bool)}
    if not names:
        return found
    if subsets is None:
        raise ArtefactError("these faces have no subsets", "run: fertool build-subsets")
    mine, theirs = predictions.parent("faces"), subsets.parent("faces")
    if mine is None or theirs is None or mine.digest != theirs.digest:
        raise ArtefactError(
            f"{subsets.path} holds subsets of other faces than {predictions.path} was made from",
            "run fertool build-subsets on the faces of this run, or name the right file",
        )
    row = np.asarray(predictions["row"])
    for name in names:
        for column in subset_names(subsets) if name == ALL else [name]:
            inside = membership(subsets, column)[row]
            if name != ALL or inside.any():
                found[column] = inside
    return found


def subset_names(subsets: Artefact) -> list[str]:
    """Return the names of the subsets in a file."""
    return [c for c in subsets.columns if subsets.stored[c].dtype == bool]


def membership(subsets: Artefact, name: str) -> np.ndarray:
    """Return which faces are in a subset, bool (rows of the faces,).

    Raises:
        UsageError: no such subset.
    """
    known = subset_names(subsets)
    if name not in known:
        raise UsageError(f"there is no subset {name!r}", nearest(name, [*known, ALL]))
    return np.asarray(subsets[name])


def _same_faces(files: list[Artefact]) -> Scored:
    """Bring the predictions of several runs into the order of the first: rows by id, classes by name.

    Raises:
        ArtefactError: they are not about the same faces or labels.
    """
    first, *others = files
    labels, ids = np.asarray(first["label"]), first.ids
    classes = tuple(dict.fromkeys(name for file in files for name in file.class_names))
    scores = [_by_name(first, classes)]
    for other in others:
        place = {name: i for i, name in enumerate(other.ids)}
        only_one = sorted(place.keys() ^ set(ids))
        if only_one:
            raise ArtefactError(
                f"{first.path} and {other.path} are not about the same faces: only one of them has {only_one[0]!r}",
                "predict the same split of the same dataset with both runs",
            )
        order = np.array([place[i] for i in ids], dtype=np.int64)
        if not np.array_equal(_indices(other, classes)[np.asarray(other["label"])[order]], labels):
            raise ArtefactError(
                f"{first.path} and {other.path} give the same faces different labels",
                "use the same dataset and the same rule for its labels",
            )
        scores.append(_by_name(other, classes)[order])
    return Scored(first, classes, labels, tuple(scores))


def _indices(predictions: Artefact, classes: Sequence[str]) -> np.ndarray:
    """Return the index among `classes` of each class of some predictions, and last -1, for no label."""
    return np.array([*(classes.index(name) for name in predictions.class_names), -1])


def _by_name(predictions: Artefact, classes: Sequence[str]) -> np.ndarray:
    """Return logits (N, classes); a class that the predictions do not have lies below all others."""
    logits = np.asarray(predictions["logits"])
    ordered = np.repeat(logits.min(1, keepdims=True) - _BELOW, len(classes), axis=1)
    ordered[:, _indices(predictions, classes)[:-1]] = logits
    return ordered


def _score_rows(
    rows: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    missed: np.ndarray | None,
    classes: Sequence[str],
    confidence: float,
) -> dict:
    keep = rows & (labels >= 0)
    confusion = metrics.confusion_matrix(labels[keep], predicted[keep], len(classes))
    each = metrics.class_scores(confusion)
    right = labels == predicted
    rates = ("recall", "precision", "f1")
    counts = ("support", "n_predicted", "n_correct")
    return {
        "n_rows": int(rows.sum()),
        "n_unlabelled": int((rows & ~keep).sum()),
        **_interval(right[keep], confidence),
        "majority": float(each.support.max() / keep.sum()) if keep.any() else None,
        "macro_accuracy": _fraction(metrics.macro_accuracy(confusion)),
        "n_missed": None if missed is None else int((keep & missed).sum()),
        "found": None if missed is None else _interval(right[keep & ~missed], confidence),
        "missed": None if missed is None else _interval(right[keep & missed], confidence),
        "classes": {
            name: {k: int(getattr(each, k)[i]) for k in counts} | {k: _fraction(getattr(each, k)[i]) for k in rates}
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def _rate(right: np.ndarray) -> dict:
    n = len(right)
    return {"n_correct": int(right.sum()), "n_total": n, "accuracy": _fraction(right.mean()) if n else None}


def _interval(right: np.ndarray, confidence: float) -> dict:
    low, high = metrics.wilson(int(right.sum()), len(right), confidence)
    return {**_rate(right), "low": _fraction(low), "high": _fraction(high)}


def _fraction(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
