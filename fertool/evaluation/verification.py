"""Face verification: do two faces show the same person?

The protocol of LFW (Huang et al. 2007), view 2: balanced pairs in ten parts; on each part, the similarity that counts
as "same" is the one that is best on the nine others.
"""

from dataclasses import dataclass

import numpy as np

from fertool.subsets.pairs import FOLDS

#: accuracy of a coin: half of the pairs show one person
CHANCE = 0.5


@dataclass(frozen=True)
class Verification:
    """What embeddings say of pairs of faces; accuracies as fractions.

    Attributes:
        pairs: number of pairs, half of them of one person.
        accuracy, sd: mean and standard deviation (n - 1) over the ten folds.
        auc: area under the ROC curve over all pairs.
        threshold: mean over the folds of the cosine from which on two faces count as one person's.
    """

    pairs: int
    accuracy: float
    sd: float
    auc: float
    threshold: float


def verify(embeddings: np.ndarray, pairs: np.ndarray, same: np.ndarray) -> Verification:
    """Verify pairs by the cosine of their embeddings.

    Args:
        embeddings: (N, D) vectors of faces.
        pairs, same: as `fertool.subsets.pairs.draw_pairs` gives them, at least 20.
    """
    e = np.asarray(embeddings, np.float64)
    e = e / np.linalg.norm(e, axis=1, keepdims=True).clip(1e-12)
    cosine = np.einsum("pd,pd->p", e[pairs[:, 0]], e[pairs[:, 1]])
    fold = np.arange(len(cosine)) % FOLDS  # pairs were drawn in random order; every fold gets as many of each kind
    right, thresholds = [], []
    for k in range(FOLDS):
        thresholds.append(best_threshold(cosine[fold != k], same[fold != k]))
        right.append(np.mean((cosine[fold == k] >= thresholds[-1]) == same[fold == k]))
    return Verification(
        pairs=len(cosine),
        accuracy=float(np.mean(right)),
        sd=float(np.std(right, ddof=1)),
        auc=roc_auc(cosine, same),
        threshold=float(np.mean(thresholds)),
    )


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """Return the score from which on "same" is right most often; the lowest of several."""
    values, place = np.unique(scores, return_inverse=True)
    positive = np.bincount(place, same, len(values))
    negative = np.bincount(place, ~same, len(values))
    right = positive[::-1].cumsum()[::-1] + negative.cumsum() - negative  # same at or above, different below
    return float(values[right.argmax()])


def roc_auc(scores: np.ndarray, same: np.ndarray) -> float:
    """Return the probability that a pair of one person scores higher than a pair of two; ties count half."""
    values, place = np.unique(scores, return_inverse=True)
    positive = np.bincount(place, same, len(values))
    negative = np.bincount(place, ~same, len(values))
    below = negative.cumsum() - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))
