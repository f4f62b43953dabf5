"""What of a workspace, and of the folder the user is in, names a run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from fertool import artefact, run_folders
from fertool.artefact.schema import Header
from fertool.errors import ArtefactError
from fertool.workspace import Workspace

_BOARD = "board.json"


def dependents(workspace: Workspace, run: Path) -> list[str]:
    """Return what was made from a run and lies outside its folder, one phrase each.

    Runs that start from it or have it as their pretrained part, predictions, figures and sweeps name it by its digest;
    so do boards, which are looked for in the workspace and in the current folder.
    """
    try:
        digest = artefact.peek(run / "run.h5", "run").digest
    except ArtefactError:
        return []  # nobody can have read it
    found = []
    for path in _files(workspace.root):
        if path.is_relative_to(run):
            continue
        if (header := _header(path)) and (roles := [p.role for p in header.inputs if p.digest == digest]):
            found.append(_phrase(path, header, roles[0]))
    return found + [f"board {path.parent}" for path in _boards(workspace.root) if _is_on(path, digest)]


def _files(root: Path) -> Iterator[Path]:
    """Yield the artefacts of a workspace."""
    for folder, below, names in os.walk(root):
        below.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".h5"))


def _boards(root: Path) -> list[Path]:
    """Return the boards in a workspace, in the current folder, and in the folders there."""
    paths = [*sorted(root.rglob(_BOARD)), Path(_BOARD), *sorted(Path().glob(f"*/{_BOARD}"))]
    return list({path.resolve(): path for path in paths if path.is_file()}.values())


def _header(path: Path) -> Header | None:
    try:
        return artefact.peek(path)
    except ArtefactError:
        return None


def _phrase(path: Path, header: Header, role: str) -> str:
    if header.kind == "run":
        name = run_folders.name_of(path.parent)
        return f"{name}, which starts from it" if role == "init" else f"{name}, which has it as its pretrained part"
    if header.kind == "figures" and "sweep" in header.params["figures"]:
        return f"sweep {path.parent.parent.parent.name}/{path.parent.name}"
    return f"{header.kind} {path}"


def _is_on(board: Path, digest: str) -> bool:
    """Return whether a board counts a run."""
    try:
        blocks = json.loads(board.read_text(encoding="utf-8"))["blocks"]
        return any(r["digest"] == digest for b in blocks for s in b["systems"] for r in s["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # it is no board of fertool's
