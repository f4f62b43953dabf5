"""report: runs → a page that says how good they are, on whom, where they look and how they were made."""

import json
import re
import shlex
from pathlib import Path

from fertool import artefact, console, files, locks
from fertool.errors import DataError, UsageError
from fertool.evaluation import page
from fertool.evaluation.units import percent
from fertool.models.registry import model_class
from fertool.run_folders import data_folder
from fertool.settings import Evaluate, Report
from fertool.stages import evaluate
from fertool.stages.evaluate import predictions_of
from fertool.stages.report import metrics, provenance
from fertool.stages.visualize.inputs import Run, named
from fertool.training.devices import Devices
from fertool.workspace import run_reference

_PATIENCE = 10.0  # seconds to wait for another process that writes the same page


def run(folders: list[Path], *, settings: Report, out: Path | None = None) -> Path:
    """Make a page of one run, or of several beside one another.

    Args:
        folders: of the runs; what is compared is compared with the first.
        out: the page; by default report.html in the run's folder, or in that of the dataset if there are several.

    Returns:
        the page, one HTML file that needs nothing else.

    Raises:
        ArtefactError: a run that classifies has no predictions, or they are older than it or its faces.
        UsageError: a run named twice, or `out` is some other file.
        DataError: the page cannot be written.
    """
    runs = named(folders)
    target = out or _place(runs)
    if target.exists() and not _is_page(target):
        raise UsageError(f"{target} is there and no page of fertool's", "choose another --out")
    each = [metrics.facts(r, settings) for r in runs]
    scored = [r for r, facts in zip(runs, each, strict=True) if facts["scores"]]
    nodes = list({(n["kind"], n["digest"]): n for facts in each for n in facts["origin"]}.values())
    made = page.render(
        {
            "runs": each,
            "comparison": metrics.comparison(scored) if len(scored) > 1 else None,
            "cross_validations": metrics.cross_validations(scored, settings),
            "board": metrics.over_seeds(scored, settings),
            "confidence": settings.confidence,
            "commands": [*provenance.commands(nodes), shlex.join(["fertool", "report", *_named_again(folders)])],
            "versions": provenance.versions(nodes),
            "nodes": nodes,
        }
    )
    with locks.exclusive(target, wait=_PATIENCE):
        return files.write(target, made)


def evaluate_missing(folders: list[Path], devices: Devices) -> None:
    """Predict with every run of a classifier that has no predictions yet: split test, else the one watched in training.

    Raises:
        DataError: neither split has a face.
    """
    for folder in folders:
        train = artefact.read(folder / "run.h5", "run").params
        if predictions_of(folder) is None and model_class(train["model"]["name"]).classifies:
            console.say(f"{folder.name} has no predictions yet: evaluating it")
            watched = train["train"]["val_split"]
            try:
                evaluate.run(folder, settings=Evaluate(), devices=devices)
            except DataError as e:
                if watched == Evaluate.split:
                    raise
                console.say(f"note: {e.message}; evaluating split {watched}, which was watched in training")
                evaluate.run(folder, settings=Evaluate(split=watched), devices=devices)


def _named_again(folders: list[Path]) -> list[str]:
    return [word for folder in folders for word in ("--run", run_reference(folder))]


def _place(runs: list[Run]) -> Path:
    if len(runs) == 1:
        return runs[0].folder / "report.html"
    data = {data_folder(r.folder) for r in runs}
    return (data.pop() if len(data) == 1 else data_folder(runs[0].folder).parent) / "report.html"


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as f:
        return page.MARK in f.read(1000)


def summary(path: Path) -> dict:
    """Return the page, its size in bytes, and the numbers in it: of each run its scores, see `evaluation.score`.

    Raises:
        DataError: it is no page of a report, or damaged.
    """
    text = path.read_text(encoding="utf-8")
    numbers = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text, re.DOTALL)
    if numbers is None:
        raise DataError(f"{path} holds no numbers of a report", "run: fertool report")
    return {"report": str(path), "bytes": path.stat().st_size, **json.loads(numbers[1])}


def report(facts: dict) -> None:
    """Print a line per run, and the path of the page."""
    for name, numbers in facts["runs"].items():
        if scores := numbers["scores"]:
            whole = scores["subsets"]["all"]
            rate = "no labelled face" if whole["accuracy"] is None else f"{percent(whole['accuracy'])} %"
            console.say(f"{name}: {rate} of {whole['n_total']:,} faces")
    console.say(f"→ {facts['report']} ({facts['bytes'] / 1e6:.1f} MB)")
