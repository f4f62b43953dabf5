"""Accuracy and differences of systems trained several times: random effects of seeds and of faces.

Every system is a matrix of bool (seeds, faces): which faces each of its runs got right. Another training would draw
other seeds, another test set other faces, so both are random effects (a crossed two-way layout): the accuracy of a run
on a face is the system's mean + an effect of the seed + an effect of the face + the rest. Degrees of freedom are
Satterthwaite's (1946), quantiles Student's. numpy and scipy.special only; rates are fractions.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from fertool.evaluation.metrics import mcnemar, wilson

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Mean:
    """Accuracy of a system.

    Attributes:
        each: accuracy of every seed.
        value, sd: mean and standard deviation (ddof 1) over seeds; sd is nan for one seed.
        low, high: interval over seeds and faces; of one seed, over faces alone.
    """

    each: tuple[float, ...]
    value: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """Accuracy of a system above that of a baseline, on the same faces.

    Attributes:
        value, low, high: difference of the means and its interval over seeds and faces; of systems with one seed each,
            over faces alone; nan for a single face.
        p: two-sided; of one seed each McNemar's exact test, else the t-test that belongs to the interval.
        gained, lost: faces that only the system or only the baseline got right, mean over all pairs of a run of the
            system and a run of the baseline.
    """

    value: float
    low: float
    high: float
    p: float
    gained: float
    lost: float


def mean(right: Right, confidence: float = 0.95) -> Mean:
    """Return the accuracy of a system with its interval.

    The variance of the mean is (MS_seeds + MS_faces - MS_rest) / (seeds * faces), at least MS_faces / (seeds * faces).
    Wilson's formula with as many faces as would give a proportion this variance keeps the interval inside 0..1.

    Args:
        right: (S, N), N > 0.
    """
    seeds, faces = right.shape
    each = tuple(float(a) for a in right.mean(1))
    value = float(right.mean())
    sd = float(np.std(each, ddof=1)) if seeds > 1 else math.nan
    if seeds == 1 or faces == 1:
        return Mean(each, value, sd, *wilson(round(value * faces), faces, confidence))
    ms_seeds, ms_faces, ms_rest = _mean_squares(right)
    variance = max(ms_seeds + ms_faces - ms_rest, ms_faces) / right.size
    if variance == 0 or value in (0, 1):
        return Mean(each, value, sd, *wilson(round(value * faces), faces, confidence))
    parts = ((ms_seeds, seeds - 1), (ms_faces, faces - 1), (ms_rest, (seeds - 1) * (faces - 1)))
    freedom = variance**2 / sum((ms / right.size) ** 2 / df for ms, df in parts)
    return Mean(each, value, sd, *_wilson_of(value, variance, _quantile(freedom, confidence)))


def gap(system: Right, baseline: Right, confidence: float = 0.95) -> Gap:
    """Return the difference between two systems on the same faces.

    The seeds of the two are independent, their faces are the same: the variance of the difference is that of the faces'
    mean differences over N, and the variance that the seeds add to either mean, over its number of seeds. Where one of
    the two has a single seed, its seeds are taken to vary as much as the other's.

    Args:
        system, baseline: (S, N) and (T, N), N > 0.
    """
    mine, theirs = system.mean(0), baseline.mean(0)
    value, faces = float((mine - theirs).mean()), len(mine)
    gained, lost = float((mine * (1 - theirs)).sum()), float((theirs * (1 - mine)).sum())
    if faces == 1:  # of one face nothing can be told of others
        return Gap(value, math.nan, math.nan, 1.0, gained, lost)
    of_faces = float(np.var(mine - theirs, ddof=1)) / faces
    seeds = [len(system), len(baseline)]
    if seeds == [1, 1]:
        p = mcnemar(baseline[0], system[0]).p_exact
        half = _half(of_faces, faces - 1, confidence)
        return Gap(value, max(value - half, -1.0), min(value + half, 1.0), p, gained, lost)
    own = [_variance_of_seeds(r) for r in (system, baseline)]
    known = [v for v in own if v is not None]
    added, rough = 0.0, 0.0  # variance that seeds add, and the sum for the degrees of freedom
    for number, v in zip(seeds, own, strict=True):
        component, mean_square, df = v or max(known, key=lambda one: one[0])
        added += component / number
        rough += (mean_square / number) ** 2 / df
    variance = of_faces + added
    if not variance > 0:
        return Gap(value, value, value, 1.0 if value == 0 else 0.0, gained, lost)
    freedom = variance**2 / (of_faces**2 / (faces - 1) + rough)
    half = _half(variance, freedom, confidence)
    p = 2 * float(stdtr(freedom, -abs(value) / math.sqrt(variance)))
    return Gap(value, max(value - half, -1.0), min(value + half, 1.0), min(1.0, p), gained, lost)


def holm(p: list[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def _mean_squares(right: Right) -> tuple[float, float, float]:
    """Return the mean squares of seeds, faces and the rest of a matrix (S, N), S and N > 1."""
    seeds, faces = right.shape
    values = right.astype(np.float64)
    total = values.mean()
    of_seeds, of_faces = values.mean(1), values.mean(0)
    ss_seeds = faces * float(((of_seeds - total) ** 2).sum())
    ss_faces = seeds * float(((of_faces - total) ** 2).sum())
    ss_rest = max(float(((values - total) ** 2).sum()) - ss_seeds - ss_faces, 0.0)
    return ss_seeds / (seeds - 1), ss_faces / (faces - 1), ss_rest / ((seeds - 1) * (faces - 1))


def _variance_of_seeds(right: Right) -> tuple[float, float, int] | None:
    """Return the variance of a system's accuracy from seed to seed; None for a single seed.

    Returns:
        (component beyond what the faces explain, plain mean square over faces, degrees of freedom).
    """
    if len(right) == 1:
        return None
    ms_seeds, _, ms_rest = _mean_squares(right)
    faces = right.shape[1]
    return max(ms_seeds - ms_rest, 0.0) / faces, ms_seeds / faces, len(right) - 1


def _quantile(freedom: float, confidence: float) -> float:
    return float(stdtrit(freedom, 0.5 + confidence / 2))


def _half(variance: float, freedom: float, confidence: float) -> float:
    return math.sqrt(variance) * _quantile(freedom, confidence) if variance > 0 else 0.0


def _wilson_of(value: float, variance: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion with this variance: of value (1 - value) / variance faces."""
    faces = value * (1 - value) / variance
    shrink = quantile**2 / faces
    centre = (value + shrink / 2) / (1 + shrink)
    half = quantile / (1 + shrink) * math.sqrt(variance + shrink / (4 * faces))
    return max(centre - half, 0.0), min(centre + half, 1.0)
