"""Groups of faces by a column of the faces file, the accuracy on each, and the largest gap between them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import UsageError, nearest
from fertool.evaluation import metrics
from fertool.evaluation.score import FEW, SIGNIFICANT
from fertool.faces import status

#: name of the group of faces that the column says nothing of
UNKNOWN = "unknown"
#: columns made from others: name -> (column of the file, what is taken from it)
DERIVED = {
    "pitch": ("pose", lambda pose: np.abs(pose[:, 0])),
    "yaw": ("pose", lambda pose: np.abs(pose[:, 1])),
    "roll": ("pose", lambda pose: np.abs(pose[:, 2])),
    "size": ("bbox", lambda box: np.minimum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])),
}
_ANGLES = (15.0, 30.0, 45.0)  # degrees between the ranges of an angle
_CATEGORIES = 12  # a column of numbers with more values than these is cut into ranges
_LARGEST = 50  # groups: with more, a column names faces and not groups
_RANGES = 4
_PERMUTATIONS = 10_000
_NOT_GROUPS = {"id", "images", "source_digest", "source_stat", "transform", "row"}


def group_names(faces: Artefact) -> list[str]:
    """Return the columns by which faces can be grouped."""
    own = [name for name in faces.columns if name not in _NOT_GROUPS and len(faces.stored[name].shape) == 1]
    return own + [name for name, (column, _) in DERIVED.items() if column in faces]


def groups_by(faces: Artefact, by: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Group faces by a column.

    Args:
        faces: the faces file.
        by: name of a column, or `yaw`, `pitch`, `roll` (degrees either way) or `size` (shorter side of the face's box
            in pixels); `NAME:20,40` cuts numbers into ranges at these values.
        rows: (N,) rows of the faces that were predicted.

    Returns:
        name of each group, in order -> (N,) bool; faces of which the column says nothing are "unknown", the last.

    Raises:
        UsageError: no such column, edges that are no ascending numbers, or as many groups as faces.
    """
    name, values, cuts = _column(faces, by)
    labels = _labels(name, values[rows], cuts)
    found = {label: labels == label for label in dict.fromkeys(_ordered(labels))}
    if len(found) > _LARGEST:
        raise UsageError(
            f"--by {name} makes {len(found)} groups, of {len(rows) / len(found):.1f} faces each",
            f"choose a column with at most {_LARGEST} different values",
        )
    return found


def require_column(faces: Artefact, by: str) -> None:
    """Refuse what faces cannot be grouped by.

    Raises:
        UsageError: no such column, or edges that do not fit it.
    """
    _column(faces, by)


def _column(faces: Artefact, by: str) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Return the name of a column, its values for every row, and the edges of its ranges if they are given."""
    name, _, edges = by.partition(":")
    values = _values(faces, name)
    if edges and values.dtype.kind not in "iuf":
        raise UsageError(f"--by {by}: column {name} holds no numbers", f"write --by {name}")
    return name, values, _edges(by, edges) if edges else None


def _values(faces: Artefact, name: str) -> np.ndarray:
    """Return the column (rows of the faces,), text or numbers."""
    known = group_names(faces)
    if name not in known:
        raise UsageError(f"{faces.path} has no column {name!r} to group by", nearest(name, known))
    if name not in faces:
        column, taken = DERIVED[name]
        return taken(np.asarray(faces[column], dtype=np.float64))
    values = np.asarray(faces[name])
    if name == "status":
        return np.array([status.NAMES[code] for code in values.tolist()])
    if name == "label":
        return np.array([*faces.class_names, ""])[values]
    return values if values.dtype.kind in "iufb" else values.astype(str)


def _edges(by: str, text: str) -> np.ndarray:
    try:
        edges = np.array([float(edge) for edge in text.split(",")])
    except ValueError:
        edges = np.array([np.nan])
    if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
        raise UsageError(f"--by {by}: {text!r} are no ascending numbers", "e.g. --by size:24,48,96")
    return edges


def _labels(name: str, values: np.ndarray, cuts: np.ndarray | None) -> np.ndarray:
    """Return the group of each value, (N,) text."""
    if values.dtype.kind not in "iuf":
        return np.where(values.astype(str) == "", UNKNOWN, values.astype(str))
    known = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    if cuts is None and name in ("yaw", "pitch", "roll", "true_yaw", "true_pitch", "true_roll"):
        values, cuts = np.abs(values), np.array(_ANGLES)
    if cuts is None and len(np.unique(values[known])) <= _CATEGORIES:
        return np.array([f"{v:g}" if k else UNKNOWN for v, k in zip(values.tolist(), known, strict=True)])
    if cuts is None:
        cuts = np.unique([float(f"{v:.2g}") for v in np.quantile(values[known], np.arange(1, _RANGES) / _RANGES)])
    names = _range_names(cuts)
    place = np.searchsorted(cuts, values, side="right")
    return np.array([names[i] if k else UNKNOWN for i, k in zip(place.tolist(), known, strict=True)])


def _range_names(cuts: np.ndarray) -> list[str]:
    """Return a name for each range between edges: each holds its lower edge and not its upper one."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
    return [f"below {cuts[0]:g}", *between, f"from {cuts[-1]:g}"]


def _ordered(labels: np.ndarray) -> list[str]:
    """Return the groups in order: numbers and ranges by size, text by the alphabet, unknown last."""

    def key(label: str) -> tuple[bool, bool, float, str]:
        word = label.removeprefix("below ").removeprefix("from ").partition(" to ")[0]
        try:
            return label == UNKNOWN, not label.startswith("below "), float(word), ""
        except ValueError:
            return label == UNKNOWN, True, 0.0, label

    return sorted(np.unique(labels).tolist(), key=key)


# ------------------------------------------------------------------------------------------------------ scores


def score_groups(
    labels: np.ndarray, predicted: np.ndarray, groups: dict[str, np.ndarray], classes: int, confidence: float = 0.95
) -> dict:
    """Score each group of faces.

    Args:
        labels, predicted: (N,) class indices, -1 for no label.
        groups: name -> (N,) bool.
        classes: number of classes.
        confidence: level of the Wilson intervals.

    Returns:
        {"groups": {name: {n_total, n_correct, accuracy, low, high, macro_accuracy, few (fewer faces than `FEW`)}},
        "gap": {highest, lowest (names), difference, p, significant} between the groups that are known and have enough
        faces, None for fewer than two of these; see `largest_gap`}. Rates are fractions; None without a labelled face.
    """
    scored: dict[str, dict[str, Any]] = {}
    for name, rows in groups.items():
        keep = rows & (labels >= 0)
        one = metrics.accuracy(labels[keep], predicted[keep], confidence)
        macro = metrics.macro_accuracy(metrics.confusion_matrix(labels[keep], predicted[keep], classes))
        rates = {"accuracy": one.value, "low": one.low, "high": one.high, "macro_accuracy": macro}
        scored[name] = {"n_total": one.n_total, "n_correct": one.n_correct}
        scored[name] |= {k: None if np.isnan(v) else float(v) for k, v in rates.items()}
        scored[name]["few"] = one.n_total < FEW
    compared = {name: s for name, s in scored.items() if name != UNKNOWN and not s["few"]}
    return {"groups": scored, "gap": _gap(compared) if len(compared) > 1 else None}


def _gap(scored: dict[str, dict]) -> dict:
    n = [s["n_total"] for s in scored.values()]
    difference, p = largest_gap([s["n_correct"] for s in scored.values()], n)
    by_accuracy = sorted(scored, key=lambda name: scored[name]["accuracy"])
    ends = {"highest": by_accuracy[-1], "lowest": by_accuracy[0]}
    return {**ends, "difference": difference, "p": p, "significant": p < SIGNIFICANT}


def largest_gap(n_correct: Sequence[int], n_total: Sequence[int], seed: int = 0) -> tuple[float, float]:
    """Return the largest difference of accuracies among groups, and how often chance alone makes one as large.

    The permutation test deals the correct predictions to the groups at random, so that it allows for the two groups
    being chosen as the furthest apart. 10,000 permutations; the smallest p is 1/10,001.

    Args:
        n_correct, n_total: for each of at least two groups.
        seed: of the permutations.
    """
    sizes, right = np.asarray(n_total), np.asarray(n_correct)
    rng = np.random.default_rng(seed)
    dealt = rng.multivariate_hypergeometric(sizes, int(right.sum()), _PERMUTATIONS)
    observed, by_chance = np.ptp(right / sizes), np.ptp(dealt / sizes, axis=1)
    p = (1 + np.sum(by_chance >= observed - 1e-12)) / (_PERMUTATIONS + 1)
    return float(observed), float(p)
