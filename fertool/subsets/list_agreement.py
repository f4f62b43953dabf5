"""How far a list of turned heads and the estimated head pose agree. Neither is the truth."""

from dataclasses import dataclass

import numpy as np

from fertool.artefact import Artefact
from fertool.subsets.members import angles, subset_of_pose
from fertool.subsets.ran_lists import RanLists

_SHOWN = 8  # faces of each kind of disagreement


@dataclass(frozen=True)
class Agreement:
    """A list of heads turned by more than `threshold` degrees, and the estimate.

    Attributes:
        name: of the subset.
        rows: (n,) the faces compared: those with a pose, of the split from which most of the list comes.
        listed: (n,) bool. turn: (n,) the larger of |pitch| and |yaw|, in degrees.
    """

    name: str
    threshold: float
    rows: np.ndarray
    listed: np.ndarray
    turn: np.ndarray

    def facts(self) -> dict:
        """Counts, precision and recall of the estimate taken against the list, and the area under its ROC curve: how
        often a listed face is more turned than one that is not."""
        turned = self.turn > self.threshold
        both = int((turned & self.listed).sum())
        return {
            "subset": self.name,
            "faces": len(self.rows),
            "listed": int(self.listed.sum()),
            "estimated": int(turned.sum()),
            "both": both,
            "precision": both / max(int(turned.sum()), 1),
            "recall": both / max(int(self.listed.sum()), 1),
            "auc": area(self.turn, self.listed),
        }

    def strongest(self) -> list[tuple[str, np.ndarray]]:
        """Where the two disagree most: listed faces that look straight, and turned ones not listed, as positions in
        `rows`."""
        order = np.argsort(self.turn, kind="stable")
        straight = order[self.listed[order] & (self.turn[order] <= self.threshold)]
        turned = order[~self.listed[order] & (self.turn[order] > self.threshold)][::-1]
        return [("listed", straight[:_SHOWN]), ("not listed", turned[:_SHOWN])]


def compare(faces: Artefact, lists: RanLists | None, thresholds: tuple[float, ...]) -> list[Agreement]:
    """Every list of turned heads beside the estimate, where there are both."""
    if lists is None or "pose" not in faces:
        return []
    turn = np.abs(angles(faces, "estimate")).max(axis=1)
    found = []
    for threshold in thresholds:
        name = subset_of_pose(threshold)
        if name not in lists.lists or not len(members := lists.lists[name].known_rows):
            continue
        splits, counts = np.unique(faces["split"][members].astype(str), return_counts=True)
        rows = np.flatnonzero((faces["split"] == splits[counts.argmax()]) & np.isfinite(turn))
        if len(rows):
            found.append(Agreement(name, threshold, rows, np.isin(rows, members), turn[rows].astype(float)))
    return found


def area(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The area under the ROC curve, equal scores counting half (Mann & Whitney); None if one side is empty."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return None
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
