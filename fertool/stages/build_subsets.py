"""build-subsets: lists, tables and head pose → named subsets of the faces."""

from pathlib import Path

import numpy as np

from fertool import artefact, console, locks
from fertool.errors import RecipeError, UsageError
from fertool.faces.status import HAS_IMAGE
from fertool.settings import BuildSubsets
from fertool.subsets import folds as crossing
from fertool.subsets import list_agreement
from fertool.subsets import summary as facts
from fertool.subsets.duplicates import pixel_twins, subjects_across
from fertool.subsets.members import listed_labels, occluded, turned
from fertool.subsets.names import Ids
from fertool.subsets.occlusion_table import read_table
from fertool.subsets.ran_lists import read_lists


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

    A subset marks faces of every split; `eval` takes those of the split it scores. Only subsets about which something
    is known are written, so that none is empty for want of knowledge. Beside them: `occlusion_type`, `list_label` and
    `list_split` (the authors' own labels and split), `twin` (the same pixels lie in another split, too), and, if
    asked for, `fold`.

    Args:
        lists: the RAN authors' folder, or the parent of their folders, see `fertool.subsets.ran_lists`.
        occlusion_table: CSV with the columns id, type; it takes precedence over the lists.
        preview: also draw the faces about which lists and estimated pose disagree most into this picture.

    Raises:
        RecipeError: thresholds that are no angles.
        UsageError: pose from lists, and none given; a preview without lists of turned heads or without pose.
        DataError: lists or a table that are malformed or not of these faces.
        ArtefactError: no pose where the estimate is asked for; a file of other work at `out`.
    """
    thresholds = settings.pose_thresholds
    if not all(0 < t < 180 for t in thresholds) or len(set(thresholds)) < len(thresholds):
        shown = ", ".join(f"{t:g}" for t in thresholds)
        raise RecipeError(f"pose_thresholds {shown} are no different angles in degrees", "the paper takes 30, 45")
    source = artefact.read(faces, "faces")
    ids = Ids(source.ids)
    listed = read_lists(lists, ids, source.path) if lists else None
    table = read_table(occlusion_table, ids, source.path) if occlusion_table else None
    compared = list_agreement.compare(source, listed, thresholds)
    if preview:
        _draw(source, compared, preview)
    params = settings.as_dict()
    parents = [source.as_parent(), *(given.parent for given in (listed, table) if given)]
    if artefact.up_to_date(out, "subsets", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
        return Path(out)

    source.verify(*(name for name in source.columns if name != "images" or settings.twins))
    pictures = np.isin(source["status"], HAS_IMAGE)
    subsets, types = occluded(source, listed, table)
    subsets += turned(source, settings.pose_source, thresholds, listed)
    twins = pixel_twins(source["images"], np.flatnonzero(pictures), source["split"]) if settings.twins else None
    people = subjects_across(source["subject"], source["split"]) if "subject" in source else []

    label, split = listed_labels(source, listed)
    columns = {"id": source.ids, "occlusion_type": types, "list_label": label, "list_split": split}
    columns |= {subset.name: subset.members for subset in subsets}
    if twins is not None:
        columns["twin"] = np.isin(np.arange(source.rows), np.concatenate([[], *twins]))
    folds = crossing.assign(source, settings.fold_scheme, settings.folds) if settings.folds else None
    if folds is not None:
        columns["fold"] = folds
        if settings.fold_scheme not in ("sequences", "faces"):
            crossing.check_apart(folds, source["subject"])
    found = {
        "faces": source.rows,
        "pictures": int(pictures.sum()),
        "lists": facts.list_facts(source, listed, ids) if listed else None,
        "table": facts.table_facts(table, ids) if table else None,
        "subsets": [facts.subset_facts(subset, source["split"], listed) for subset in subsets],
        "overlaps": facts.overlaps(subsets),
        "agreement": [a.facts() for a in compared],
        "without_pose": facts.without_pose(source, subsets, pictures),
        "twins": facts.twin_facts(source, twins) if twins is not None else None,
        "folds": crossing.facts(folds, source) if folds is not None else [],
        "subjects_across_splits": facts.some(people),
    }
    info = {**artefact.make_info(), "report": found}
    artefact.save(out, "subsets", columns, params=params, inputs=parents, classes=source.classes, info=info)
    return Path(out)


def _draw(source: artefact.Artefact, compared: list[list_agreement.Agreement], path: Path) -> None:
    from fertool.figures import pose_disagreement, style

    rows = []
    for found in compared:
        for kind, places in found.strongest():
            shown = [
                (source["images"][row], f"{source.ids[row]}\npitch {pitch:+.0f} yaw {yaw:+.0f}")
                for row in found.rows[places]
                for pitch, yaw in [source["pose"][row, :2]]
            ]
            if shown:
                rows.append((f"{found.name}: {kind}", shown))
    if not rows:
        raise UsageError(
            "there is no disagreement between lists and estimated pose to draw",
            "it needs --lists DIR with lists of turned heads, and faces with a pose",
        )
    style.save(pose_disagreement.sheet(rows), path)
    console.say(f"preview: {path}")


def summary(path: Path) -> dict:
    """Facts about a subsets file: sizes by split, what the lists held, overlaps, twins, people in several splits."""
    return {"path": str(path), **artefact.read(path, "subsets").info["report"]}


def report(summary: dict) -> None:
    """Print the facts."""
    facts.say(summary)
