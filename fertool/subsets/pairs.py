"""Pairs of faces, of one person and of two, by which verification is measured."""

import numpy as np

#: parts of the protocol; every part has as many pairs of either kind
FOLDS = 10


def draw_pairs(subjects: np.ndarray, number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw pairs of faces, all of them different, half of one person and half of two.

    Args:
        subjects: (N,) whose face each is.
        number: how many pairs are wanted; fewer where there are fewer, always a multiple of 20.

    Returns:
        (P, 2) indices of faces, those of one person first; (P,) bool, True for one person. None of either where the
        faces make fewer than ten pairs of one person or of two.
    """
    _, subject = np.unique(np.asarray(subjects), return_inverse=True)
    order = np.argsort(subject, kind="stable")
    n, place = len(order), np.arange(len(order))
    ends = np.cumsum(np.bincount(subject))[subject[order]]  # where the faces of each one's person end, in this order
    same, different = (place + 1, ends - place - 1), (ends, n - ends)  # a face's first partner, and how many follow
    per_kind = min(number // 2, int(same[1].sum()), int(different[1].sum())) // FOLDS * FOLDS
    rng = np.random.default_rng(seed)
    pairs = np.concatenate([_draw(first, count, per_kind, rng) for first, count in (same, different)])
    return order[pairs], np.arange(2 * per_kind) < per_kind


def _draw(first: np.ndarray, count: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (number, 2) different pairs of a face i and one of its partners first[i] ... first[i] + count[i] - 1."""
    if not number:
        return np.empty((0, 2), np.int64)
    until = np.cumsum(count)
    chosen = rng.choice(int(until[-1]), number, replace=False)
    face = np.searchsorted(until, chosen, side="right")
    return np.stack([face, first[face] + chosen - (until - count)[face]], axis=1)
