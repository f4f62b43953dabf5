"""Faces that a data set holds twice: the same pixels in different splits, the same person in different splits."""

import hashlib
from collections import defaultdict

import numpy as np


def pixel_twins(images: np.ndarray, rows: np.ndarray, splits: np.ndarray) -> list[np.ndarray]:
    """Groups of rows with exactly equal pixels that lie in more than one split.

    Args:
        images: (N, H, W, C) uint8, may be a memory map. rows: the rows to compare. splits: (N,) split of every row.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        groups[hashlib.sha256(np.ascontiguousarray(images[row])).digest()].append(int(row))
    return [np.array(g) for g in groups.values() if len(set(splits[g])) > 1]


def subjects_across(subjects: np.ndarray, splits: np.ndarray) -> list[str]:
    """People who have faces in more than one split, sorted; faces without a subject are left out."""
    seen: dict[str, set[str]] = defaultdict(set)
    for subject, split in zip(subjects, splits, strict=True):
        if subject:
            seen[subject].add(split)
    return sorted(s for s, where in seen.items() if len(where) > 1)
