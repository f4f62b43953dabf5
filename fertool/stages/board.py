"""board: any set of runs → one table of results with intervals over seeds, paired tests and the paper's claims."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fertool import artefact, console, files
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, FertoolError, OutOfMemoryError, Stopped, UsageError
from fertool.evaluation import tables as score_tables
from fertool.evaluation.board import markdown, results, tables
from fertool.evaluation.board.systems import Entry, LeftOut, arrange
from fertool.evaluation.score import membership
from fertool.models.registry import model_class
from fertool.outputs import MARK
from fertool.run_folders import data_folder, name_of
from fertool.settings import Evaluate
from fertool.stages import evaluate
from fertool.training import lineage
from fertool.training.devices import Devices


def run(
    folders: Sequence[Path],
    *,
    settings: Evaluate,
    devices: Devices,
    subsets: tuple[str, ...] = (),
    baseline: str = "",
    out: Path | None = None,
) -> dict[str, Any]:
    """Compare systems over all of their runs.

    Args:
        folders: of the runs; those without predictions of the split are evaluated.
        subsets: to score beside the whole split; "all" for every one.
        baseline: see `results.of_block`.
        out: a folder for board.md, board.json, board.csv and a figure per table.

    Returns:
        {"confidence", "blocks": tables, see `results.of_block`, "left_out": [{"run", "reason"}], "files": written}

    Raises:
        UsageError: no run that can be scored; a subset or baseline that none of them knows.
    """
    entries: list[Entry] = []
    left: list[LeftOut] = []
    for folder in folders:
        found = _entry(folder, settings, devices)
        (entries if isinstance(found, Entry) else left).append(found)  # type: ignore[arg-type]
    _require_subsets(entries, subsets)
    blocks, others = arrange(entries, subsets)
    if not blocks:
        reasons = "; ".join(f"{r.run}: {r.reason}" for r in (*left, *others))
        raise UsageError(f"none of these runs can be scored: {reasons}", "train and finish some: fertool train")
    systems = [s for b in blocks for s in b.systems]
    if baseline and not any(results.is_called(s, baseline) for s in systems):
        labels = "; ".join(dict.fromkeys(s.label for s in systems))
        raise UsageError(f"no system here is {baseline!r}", f"--baseline takes one of: {labels}")
    facts: dict[str, Any] = {
        "confidence": settings.confidence,
        "blocks": [
            results.of_block(b, confidence=settings.confidence, baseline=baseline, paper=settings.paper) for b in blocks
        ],
        "left_out": [{"run": r.run, "reason": r.reason} for r in (*left, *others)],
        "files": [],
    }
    if out:
        facts["files"] = [str(path) for path in write(facts, out)]
    return facts


def _entry(folder: Path, settings: Evaluate, devices: Devices) -> Entry | LeftOut:
    """Return a run with its predictions, or the reason why it cannot be scored."""
    name = name_of(folder)
    try:
        trained = artefact.read(folder / "run.h5", "run")
        about = lineage.describe(trained)
        if not about["finished"]:
            planned = trained.params["train"].get("epochs")
            done = f"stopped after {about['epochs']} of {planned:g} epochs" if planned else "not finished"
            return LeftOut(name, f"{done}; its command with --resume continues it")
        model = trained.params["model"]["name"]
        if not model_class(model).classifies:
            return LeftOut(name, f"{model} predicts no expressions")
        predictions = artefact.read(evaluate.run(folder, settings=settings, devices=devices), "predictions")
        faces = _beside(folder, predictions)
        return Entry(name, trained, predictions, faces, _subsets(faces))
    except (OutOfMemoryError, Stopped):
        raise
    except FertoolError as e:
        return LeftOut(name, e.message + (f" ({e.hint})" if e.hint else ""))


def _beside(folder: Path, predictions: Artefact) -> Artefact | None:
    parent = predictions.parent("faces")
    return artefact.find(parent, [data_folder(folder) / "faces.h5"]) if parent else None


def _subsets(faces: Artefact | None) -> Artefact | None:
    if faces is None or not (path := faces.path.with_name("subsets.h5")).is_file():
        return None
    found = artefact.read(path, "subsets")
    found.require_parent(faces)
    return found


def _require_subsets(entries: Sequence[Entry], names: tuple[str, ...]) -> None:
    """Refuse a subset that faces of a run do not know."""
    for entry in {e.faces.digest: e for e in entries if e.faces}.values():
        for name in names:
            if entry.subsets is None:
                raise ArtefactError(f"the faces of {entry.name} have no subsets", "run: fertool build-subsets")
            if name != "all":
                membership(entry.subsets, name)


def write(facts: dict[str, Any], out: Path) -> list[Path]:
    """Write the board as Markdown, JSON and CSV, with a figure per table, into a folder."""
    from fertool.figures import board, style

    out.mkdir(parents=True, exist_ok=True)
    pictures: dict[int, str] = {}
    with style.look():
        for number, block in enumerate(facts["blocks"]):
            name = "board.png" if len(facts["blocks"]) == 1 else f"board-{number + 1}.png"
            style.save(board.draw(block), out / name)
            pictures[number] = name
    content = {"generator": MARK, **{k: v for k, v in facts.items() if k != "files"}}
    made = [
        files.write(out / "board.md", markdown.page(facts, pictures)),
        files.write(out / "board.json", json.dumps(content, indent=1, allow_nan=False) + "\n"),
    ]
    score_tables.write_csv(out / "board.csv", list(tables.csv_rows(facts)))
    return [*made, out / "board.csv", *(out / name for name in pictures.values())]


def report(facts: dict[str, Any]) -> None:
    """Print accuracies, differences, trainings and notes of every table, and the runs that are not counted."""
    for block in facts["blocks"]:
        console.show(tables.accuracies(block, facts["confidence"]))
        for gaps in tables.gaps(block, facts["confidence"]):
            console.show(gaps)
        console.show(tables.costs(block))
        for line in tables.notes(block):
            console.say(line)
    for run in facts["left_out"]:
        console.say(f"not counted: {run['run']}: {run['reason']}")
    for path in facts["files"]:
        console.say(f"→ {path}")
