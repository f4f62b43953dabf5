"""inspect: what an artefact holds and how it was made; and what was found of a dataset on disk."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from fertool import artefact, console
from fertool.artefact.storage import Stored
from fertool.errors import ArtefactError
from fertool.faces.status import NAMES


def summary(path: Path, *, verify: bool = False) -> dict:
    """Return everything an artefact says about itself.

    Args:
        verify: read all of its data and compare it with the digests.

    Raises:
        ArtefactError: no artefact, or one that was changed after it was written.
    """
    a = artefact.read(path, partial=True)
    if verify:
        if not a.complete:
            raise ArtefactError(f"{path} is not finished: it has no digests yet", "finish it, then verify it")
        a.verify()
    facts = {
        "file": str(path),
        "kind": a.kind,
        "schema": a.schema,
        "complete": a.complete,
        "rows": a.rows,
        "uid": a.uid,
        "digest": a.digest,
        "verified": verify,
        "classes": list(a.classes) if a.classes else None,
        "params": a.params,
        "inputs": [vars(p) for p in a.inputs],
        "info": a.info,
        "arrays": {name: {"dtype": _dtype(s), "shape": list(s.shape)} for name, s in a.stored.items()},
    }
    if a.kind == "faces":
        counts = Counter(np.asarray(a["status"]).tolist())
        facts["status"] = {NAMES.get(code, str(code)): n for code, n in sorted(counts.items())}
        facts["splits"] = dict(Counter(a["split"].tolist()))
        labels = Counter(np.asarray(a["label"]).tolist())
        facts["labels"] = {name: labels[i] for i, name in enumerate(a.classes or ())} | {"none": labels[-1]}
    if a.kind == "run":
        facts["epochs"] = int(a["state/epoch"])
        facts["finished"] = bool(a["state/finished"])
    return facts


def _dtype(stored: Stored) -> str:
    return "text" if stored.is_text else str(stored.dtype)


def report(facts: dict) -> None:
    """Print a summary for people."""
    state = "complete" if facts["complete"] else "unfinished"
    count = f", {facts['rows']:,} rows" if facts["rows"] else ""
    console.say(f"{facts['file']}: {facts['kind']} (schema {facts['schema']}), {state}{count}")
    made = facts["info"]
    versions = ", ".join(f"{k} {v}" for k, v in made.get("versions", {}).items())
    console.say(f"made {made.get('created', '?')} by: {' '.join(made.get('command', []))}")
    console.say(f"with {versions}")
    verified = ", verified" if facts["verified"] else ""
    console.say(f"uid {facts['uid']}  digest {facts['digest'] or '–'}{verified}")
    for parent in facts["inputs"]:
        console.say(f"from {parent['role']}: {parent['name']} ({parent['kind']}, digest {parent['digest']})")
    if facts["classes"]:
        console.say(f"classes: {', '.join(facts['classes'])}")
    for title in ("status", "splits", "labels"):
        if title in facts:
            console.say(f"{title}: " + ", ".join(f"{k or '(none)'} {v:,}" for k, v in facts[title].items() if v))
    if "epochs" in facts:
        console.say(f"{facts['epochs']} epochs, {'finished' if facts['finished'] else 'unfinished'}")
    settings = [[k, json.dumps(v)] for k, v in artefact.flatten(facts["params"]).items()]
    console.show(console.table("Settings", ["key", "value"], settings))
    arrays = facts["arrays"].items()
    groups: dict[str, list] = {}
    for name, a in arrays:
        top = "optimizer" if name.startswith("optimizer/") else name.rpartition("/")[0]  # one array per tensor
        groups.setdefault(top, []).append([name, a["dtype"], "×".join(map(str, a["shape"])) or "single"])
    for top, rows in groups.items():
        shown = [*rows[:5], [f"{top}/… {len(rows) - 5} more", "", ""]] if top and len(rows) > 6 else rows
        console.show(console.table(top or "Columns", ["name", "type", "shape"], shown))


def report_dataset(facts: dict) -> None:
    """Print the check of a dataset on disk."""
    console.say(f"{facts['root']}: {facts['dataset']}, {facts['samples']:,} samples")
    if splits := facts["splits"]:
        rows = [(name, *(_count(s[name]) for s in splits.values())) for name in ("samples", "labelled")]
        if facts["expected"]:
            rows.append(("complete has", *(_count(facts["expected"].get(split)) for split in splits)))
        rows += [(name, *(_count(s["classes"][name]) for s in splits.values())) for name in facts["classes"]]
        console.show(console.table("Counts", ["", *(split or "(no split)" for split in splits)], rows))
    for problem in facts["problems"]:
        kind = "fatal" if problem["fatal"] else "note"
        console.say(f"{kind}: {problem['message']}" + (f" ({problem['path']})" if problem["path"] else ""))
    console.say("usable" if facts["usable"] else "not usable as it is")


def _count(n: int | None) -> str | None:
    return None if n is None else f"{n:,}"
