"""build-subsets: lists, tables and head pose → named subsets of the faces."""

from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact, console, locks
from fertool.artefact import Artefact
from fertool.errors import RecipeError, UsageError
from fertool.faces.status import HAS_IMAGE
from fertool.settings import BuildSubsets
from fertool.subsets import folds as cross_validation
from fertool.subsets import list_agreement
from fertool.subsets import summary as facts
from fertool.subsets.duplicates import pixel_duplicates, subjects_across
from fertool.subsets.list_agreement import Agreement
from fertool.subsets.members import listed_labels, occlusion_subsets, pose_subsets
from fertool.subsets.names import Ids
from fertool.subsets.occlusion_table import OcclusionTable, read_table
from fertool.subsets.ran_lists import RanLists, read_lists


@locks.writes("out")
def run(
    faces: Path,
    *,
    settings: BuildSubsets,
    out: Path,
    lists: Path | None = None,
    occlusion_table: Path | None = None,
    overwrite: bool = False,
    preview: Path | None = None,
) -> Path:
    """Write one bool column per subset, a row for every row of `faces`.

    A subset marks faces of every split; `eval` uses those of the evaluated split. Subsets about which nothing is known
    are not written. Further columns: `occlusion_type`, `list_label` and `list_split` (the authors' labels and split),
    `duplicate` (the same pixels lie in another split, too), and, with `folds`, `fold`.

    Args:
        faces: the faces file.
        settings: thresholds, folds, source of the pose.
        out: file to write.
        lists: the RAN authors' folder, or the parent of their folders, see `fertool.subsets.ran_lists`.
        occlusion_table: CSV with the columns id, type; takes precedence over the lists.
        overwrite: replace a file made with other settings or inputs.
        preview: also draw the strongest disagreements between lists and estimated pose into this image.

    Raises:
        RecipeError: thresholds that are not different angles.
        UsageError: pose from lists without lists; a preview without pose lists or estimated pose.
        DataError: lists or a table that are malformed or belong to other faces.
        ArtefactError: no pose where the estimate is requested; a file of other work at `out`.
    """
    thresholds = _checked_thresholds(settings)
    source = artefact.read(faces, "faces")
    ids = Ids(source.ids)
    listed = read_lists(lists, ids, source.path) if lists else None
    table = read_table(occlusion_table, ids, source.path) if occlusion_table else None
    agreements = list_agreement.compare(source, listed, thresholds)
    if preview:
        _draw(source, agreements, preview)
    params = settings.as_dict()
    parents = [source.as_parent(), *(given.parent for given in (listed, table) if given)]
    if artefact.up_to_date(out, "subsets", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
        return Path(out)

    source.verify(*(name for name in source.columns if name != "images" or settings.duplicates))
    columns, found = _build(source, ids, settings, listed, table)
    found["agreement"] = [agreement.facts() for agreement in agreements]
    info = {**artefact.make_info(), "report": found}
    artefact.save(out, "subsets", columns, params=params, inputs=parents, classes=source.classes, info=info)
    return Path(out)


def _checked_thresholds(settings: BuildSubsets) -> tuple[float, ...]:
    thresholds = settings.pose_thresholds
    if not all(0 < t < 180 for t in thresholds) or len(set(thresholds)) < len(thresholds):
        shown = ", ".join(f"{t:g}" for t in thresholds)
        raise RecipeError(f"pose_thresholds {shown} are not different angles in degrees", "the paper uses 30, 45")
    return thresholds


def _build(
    source: Artefact, ids: Ids, settings: BuildSubsets, listed: RanLists | None, table: OcclusionTable | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the columns of the file, and the facts that `report` prints."""
    has_image = np.isin(source["status"], HAS_IMAGE)
    subsets, types = occlusion_subsets(source, listed, table)
    subsets += pose_subsets(source, settings.pose_source, settings.pose_thresholds, listed)
    label, split = listed_labels(source, listed)
    columns = {"id": source.ids, "occlusion_type": types, "list_label": label, "list_split": split}
    columns |= {subset.name: subset.members for subset in subsets}
    duplicates = None
    if settings.duplicates:
        groups = pixel_duplicates(source["images"], np.flatnonzero(has_image), source["split"])
        columns["duplicate"] = np.isin(np.arange(source.rows), np.concatenate([[], *groups]))
        duplicates = facts.duplicate_facts(source, groups)
    folds = []
    if settings.folds:
        columns["fold"] = cross_validation.assign(source, settings.fold_scheme, settings.folds)
        if settings.fold_scheme not in ("sequences", "faces"):
            cross_validation.check_disjoint(columns["fold"], source["subject"])
        folds = cross_validation.facts(columns["fold"], source)
    shared = subjects_across(source["subject"], source["split"]) if "subject" in source else []
    return columns, {
        "faces": source.rows,
        "images": int(has_image.sum()),
        "lists": facts.list_facts(source, listed, ids) if listed else None,
        "table": facts.table_facts(table, ids) if table else None,
        "subsets": [facts.subset_facts(subset, source["split"], listed) for subset in subsets],
        "overlaps": facts.overlaps(subsets),
        "without_pose": facts.without_pose(source, subsets, has_image),
        "duplicates": duplicates,
        "folds": folds,
        "subjects_across_splits": facts.some(shared),
    }


def _draw(source: Artefact, agreements: list[Agreement], path: Path) -> None:
    """Draw the faces about which the lists and the estimated pose disagree most."""
    from fertool.figures import pose_disagreement, style

    rows = []
    for agreement in agreements:
        for kind, places in agreement.strongest():
            shown = [
                (source["images"][row], f"{source.ids[row]}\npitch {pitch:+.0f} yaw {yaw:+.0f}")
                for row in agreement.rows[places]
                for pitch, yaw in [source["pose"][row, :2]]
            ]
            if shown:
                rows.append((f"{agreement.name}: {kind}", shown))
    if not rows:
        raise UsageError(
            "lists and estimated pose have no disagreement to draw",
            "--preview requires --lists DIR with pose lists, and faces with a pose",
        )
    style.save(pose_disagreement.sheet(rows), path)
    console.say(f"preview: {path}")


def summary(path: Path) -> dict[str, Any]:
    """Return sizes by split, contents of the lists, overlaps, duplicates, and subjects in several splits."""
    return {"path": str(path), **artefact.read(path, "subsets").info["report"]}


def report(summary: dict[str, Any]) -> None:
    """Print the summary."""
    facts.report(summary)
