"""Members of the named subsets of a faces file, and the source of each."""

from dataclasses import dataclass

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.subsets import OCCLUSIONS
from fertool.subsets.occlusion_table import OcclusionTable
from fertool.subsets.ran_lists import RanLists


@dataclass(frozen=True)
class Subset:
    """A named subset, its source (table, list, truth or estimate) and its members (N,) bool."""

    name: str
    source: str
    members: np.ndarray


def occlusion_subsets(
    faces: Artefact, lists: RanLists | None, table: OcclusionTable | None
) -> tuple[list[Subset], np.ndarray]:
    """Return `occlusion` and, where types are known, `occlusion-<type>`; and each face's types joined by commas.

    The source is the table if there is one, else the lists, else the ground truth of rendered faces; else there are no
    subsets.
    """
    has_types = True
    if table:
        source, rows, types = "table", table.rows, table.types
        listed = [(row, kind) for row, kind in zip(rows, types, strict=True) if kind]
    elif lists and "occlusion" in lists.lists:
        source, entries = "list", lists.lists["occlusion"]
        listed, has_types = list(zip(entries.rows, entries.types, strict=True)), bool(lists.layout.types)
    elif "true_occlusion" in faces:
        source = "truth"
        listed = [(row, kind) for row, kind in enumerate(faces["true_occlusion"]) if kind not in ("", "none")]
        if unknown := {kind for _, kind in listed} - set(OCCLUSIONS):
            raise ArtefactError(f"{faces.path}: true_occlusion has the unknown types {', '.join(sorted(unknown))}")
    else:
        return [], np.full(faces.rows, "", dtype=object)
    anything, of_type = np.zeros(faces.rows, bool), {kind: np.zeros(faces.rows, bool) for kind in OCCLUSIONS}
    for row, kind in listed:
        if row >= 0:
            anything[row] = True
            if kind:
                of_type[kind][row] = True
    subsets = [Subset("occlusion", source, anything)]
    if has_types:
        subsets += [Subset(f"occlusion-{kind}", source, members) for kind, members in of_type.items()]
    text = [",".join(kind for kind in OCCLUSIONS if of_type[kind][row]) for row in range(faces.rows)]
    return subsets, np.array(text, dtype=object)


def pose_subset_name(threshold: float) -> str:
    """Return the name of the subset of faces turned by more than `threshold` degrees: 30 → pose30."""
    return f"pose{threshold:g}"


def pose_subsets(faces: Artefact, wanted: str, thresholds: tuple[float, ...], lists: RanLists | None) -> list[Subset]:
    """Return `pose<threshold>` for each threshold with a known source.

    Members come from a list, or have |pitch| or |yaw| above the threshold (RAN, IV-A); faces with unknown angles are in
    none.

    Args:
        faces: the faces file.
        wanted: list, estimate, none, or auto: the list where there is one, else the true angles of rendered faces, else
            the estimated ones.
        thresholds: degrees.
        lists: the published lists, if given.
    """
    subsets = []
    for threshold in thresholds if wanted != "none" else ():
        name = pose_subset_name(threshold)
        source = _pose_source(faces, wanted, name, lists)
        if lists is not None and source == "list":
            members = np.zeros(faces.rows, bool)
            members[lists.lists[name].known_rows] = True
            subsets.append(Subset(name, source, members))
        elif source:
            members = (np.abs(angles(faces, source)) > threshold).any(axis=1)
            subsets.append(Subset(name, source, members))
    return subsets


def angles(faces: Artefact, source: str) -> np.ndarray:
    """Return pitch and yaw of every face in degrees, (N, 2), NaN where unknown; `source` is truth or estimate."""
    if source == "truth":
        return np.stack([faces["true_pitch"], faces["true_yaw"]], axis=1)
    return faces["pose"][:, :2]


def _pose_source(faces: Artefact, wanted: str, name: str, lists: RanLists | None) -> str | None:
    has_list = lists is not None and name in lists.lists
    has_estimate = "pose" in faces and np.isfinite(faces["pose"]).any()
    if wanted == "list" and not has_list:
        if lists is None:
            raise UsageError(f"pose_source: list requires lists for {name}", "add --lists DIR")
        raise DataError(
            f"{lists.folder} has no list of {name}, only: {', '.join(lists.lists)}",
            "use --pose-source auto, which falls back to the estimated pose",
        )
    if wanted == "estimate" and not has_estimate:
        raise ArtefactError(
            f"no face in {faces.path} has an estimated pose",
            "run detect-align --landmarks ert68, or use --pose-source auto",
        )
    if wanted != "auto":
        return wanted
    if has_list:
        return "list"
    if "true_yaw" in faces and "true_pitch" in faces:
        return "truth"
    return "estimate" if has_estimate else None


def listed_labels(faces: Artefact, lists: RanLists | None) -> tuple[np.ndarray, np.ndarray]:
    """Return label (index in the faces' classes, or -1) and split (or "") of every face by the authors' lists."""
    label, split = np.full(faces.rows, -1, dtype=np.int16), np.full(faces.rows, "", dtype=object)
    for role in ("train", "test"):
        if lists and role in lists.lists:
            entries = lists.lists[role]
            known = entries.rows >= 0
            label[entries.rows[known]] = lists.classes_in(faces.classes)[entries.labels[known]]
            split[entries.rows[known]] = role
    return label, split
