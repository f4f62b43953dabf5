"""What build-subsets tells about lists and subsets: as facts, and as tables for the terminal."""

from collections import Counter

import numpy as np

from fertool import console
from fertool.artefact import Artefact
from fertool.subsets import OCCLUSIONS
from fertool.subsets.members import Subset, angles
from fertool.subsets.names import Ids
from fertool.subsets.occlusion_table import OcclusionTable
from fertool.subsets.ran_lists import Entries, RanLists

_EXAMPLES = 5  # names given where some of many are mentioned


def some(names: list[str]) -> dict:
    """How many, and the first few of them."""
    return {"count": len(names), "examples": names[:_EXAMPLES]}


# ------------------------------------------------------------------------------------------------------ facts


def list_facts(faces: Artefact, lists: RanLists, ids: Ids) -> dict:
    """What each list holds, what of it was found, and how its labels compare with those of the faces."""
    rows = {role: entries.known_rows for role, entries in lists.lists.items()}
    both = np.intersect1d(rows["train"], rows["test"]) if {"train", "test"} <= rows.keys() else []
    return {
        "data_set": lists.layout.title,
        "folder": str(lists.folder),
        "files": [_file_facts(faces, lists, role, entries, ids) for role, entries in lists.lists.items()],
        "missing": lists.missing,
        "types_are_guessed": lists.layout.types_are_guessed and "occlusion" in lists.lists,
        "in_train_and_test": len(both),
    }


def _file_facts(faces: Artefact, lists: RanLists, role: str, entries: Entries, ids: Ids) -> dict:
    seen, known = Counter(entries.names), entries.rows >= 0
    theirs = lists.classes_in(faces.classes)[entries.labels[known]]
    ours = faces["label"][entries.rows[known]]
    return {
        "list": role,
        "file": entries.path.name,
        "entries": len(entries.names),
        "unique": len(seen),
        "repeated": some([name for name, n in seen.items() if n > 1]),
        "found": len(entries.known_rows),
        "not_found": _not_found(entries.names, entries.rows, ids),
        "splits": _by_split(faces["split"][entries.known_rows]),
        "paper": lists.layout.paper.get(role),
        "types": {kind: entries.types.count(kind) for kind in OCCLUSIONS if kind in entries.types},
        "label_differs": int(((theirs != ours) & (theirs >= 0) & (ours >= 0)).sum()),
        "label_only_in_list": int(((ours < 0) & (theirs >= 0)).sum()),
        "no_such_class": int((theirs < 0).sum()),
    }


def table_facts(table: OcclusionTable, ids: Ids) -> dict:
    """How long the table is, and what of it was found."""
    unique, not_found = len(set(table.names)), _not_found(table.names, table.rows, ids)
    return {"rows": len(table.names), "ids": unique, "not_found": not_found, "unjudged": table.unjudged}


def _not_found(names: list[str], rows: np.ndarray, ids: Ids) -> dict:
    absent = list(dict.fromkeys(name for name, row in zip(names, rows, strict=True) if row < 0))
    return {**some(absent), "ambiguous": sum(map(ids.is_ambiguous, absent))}


def subset_facts(subset: Subset, splits: np.ndarray, lists: RanLists | None) -> dict:
    """Size of a subset in all and by split, and its size in the paper if it comes from the authors' list."""
    by_split = _by_split(splits[subset.members])
    paper = lists.layout.paper.get(subset.name) if subset.source == "list" else None
    facts = {"name": subset.name, "source": subset.source, "faces": int(subset.members.sum()), "paper": paper}
    return {**facts, "splits": {split: by_split.get(split, 0) for split in _by_split(splits)}}


def overlaps(subsets: list[Subset]) -> dict[str, int]:
    """Faces in two subsets at once: of occlusion with each pose subset, and of each pose subset with the next."""
    poses = [s for s in subsets if s.name.startswith("pose")]
    pairs = [(s, pose) for s in subsets if s.name == "occlusion" for pose in poses]
    pairs += zip(poses, poses[1:], strict=False)
    return {f"{a.name} and {b.name}": int((a.members & b.members).sum()) for a, b in pairs}


def without_pose(faces: Artefact, subsets: list[Subset], pictures: np.ndarray) -> int | None:
    """How many faces with a picture have no angles; None where no subset is made by angles."""
    sources = {s.source for s in subsets if s.name.startswith("pose")} - {"list"}
    return int(np.isnan(angles(faces, sources.pop()))[pictures].any(axis=1).sum()) if sources else None


def twin_facts(faces: Artefact, groups: list[np.ndarray]) -> dict:
    """How many pictures lie in several splits, where, and how many of them with different labels."""
    rows = np.concatenate([np.empty(0, np.int64), *groups])
    labels = [set(faces["label"][group].tolist()) - {-1} for group in groups]
    return {
        "pictures": len(groups),
        "faces": len(rows),
        "splits": _by_split(faces["split"][rows]),
        "labelled_differently": sum(len(found) > 1 for found in labels),
        "examples": [faces.ids[group].tolist() for group in groups[:_EXAMPLES]],
    }


_ORDER = ("train", "val", "test")


def _by_split(splits: np.ndarray) -> dict[str, int]:
    count = Counter(splits.tolist())
    return {s: count[s] for s in sorted(count, key=lambda s: (_ORDER.index(s) if s in _ORDER else len(_ORDER), s))}


# ------------------------------------------------------------------------------------------------- in words


def say(facts: dict) -> None:
    """Print the facts of a subsets file, and what in them should worry the reader."""
    console.say(f"{facts['path']}: {len(facts['subsets'])} subsets of {facts['faces']:,} faces")
    if facts["lists"]:
        _say_lists(facts["lists"])
    if table := facts["table"]:
        console.say(f"occlusion table: {table['rows']:,} rows about {table['ids']:,} faces")
        _say_not_found("the table", table["not_found"])
        if table["unjudged"]:
            console.say(f"{table['unjudged']:,} suggestions that nobody has judged are left out")
    if facts["subsets"]:
        _say_subsets(facts["subsets"])
        if facts["overlaps"]:
            console.say("in two at once: " + "; ".join(f"{pair}: {n:,}" for pair, n in facts["overlaps"].items()))
    else:
        console.say("nothing says which faces are occluded or turned: give --lists DIR or --occlusion-table CSV")
    if facts.get("agreement"):
        _say_agreement(facts["agreement"])
    if facts["without_pose"]:
        console.say(f"{facts['without_pose']:,} of {facts['pictures']:,} faces have no pose and are in no pose subset")
    if facts["twins"]:
        _say_twins(facts["twins"])
    if facts["folds"]:
        rows = [(f["fold"], _number(f["subjects"]), _number(f["faces"]), ", ".join(f["lacks"])) for f in facts["folds"]]
        console.show(console.table("folds", ("fold", "people", "faces", "has no"), rows))
    if facts["subjects_across_splits"]["count"]:
        console.say(f"warning: people with faces in several splits: {_named(facts['subjects_across_splits'])}")


def _say_lists(lists: dict) -> None:
    keys = ("list", "entries", "unique", "found", "label_differs", "label_only_in_list")
    rows = [[_number(f[k]) for k in keys] + [_of(f["entries"], f["paper"])] for f in lists["files"]]
    columns = ("list", "entries", "unique", "found", "label differs", "no label", "of the paper's")
    console.show(console.table(f"RAN authors' lists of {lists['data_set']} in {lists['folder']}", columns, rows))
    for f in lists["files"]:
        _say_not_found(f["file"], f["not_found"])
        if f["repeated"]["count"]:
            console.say(f"{f['file']} names more than once: {_named(f['repeated'])}")
        if f["no_such_class"]:
            console.say(f"{f['file']} has {f['no_such_class']:,} labels of a class that the faces do not have")
    console.say("label differs, no label: listed faces to which the faces file gives another label, or none")
    if lists["types_are_guessed"]:
        console.say("the authors do not say what types 1 to 4 of RAF-DB mean; they are taken in the order of Table I")
    if lists["in_train_and_test"]:
        console.say(f"warning: {lists['in_train_and_test']:,} faces are in the train list and in the test list")
    if lists["missing"]:
        console.say(f"not in the folder: {', '.join(lists['missing'])}")


def _say_subsets(subsets: list[dict]) -> None:
    splits = list(subsets[0]["splits"])
    columns = ("subset", "from", "faces", "of the paper's", *(split or "no split" for split in splits))
    rows = [
        (s["name"], s["source"], _number(s["faces"]), _of(s["faces"], s["paper"]), *map(_number, s["splits"].values()))
        for s in subsets
    ]
    console.show(console.table("subsets", columns, rows))


def _say_agreement(compared: list[dict]) -> None:
    keys = ("subset", "faces", "listed", "estimated", "both", "precision", "recall", "auc")
    rows = [[_number(a[k]) for k in keys] for a in compared]
    columns = (*keys[:-1], "area under ROC")
    console.show(console.table("estimated head pose against the lists, of which neither is the truth", columns, rows))


def _say_twins(twins: dict) -> None:
    if not twins["pictures"]:
        console.say("no two splits share a picture, pixel for pixel")
        return
    where = ", ".join(f"{n:,} in {split or 'no split'}" for split, n in twins["splits"].items())
    console.say(
        f"{twins['pictures']:,} pictures lie in several splits, pixel for pixel: {twins['faces']:,} faces ({where}); "
        f"{twins['labelled_differently']:,} of them with different labels; e.g. {' = '.join(twins['examples'][0])}"
    )


def _say_not_found(what: str, absent: dict) -> None:
    if absent["count"]:
        several = f"; {absent['ambiguous']:,} of them could mean several faces" if absent["ambiguous"] else ""
        console.say(f"{what}: entries that are not among these faces: {_named(absent)}{several}")


def _named(names: dict) -> str:
    more = ", ..." if names["count"] > len(names["examples"]) else ""
    return f"{names['count']:,} ({', '.join(names['examples'])}{more})"


def _number(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value


def _of(n: int, paper: int | None) -> str | None:
    return None if paper is None else f"{n:,} of {paper:,}"
