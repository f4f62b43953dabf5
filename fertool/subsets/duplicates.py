"""Duplicates across splits: images with the same pixels, and subjects."""

import hashlib
from collections import defaultdict

import numpy as np


def pixel_duplicates(images: np.ndarray, rows: np.ndarray, splits: np.ndarray) -> list[np.ndarray]:
    """Return groups of rows with exactly equal pixels that lie in more than one split.

    Args:
        images: (N, H, W, C) uint8, may be a memory map.
        rows: rows to compare.
        splits: (N,) split of every row.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        groups[hashlib.sha256(np.ascontiguousarray(images[row]).data).digest()].append(int(row))
    return [np.array(g) for g in groups.values() if len(set(splits[g])) > 1]


def subjects_across(subjects: np.ndarray, splits: np.ndarray) -> list[str]:
    """Return the subjects with faces in more than one split, sorted; faces without a subject are ignored."""
    splits_of: dict[str, set[str]] = defaultdict(set)
    for subject, split in zip(subjects, splits, strict=True):
        if subject:
            splits_of[subject].add(split)
    return sorted(subject for subject, where in splits_of.items() if len(where) > 1)
