"""The model card of a run: README.md beside its exported files, as the Hugging Face hub reads it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fertool import console, files, locks
from fertool.errors import ArtefactError
from fertool.evaluation import card, paper_results
from fertool.models.registry import model_class
from fertool.outputs import check_output
from fertool.settings import Export, Report
from fertool.stages.export.licences import notes
from fertool.stages.report import metrics, provenance
from fertool.stages.visualize.inputs import Run
from fertool.training.checkpoint import Trained

NAME = "README.md"


def run(
    folder: Path, trained: Trained, exported: Sequence[Path], *, settings: Export, out: Path, overwrite: bool = False
) -> Path:
    """Write the card.

    Args:
        folder: of the run, which has predictions if it classifies.
        trained: its network.
        exported: the files that the card describes.
        out: folder for the card.
        overwrite: replace a card with another text, perhaps edited.

    Raises:
        UsageError: there is a file of the same name that fertool did not write.
        ArtefactError: there is a card with another text; or the faces or predictions of the run are missing.
    """
    path = out / NAME
    about = metrics.facts(Run(trained.name, folder), Report(by=settings.by), pictures=False)
    reference = paper_results.of_network(model_class(trained.model.name))
    paper = paper_results.load(reference) if reference else None
    text = card.page(
        {
            **about,
            "weights": trained.weights,
            "paper": f"{paper.authors}: {paper.title}. {paper.venue}" if paper else "",
            "dataset": str(trained.prepared["faces"].get("dataset", "")),
            "licence": notes(trained),
            "faces": trained.faces,
            "has_boxes": trained.regions is not None and trained.regions.mode != "fixed",
            "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in exported},
            "commands": provenance.commands(about["origin"]),
        }
    )
    with locks.exclusive(path):
        check_output(path)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            console.say(f"{path} is up to date")
        elif path.exists() and not overwrite:
            raise ArtefactError(f"{path} has another text, which may have been edited", "add --overwrite")
        else:
            files.write(path, text)
    return path
