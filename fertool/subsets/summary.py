"""Summaries of lists and subsets: facts, and tables for the terminal."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from fertool import console
from fertool.artefact import Artefact
from fertool.subsets import OCCLUSIONS
from fertool.subsets.members import Subset, angles
from fertool.subsets.names import Ids
from fertool.subsets.occlusion_table import OcclusionTable
from fertool.subsets.ran_lists import Entries, RanLists

_EXAMPLES = 5  # names shown of a long list


def some(names: list[str]) -> dict[str, Any]:
    """Return the number of names and the first few of them."""
    return {"count": len(names), "examples": names[:_EXAMPLES]}


# ------------------------------------------------------------------------------------------------------ facts


def list_facts(faces: Artefact, lists: RanLists, ids: Ids) -> dict[str, Any]:
    """Return the size of each list, the entries found among the faces, and how the labels of both compare."""
    rows = {role: entries.known_rows for role, entries in lists.lists.items()}
    both = np.intersect1d(rows["train"], rows["test"]) if {"train", "test"} <= rows.keys() else ()
    return {
        "dataset": lists.layout.title,
        "folder": str(lists.folder),
        "files": [_file_facts(faces, lists, role, entries, ids) for role, entries in lists.lists.items()],
        "missing": lists.missing,
        "types_are_guessed": lists.layout.types_are_guessed and "occlusion" in lists.lists,
        "in_train_and_test": len(both),
    }


def _file_facts(faces: Artefact, lists: RanLists, role: str, entries: Entries, ids: Ids) -> dict[str, Any]:
    counts, known = Counter(entries.names), entries.rows >= 0
    theirs = lists.classes_in(faces.classes)[entries.labels[known]]
    ours = faces["label"][entries.rows[known]]
    return {
        "list": role,
        "file": entries.path.name,
        "entries": len(entries.names),
        "unique": len(counts),
        "repeated": some([name for name, n in counts.items() if n > 1]),
        "found": len(entries.known_rows),
        "not_found": _not_found(entries.names, entries.rows, ids),
        "splits": _by_split(faces["split"][entries.known_rows]),
        "paper": lists.layout.paper.get(role),
        "types": {kind: entries.types.count(kind) for kind in OCCLUSIONS if kind in entries.types},
        "label_differs": int(((theirs != ours) & (theirs >= 0) & (ours >= 0)).sum()),
        "label_only_in_list": int(((ours < 0) & (theirs >= 0)).sum()),
        "no_such_class": int((theirs < 0).sum()),
    }


def table_facts(table: OcclusionTable, ids: Ids) -> dict[str, Any]:
    """Return the number of rows and ids, the ids not found among the faces, and the rows not yet reviewed."""
    unique, not_found = len(set(table.names)), _not_found(table.names, table.rows, ids)
    return {"rows": len(table.names), "ids": unique, "not_found": not_found, "unreviewed": table.unreviewed}


def _not_found(names: list[str], rows: np.ndarray, ids: Ids) -> dict[str, Any]:
    absent = list(dict.fromkeys(name for name, row in zip(names, rows, strict=True) if row < 0))
    return {**some(absent), "ambiguous": sum(map(ids.is_ambiguous, absent))}


def subset_facts(subset: Subset, splits: np.ndarray, lists: RanLists | None) -> dict[str, Any]:
    """Return the size of a subset in all and by split, and its size in the paper if it comes from the authors' list."""
    by_split = _by_split(splits[subset.members])
    paper = lists.layout.paper.get(subset.name) if lists and subset.source == "list" else None
    facts = {"name": subset.name, "source": subset.source, "faces": int(subset.members.sum()), "paper": paper}
    return {**facts, "splits": {split: by_split.get(split, 0) for split in _by_split(splits)}}


def overlaps(subsets: list[Subset]) -> dict[str, int]:
    """Count the faces in occlusion and each pose subset, and in each pose subset and the next."""
    poses = [s for s in subsets if s.name.startswith("pose")]
    pairs = [(s, pose) for s in subsets if s.name == "occlusion" for pose in poses]
    pairs += pairwise(poses)
    return {f"{a.name} and {b.name}": int((a.members & b.members).sum()) for a, b in pairs}


def without_pose(faces: Artefact, subsets: list[Subset], has_image: np.ndarray) -> int | None:
    """Count the faces with an image and no angles; None if no subset depends on angles."""
    sources = {s.source for s in subsets if s.name.startswith("pose")} - {"list"}
    return int(np.isnan(angles(faces, sources.pop()))[has_image].any(axis=1).sum()) if sources else None


def duplicate_facts(faces: Artefact, groups: list[np.ndarray]) -> dict[str, Any]:
    """Count the images that lie in several splits, by split, and those of them with different labels."""
    rows = np.concatenate([np.empty(0, np.int64), *groups])
    labels = [set(faces["label"][group].tolist()) - {-1} for group in groups]
    return {
        "images": len(groups),
        "faces": len(rows),
        "splits": _by_split(faces["split"][rows]),
        "labelled_differently": sum(len(found) > 1 for found in labels),
        "examples": [faces.ids[group].tolist() for group in groups[:_EXAMPLES]],
    }


_ORDER = ("train", "val", "test")


def _by_split(splits: np.ndarray) -> dict[str, int]:
    count = Counter(splits.tolist())
    return {s: count[s] for s in sorted(count, key=lambda s: (_ORDER.index(s) if s in _ORDER else len(_ORDER), s))}


# ------------------------------------------------------------------------------------------------- terminal


def report(facts: dict[str, Any]) -> None:
    """Print the facts of a subsets file, warnings included."""
    console.say(f"{facts['path']}: {len(facts['subsets'])} subsets of {facts['faces']:,} faces")
    if facts["lists"]:
        _print_lists(facts["lists"])
    if table := facts["table"]:
        console.say(f"occlusion table: {table['rows']:,} rows for {table['ids']:,} faces")
        _print_not_found("the table", table["not_found"])
        if table["unreviewed"]:
            console.say(f"{table['unreviewed']:,} suggestions without a review are left out")
    if facts["subsets"]:
        _print_subsets(facts["subsets"])
        if facts["overlaps"]:
            console.say("in two subsets: " + "; ".join(f"{pair}: {n:,}" for pair, n in facts["overlaps"].items()))
    else:
        console.say("no source of occlusion or pose subsets: add --lists DIR or --occlusion-table CSV")
    if facts.get("agreement"):
        _print_agreement(facts["agreement"])
    if facts["without_pose"]:
        console.say(f"{facts['without_pose']:,} of {facts['images']:,} faces have no pose and are in no pose subset")
    if facts["duplicates"]:
        _print_duplicates(facts["duplicates"])
    if facts["folds"]:
        rows = [
            (f["fold"], _number(f["subjects"]), _number(f["faces"]), ", ".join(f["missing"])) for f in facts["folds"]
        ]
        console.show(console.table("folds", ("fold", "subjects", "faces", "missing classes"), rows))
    if facts["subjects_across_splits"]["count"]:
        console.say(f"warning: subjects with faces in several splits: {_named(facts['subjects_across_splits'])}")


def _print_lists(lists: dict[str, Any]) -> None:
    keys = ("list", "entries", "unique", "found", "label_differs", "label_only_in_list")
    rows = [[_number(f[k]) for k in keys] + [_of(f["entries"], f["paper"])] for f in lists["files"]]
    columns = ("list", "entries", "unique", "found", "label differs", "no label", "of the paper's")
    console.show(console.table(f"RAN authors' lists of {lists['dataset']} in {lists['folder']}", columns, rows))
    for f in lists["files"]:
        _print_not_found(f["file"], f["not_found"])
        if f["repeated"]["count"]:
            console.say(f"{f['file']} repeats: {_named(f['repeated'])}")
        if f["no_such_class"]:
            console.say(f"{f['file']} has {f['no_such_class']:,} labels of classes that the faces lack")
    console.say("label differs, no label: listed faces whose label in the faces file is another, or missing")
    if lists["types_are_guessed"]:
        console.say("the authors do not define types 1 to 4 of RAF-DB; the order of Table I is assumed")
    if lists["in_train_and_test"]:
        console.say(f"warning: {lists['in_train_and_test']:,} faces are in both the train list and the test list")
    if lists["missing"]:
        console.say(f"not in the folder: {', '.join(lists['missing'])}")


def _print_subsets(subsets: list[dict[str, Any]]) -> None:
    splits = list(subsets[0]["splits"])
    columns = ("subset", "from", "faces", "of the paper's", *(split or "no split" for split in splits))
    rows = [
        (s["name"], s["source"], _number(s["faces"]), _of(s["faces"], s["paper"]), *map(_number, s["splits"].values()))
        for s in subsets
    ]
    console.show(console.table("subsets", columns, rows))


def _print_agreement(agreements: list[dict[str, Any]]) -> None:
    keys = ("subset", "faces", "listed", "estimated", "both", "precision", "recall", "auc")
    rows = [[_number(a[k]) for k in keys] for a in agreements]
    columns = (*keys[:-1], "area under ROC")
    console.show(console.table("estimated head pose against the lists (neither is ground truth)", columns, rows))


def _print_duplicates(duplicates: dict[str, Any]) -> None:
    if not duplicates["images"]:
        console.say("no exact pixel duplicates across splits")
        return
    where = ", ".join(f"{n:,} in {split or 'no split'}" for split, n in duplicates["splits"].items())
    example = " = ".join(duplicates["examples"][0])
    console.say(
        f"{duplicates['images']:,} exact pixel duplicates across splits: {duplicates['faces']:,} faces "
        f"({where}); {duplicates['labelled_differently']:,} of them with different labels; e.g. {example}"
    )


def _print_not_found(what: str, absent: dict[str, Any]) -> None:
    if absent["count"]:
        several = f"; {absent['ambiguous']:,} of them match several faces" if absent["ambiguous"] else ""
        console.say(f"{what}: entries not among these faces: {_named(absent)}{several}")


def _named(names: dict[str, Any]) -> str:
    more = ", ..." if names["count"] > len(names["examples"]) else ""
    return f"{names['count']:,} ({', '.join(names['examples'])}{more})"


def _number(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value


def _of(n: int, paper: int | None) -> str | None:
    return None if paper is None else f"{n:,} of {paper:,}"
