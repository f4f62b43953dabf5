"""Where a run comes from: every artefact it was made of down to the dataset, and the commands that made them."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from fertool import artefact
from fertool.artefact import Artefact, Parent
from fertool.run_folders import folders, subfolders
from fertool.workspace import STAGE_FILES


def chain(artefacts: Iterable[Artefact], folder: Path) -> list[dict]:
    """Return artefacts and all that they were made of, parents before children.

    Args:
        artefacts: e.g. the predictions of a run, and the subsets they are scored on.
        folder: the dataset's folder in the workspace; parents are looked for there, then beside it.

    Returns:
        for each {title, kind, name, uid, digest, is_artefact, found, parents (names), parent_digests}; for those that
        are there also created, command, versions, seed, rows, params.
    """
    nodes: dict[tuple[str, str], dict] = {}
    begun = set()

    def visit(made: Artefact) -> None:
        for parent in made.inputs:
            key = (parent.kind, parent.digest)
            if key in begun:
                continue
            begun.add(key)
            if found := artefact.find(parent, _candidates(parent, folder)):
                visit(found)
            else:
                nodes[key] = {**_facts(parent), "found": False, "parents": [], "parent_digests": []}
        mine = made.as_parent()
        nodes[(mine.kind, mine.digest)] = {
            **_facts(mine),
            "found": True,
            "parents": [p.name for p in made.inputs],
            "parent_digests": [p.digest for p in made.inputs],
            "created": made.info.get("created", ""),
            "command": shlex.join(map(str, made.info.get("command", []))),
            "versions": dict(made.info.get("versions", {})),
            "seed": made.info.get("seed"),
            "rows": made.rows,
            "params": artefact.flatten(made.params),
        }

    for last in artefacts:
        visit(last)
    return list(nodes.values())


def _facts(parent: Parent) -> dict:
    is_artefact = parent.kind in artefact.KINDS
    title = parent.kind if is_artefact else {"dataset": "dataset"}.get(parent.role, parent.role)
    return {
        "title": title,
        "kind": parent.kind,
        "name": parent.name,
        "uid": parent.uid,
        "digest": parent.digest,
        "is_artefact": is_artefact,
    }


def _candidates(parent: Parent, folder: Path) -> Iterator[Path]:
    """Return where in the workspace a parent may lie, by its name first; no path is made from a name."""
    if parent.kind in STAGE_FILES:
        beside = folder / f"{parent.kind}.h5"
        yield from (p for p in (beside, *sorted(folder.parent.glob(f"*/{parent.kind}.h5"))) if p.is_file())
    if parent.kind == "run":
        there = sorted(run / "run.h5" for data in subfolders(folder.parent) for run in folders(data, sweeps=True))
        yield from (p for p in there if f"{p.parent.name}/{p.name}" == parent.name)


def commands(nodes: list[dict]) -> list[str]:
    """Return the commands that made them, each after those that made what it needs.

    One command may have made several files, such as the predictions of two runs.
    """
    made_by = {n["digest"]: n["command"] for n in nodes if n.get("command")}
    needs: dict[str, set[str]] = {command: set() for command in made_by.values()}
    for node in nodes:
        if command := node.get("command"):
            needs[command] |= {made_by[d] for d in node["parent_digests"] if d in made_by} - {command}
    ordered: list[str] = []
    while left := [command for command in needs if command not in ordered]:
        ready = (command for command in left if needs[command] <= set(ordered))
        ordered.append(next(ready, left[0]))
    return ordered


def versions(nodes: list[dict]) -> list[dict]:
    """Return every version of every package that was used: {package, version, made (names of the artefacts)}."""
    made: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        for package, version in node.get("versions", {}).items():
            made.setdefault((package, str(version)), []).append(node["name"])
    return [{"package": p, "version": v, "made": names} for (p, v), names in made.items()]
