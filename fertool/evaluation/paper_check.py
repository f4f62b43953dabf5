"""Whether a paper agrees with itself: the confusion matrices that it prints against the accuracies in its tables.

A matrix of shares and the number of faces of each class give an accuracy. Printed shares are rounded, so a range of
counts stands behind each; of the right ones only whole faces are possible, which narrows the range. A table's number
contradicts the matrix if, rounded or cut off, it lies outside that range.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from fertool.evaluation import paper_results
from fertool.evaluation.paper_results import Paper, Reported

_EXACT = 1e-9  # of a face or a percent, what floating point may be off


@dataclass(frozen=True)
class Claim:
    """A number of the tables that a matrix should give: fraction, the tables it stands in, and its system's name."""

    value: float
    tables: tuple[str, ...]
    system: str
    contradicts: bool


@dataclass(frozen=True)
class MatrixCheck:
    """What a printed matrix says of accuracy.

    Attributes:
        row: dataset, subset and network of the matrix.
        faces: sum of the class counts; the paper may give another number (`row.faces`).
        accuracy: mean of the printed diagonal over the faces, a fraction.
        low, high: least and greatest accuracy that rounding allows, and faces counted by only one of both sources.
        impossible: classes with a share that no whole number of their faces gives.
        claims: numbers of the tables for the same network on the same faces.
    """

    name: str
    row: Reported
    faces: int
    accuracy: float
    low: float
    high: float
    impossible: tuple[str, ...]
    claims: tuple[Claim, ...]


def check(paper: Paper) -> tuple[list[MatrixCheck], dict[str, str]]:
    """Return what every matrix with class counts says, and why the others say nothing: name -> reason."""
    checks, unchecked = [], {}
    for name, row in paper.matrices.items():
        if reason := _unusable(paper, name):
            unchecked[name] = reason
        else:
            checks.append(_check(paper, name, row))
    return checks, unchecked


def _unusable(paper: Paper, name: str) -> str:
    if not paper.confusions[name].get("support"):
        return "no class counts (support)"
    if paper.matrices[name].aggregation == "fold mean":
        return "a mean over folds"
    return "a row is not known" if np.isnan(paper.confusion(name)[1]).any() else ""


def _check(paper: Paper, name: str, row: Reported) -> MatrixCheck:
    classes, matrix = paper.confusion(name)
    support: list[int] = paper.confusions[name]["support"]
    step, n = _step(matrix.ravel()), sum(support)
    counts = [
        _whole(matrix[i, i], step, support[i]) or _any(matrix[i, i], step, support[i]) for i in range(len(matrix))
    ]
    low, high = _over(sum(low for low, _ in counts), sum(high for _, high in counts), n, row.faces or n)
    each = zip(classes, matrix, support, strict=True)
    impossible = tuple(c for c, shares, faces in each if any(_whole(v, step, faces) is None for v in shares if faces))
    accuracy = float(np.diag(matrix) @ support / n / 100)
    return MatrixCheck(name, row, n, accuracy, low, high, impossible, _claims(paper, row, low, high))


def _whole(share: float, step: float, n: int) -> tuple[float, float] | None:
    """Return the least and greatest number of n faces whose share is rounded to the printed one; None without any."""
    low, high = (n * (share + side * step / 2) / 100 for side in (-1, 1))
    least, most = max(math.ceil(low - _EXACT), 0), min(math.floor(high + _EXACT), n)
    return (least, most) if least <= most else None


def _any(share: float, step: float, n: int) -> tuple[float, float]:
    """Return the same without asking for whole faces."""
    return n * max(share - step / 2, 0) / 100, n * min(share + step / 2, 100) / 100


def _over(low: float, high: float, n: int, total: int) -> tuple[float, float]:
    """Return fractions of `total` faces for right ones among n: faces of only one count may be right or wrong."""
    if total >= n:
        high += total - n
    else:
        low -= n - total
    return max(low / total, 0.0), min(high / total, 1.0)


def _claims(paper: Paper, row: Reported, low: float, high: float) -> tuple[Claim, ...]:
    merged: dict[float, list[Reported]] = {}
    for other in paper.results:
        if other.own and other.metric == "accuracy" and other.fold == row.fold and _same_network(other, row):
            merged.setdefault(other.value, []).append(other)
    claims = []
    for value, rows in merged.items():
        unit = _step(r.value for r in paper.results if r.table == rows[0].table)
        contradicts = (value + unit) / 100 < low - _EXACT or (value - unit / 2) / 100 > high + _EXACT
        claims.append(Claim(value / 100, tuple(dict.fromkeys(r.table for r in rows)), rows[0].system, contradicts))
    return tuple(claims)


def _same_network(a: Reported, b: Reported) -> bool:
    """Return whether two numbers are of one network, trained alike, on the same faces."""
    if (a.dataset, a.subset, a.trained_on, a.data) != (b.dataset, b.subset, b.trained_on, b.data):
        return False
    if len(a.members) != 1 or len(b.members) != 1:
        return False
    (one,), (other,) = a.members, b.members
    alike = (one.recipe, one.given) == (other.recipe, other.given)
    return alike and bool(set(one.variants) & set(other.variants))


def _step(values: Iterable[float]) -> float:
    """Return the unit of the last decimal place that any of the numbers uses; 1 for whole numbers."""
    return float(10.0 ** min(0, *map(_exponent, values)))


def _exponent(value: float) -> int:
    exponent = Decimal(str(float(value))).normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def listed(paper: Paper) -> str:
    """Return the matrices of a paper in words: names, networks and faces."""
    each = [
        f"{name} ({m.dataset}, {m.subset if m.subset != 'all' else 'all faces'})" for name, m in paper.matrices.items()
    ]
    return f"{paper.name} prints {', '.join(each)}" if each else f"{paper.name} prints no confusion matrix"


def of(name: str) -> tuple[Paper, list[MatrixCheck], dict[str, str]]:
    """Return a paper, by name or .yaml file, with `check` of it."""
    paper = paper_results.load(name)
    return paper, *check(paper)
