"""eval of a network that learns subjects: predictions → how well it verifies pairs of unseen people."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fertool import artefact, console
from fertool.errors import DataError, UsageError
from fertool.evaluation import tables
from fertool.evaluation.units import percent
from fertool.evaluation.verification import CHANCE, verify
from fertool.models.registry import model_class
from fertool.settings import Evaluate
from fertool.subsets.pairs import draw_pairs


def applies(folders: list[Path]) -> bool:
    """Return whether these runs learned subjects.

    Raises:
        UsageError: some did and some did not.
    """
    kinds = {model_class(artefact.read(f / "run.h5", "run").params["model"]["name"]).verifies for f in folders}
    if len(kinds) > 1:
        names = ", ".join(f.name for f in folders)
        raise UsageError(f"of {names}, some were trained on expressions and some on subjects", "eval them one by one")
    return kinds == {True}


def run(predictions: Mapping[str, Path], *, settings: Evaluate, csv: Path | None = None) -> dict:
    """Verify pairs of the faces that each run has predicted.

    Args:
        predictions: run name -> its predictions.h5, with embeddings for logits.
        settings: number and seed of the pairs.
        csv: also write one line per run.

    Returns:
        {"runs": {name: {"pairs", "faces", "people", "accuracy", "sd", "auc", "threshold" (cosine),
        "chance", "predictions"}}}

    Raises:
        DataError: there are too few pairs.
    """
    facts: dict = {"runs": {name: _verified(name, path, settings) for name, path in predictions.items()}}
    if csv:
        tables.write_csv(csv, [{"run": name, **result} for name, result in facts["runs"].items()])
        facts["csv"] = [str(csv)]
    return facts


def _verified(name: str, path: Path, settings: Evaluate) -> dict:
    file = artefact.read(path, "predictions")
    subject = np.asarray(file["subject"], dtype=str)
    pairs, same = draw_pairs(subject, settings.pairs, settings.pair_seed)
    people = len(np.unique(subject))
    if not len(pairs):
        raise DataError(
            f"{name}: {len(subject):,} faces of {people:,} unseen {'person' if people == 1 else 'people'} in split "
            f"{file.params['split']} make fewer than ten pairs of one person, or of two",
            "choose another split, or other faces: --split, --data",
        )
    found = asdict(verify(np.asarray(file["logits"]), pairs, same))
    return {
        "faces": len(subject),
        "people": people,
        **found,
        "chance": CHANCE,
        "predictions": str(path),
    }


def report(facts: dict) -> None:
    """Print one line per run."""
    rows = [
        (
            name,
            *(str(r[k]) for k in ("people", "faces", "pairs")),
            f"{percent(r['accuracy'])} ± {percent(r['sd'])}",
            percent(r["auc"]),
            f"{r['threshold']:.2f}",
        )
        for name, r in facts["runs"].items()
    ]
    columns = ("run", "unseen people", "faces", "pairs", "accuracy", "ROC AUC", "threshold")
    console.show(console.table("Verification in %", columns, rows))
    console.say(
        "half of the pairs show one person: chance is 50 %; mean ± standard deviation over 10 folds, each with the "
        "cosine threshold that is best on the others"
    )
    for name, time in facts.get("latency", {}).items():
        console.say(f"{name}: {time['median_ms']:.1f} ms per face at batch 1 ({time['device']})")
    for file in facts.get("csv", []):
        console.say(f"→ {file}")
