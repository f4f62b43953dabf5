"""Agreement of the published pose lists with the estimated head pose. Neither is ground truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fertool.artefact import Artefact
from fertool.subsets.members import angles, pose_subset_name
from fertool.subsets.ran_lists import RanLists

_SHOWN = 8  # faces per kind of disagreement


@dataclass(frozen=True)
class Agreement:
    """A list of faces turned by more than `threshold` degrees beside the estimated pose.

    Attributes:
        name: name of the subset.
        threshold: degrees.
        rows: (n,) compared faces: those with a pose, of the split that holds most of the list.
        listed: (n,) bool.
        rotation: (n,) the larger of |pitch| and |yaw|, in degrees.
    """

    name: str
    threshold: float
    rows: np.ndarray
    listed: np.ndarray
    rotation: np.ndarray

    def facts(self) -> dict[str, Any]:
        """Return counts, precision and recall of the estimate against the list, and the area under its ROC curve."""
        turned = self.rotation > self.threshold
        both = int((turned & self.listed).sum())
        return {
            "subset": self.name,
            "faces": len(self.rows),
            "listed": int(self.listed.sum()),
            "estimated": int(turned.sum()),
            "both": both,
            "precision": both / max(int(turned.sum()), 1),
            "recall": both / max(int(self.listed.sum()), 1),
            "auc": roc_auc(self.rotation, self.listed),
        }

    def strongest(self) -> list[tuple[str, np.ndarray]]:
        """Return positions in `rows` of the strongest disagreements: listed frontal faces, turned faces not listed."""
        order = np.argsort(self.rotation, kind="stable")
        frontal = order[self.listed[order] & (self.rotation[order] <= self.threshold)]
        turned = order[~self.listed[order] & (self.rotation[order] > self.threshold)][::-1]
        return [("listed", frontal[:_SHOWN]), ("not listed", turned[:_SHOWN])]


def compare(faces: Artefact, lists: RanLists | None, thresholds: tuple[float, ...]) -> list[Agreement]:
    """Compare every pose list with the estimate, where both exist."""
    if lists is None or "pose" not in faces:
        return []
    rotation = np.abs(angles(faces, "estimate")).max(axis=1)
    found = []
    for threshold in thresholds:
        name = pose_subset_name(threshold)
        if name not in lists.lists or not len(members := lists.lists[name].known_rows):
            continue
        splits, counts = np.unique(faces["split"][members].astype(str), return_counts=True)
        rows = np.flatnonzero((faces["split"] == splits[counts.argmax()]) & np.isfinite(rotation))
        if len(rows):
            found.append(Agreement(name, threshold, rows, np.isin(rows, members), rotation[rows].astype(float)))
    return found


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Return the area under the ROC curve, ties counting half (Mann & Whitney); None if one class is empty."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return None
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
