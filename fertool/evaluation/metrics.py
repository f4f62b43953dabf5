"""The arithmetic of scores. numpy only; rates are fractions between 0 and 1, nan where nothing can be said.

A confusion matrix is an int64 array (C, C) of counts, rows the true class, columns the predicted one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Accuracy:
    """Faces right out of faces scored, with the Wilson interval; all nan if none was scored."""

    n_correct: int
    n_total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, arrays of shape (C,)."""

    support: np.ndarray
    n_predicted: np.ndarray
    n_correct: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True)
class Folds:
    """A cross-validation in every way papers add it up.

    Attributes:
        pooled: right over all folds / faces of all folds.
        mean: mean of the folds' accuracies.
        sd_population, sd_sample: their standard deviation with ddof 0 and 1 (nan for a single fold).
        confusion: counts of all folds together.
        confusion_mean: mean over folds of the row-normalised matrices; a class that a fold lacks counts as a row of
            zeros there, so its mean row sums to less than 1.
    """

    pooled: Accuracy
    mean: float
    sd_population: float
    sd_sample: float
    confusion: np.ndarray
    confusion_mean: np.ndarray


@dataclass(frozen=True)
class McNemar:
    """Two runs on the same faces: how many only the first and only the second got right, and both p-values."""

    only_first: int
    only_second: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True)
class Calibration:
    """How far the confidence of predictions can be believed, per bin of confidence, arrays of shape (bins,).

    Attributes:
        edges: (bins + 1,).
        n: faces whose confidence lies in the bin.
        confidence, accuracy: their means; nan in an empty bin.
        error: the expected calibration error, the mean gap between the two weighted by n (Guo et al. 2017, Eq. 3);
            nan without faces.
    """

    edges: np.ndarray
    n: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def wilson(n_correct: int, n_total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927); unlike the normal one it stays inside 0..1."""
    if n_total == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, z2 = n_correct / n_total, z * z / n_total
    centre = (p + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * math.sqrt(p * (1 - p) / n_total + z2 / (4 * n_total))
    low = 0.0 if n_correct == 0 else centre - half
    high = 1.0 if n_correct == n_total else centre + half
    return low, high


def accuracy(labels: np.ndarray, predicted: np.ndarray, confidence: float = 0.95) -> Accuracy:
    """Return the plain accuracy of class indices (N,)."""
    return proportion(int(np.sum(np.asarray(labels) == np.asarray(predicted))), len(labels), confidence)


def proportion(n_correct: int, n_total: int, confidence: float = 0.95) -> Accuracy:
    """Return the same from counts."""
    value = n_correct / n_total if n_total else math.nan
    return Accuracy(n_correct, n_total, value, *wilson(n_correct, n_total, confidence))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return counts (classes, classes) of class indices (N,), all of which must be in range(classes)."""
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def row_normalised(confusion: np.ndarray) -> np.ndarray:
    """Return each row divided by its sum; the row of a class without faces stays zero."""
    return _ratio(confusion, confusion.sum(1, keepdims=True), empty=0.0)


def macro_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall over the classes that have faces, i.e. the mean diagonal of the row-normalised matrix."""
    present = confusion.sum(1) > 0
    return float(np.diag(row_normalised(confusion))[present].mean()) if present.any() else math.nan


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Return recall, precision and F1 of each class."""
    right, support, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return ClassScores(
        support=support,
        n_predicted=predicted,
        n_correct=right,
        recall=_ratio(right, support),
        precision=_ratio(right, predicted),
        f1=_ratio(2 * right, support + predicted),
    )


def _ratio(a: np.ndarray, b: np.ndarray, empty: float = math.nan) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, empty), where=b > 0)


def across_folds(confusions: Sequence[np.ndarray], confidence: float = 0.95) -> Folds:
    """Aggregate the confusion matrices of the folds of one cross-validation."""
    each = np.array([np.trace(c) / c.sum() for c in confusions])
    total = np.sum(confusions, axis=0)
    return Folds(
        pooled=proportion(int(np.trace(total)), int(total.sum()), confidence),
        mean=float(each.mean()),
        sd_population=float(each.std()),
        sd_sample=float(each.std(ddof=1)) if len(each) > 1 else math.nan,
        confusion=total,
        confusion_mean=np.mean([row_normalised(c) for c in confusions], axis=0),
    )


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Return McNemar's test for two runs on the same faces, from bool arrays (N,) that say which faces each got right.

    Both p-values are two-sided and come from the binomial distribution of the discordant faces: the exact one, and
    the mid-p one, which is less conservative (Fagerland, Lydersen & Laake 2013).
    """
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(~first_right & second_right))
    n, k = only_first + only_second, min(only_first, only_second)
    term = cumulative = 1  # binomial coefficients; Python's integers keep them exact
    for i in range(k):
        term = term * (n - i) // (i + 1)
        cumulative += term
    p_exact = min(1.0, 2 * cumulative / 2**n)
    p_mid = (2 * cumulative - term) / 2**n
    return McNemar(only_first, only_second, p_exact, p_mid)


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> Calibration:
    """Return the confidence beside accuracy, in bins of equal width.

    Args:
        confidence: (N,) probability of the class predicted.
        right: (N,) bool, whether that is the face's class.
    """
    at = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    n = np.bincount(at, minlength=bins)
    mean = _ratio(np.bincount(at, weights=confidence, minlength=bins), n)
    accuracy = _ratio(np.bincount(at, weights=right, minlength=bins), n)
    gaps = np.abs(np.where(n > 0, mean - accuracy, 0))
    error = float((n * gaps).sum() / n.sum()) if n.sum() else math.nan
    return Calibration(np.linspace(0, 1, bins + 1), n, mean, accuracy, error)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return class probabilities of logits (N, C)."""
    e = np.exp(logits - logits.max(1, keepdims=True), dtype=np.float64)
    return e / e.sum(1, keepdims=True)


def fuse(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Score fusion: the mean class probabilities of several runs on the same faces, each (N, C)."""
    return np.mean([softmax(one) for one in logits], axis=0)
