"""runs: all runs of a workspace as a table; remove and rename them."""

from typing import Any

from fertool import console
from fertool.evaluation.units import percent, size
from fertool.stages.runs.listing import COLUMNS, Entry, entries, local_time
from fertool.workspace import Workspace

__all__ = ["COLUMNS", "report", "summary"]


def summary(workspace: Workspace, **filters: Any) -> dict[str, Any]:
    """Return {"workspace", "runs": see `listing.entries`}."""
    return {"workspace": str(workspace.root), "runs": entries(workspace, **filters)}


def report(facts: dict[str, Any]) -> None:
    """Print one line per run, and what is wrong with those that cannot be read."""
    found = facts["runs"]
    if not found:
        console.say(f"no such run in {facts['workspace']}")
        return
    columns = ["run", "network", "variant", "differs in", "epochs", "state", "%", "of", "date", "size"]
    rows = [
        [
            e["name"] + ("  ←" if e["latest"] else ""),
            e["network"] or "–",
            e["variant"] or "–",
            _settings(e),
            _epochs(e),
            e["state"],
            percent(e["accuracy"]),
            _split(e),
            local_time(e["created"]) or "–",
            size(e["bytes"]),
        ]
        for e in found
    ]
    kept = [i for i, _ in enumerate(columns) if i not in (2, 3) or any(row[i] != "–" for row in rows)]
    table = console.table("", [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])
    for i, column in zip(kept, table.columns, strict=True):
        if columns[i] != "differs in":
            column.min_width = max(len(row[i]) for row in rows)
    console.show(table)
    for e in found:
        if e["problem"]:
            console.say(f"{e['name']}: {e['problem']}")
    total = sum(e["bytes"] for e in found)
    console.say(f"{len(found):,} runs, {size(total)}" + ("; ←: taken where no --run is given" * _has_latest(found)))


def _has_latest(found: list[Entry]) -> bool:
    return any(e["latest"] for e in found)


def _settings(e: Entry) -> str:
    """Return settings that differ, by their last word."""
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in e["settings"].items()) or "–"


def _epochs(e: Entry) -> str:
    """Return epochs done of planned, or iterations of them; "–" where nothing was trained."""
    if e["epochs"] is None or e["epochs_planned"] == 0:
        return "–"
    if e["iterations_planned"] is not None:
        return f"{e['iterations']}/{e['iterations_planned']} steps"
    return f"{e['epochs']}/{e['epochs_planned']:g}"


def _split(e: Entry) -> str:
    """Return where an accuracy was measured, and its role where the split's name does not say it."""
    if e["split"] is None:
        return "–"
    words = [] if e["metric"] == "accuracy" else [e["metric"]]
    words += [] if e["split"] == {"test": "test", "validation": "val"}[e["role"]] else [e["role"]]
    return f"{e['split']} ({', '.join(words)})" if words else e["split"]
