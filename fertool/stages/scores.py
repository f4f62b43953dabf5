"""eval, second half: predictions → scores, comparison, fusion, beside the paper's numbers."""

from collections.abc import Mapping
from pathlib import Path

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, UsageError
from fertool.evaluation import paper_results, score, tables


def run(
    predictions: Mapping[str, Path], *, names: tuple[str, ...], confidence: float, fuse: bool, csv: Path | None
) -> dict:
    """Score one or more runs.

    Args:
        predictions: run name -> its predictions.h5, all of the same faces when there are several.
        names: subsets to score beside the whole split; "all" for every one.
        fuse: also score the mean of the runs' probabilities.
        csv: also write one line per run and subset, and beside it (…-classes.csv) one per class.

    Returns:
        {"runs": {name: scores}, "comparison": ... of several runs, "fused": ... if asked}, see `evaluation.score`.
    """
    if fuse and len(predictions) < 2:
        raise UsageError("--fuse needs at least two runs", "name them: --run ran-1 --run ran-2 --fuse")
    files = {name: artefact.read(path, "predictions") for name, path in predictions.items()}
    trained = {name: artefact.read(path.parent / "run.h5", "run") for name, path in predictions.items()}
    faces = {name: _faces(path, files[name]) for name, path in predictions.items()}
    setups = [
        paper_results.setup_of(trained[n], faces[n], files[n].params["split"]) if faces[n] else None for n in files
    ]
    first = next(iter(files))
    subsets = {name: _subsets(f) if names else None for name, f in faces.items()}
    facts: dict = {
        "runs": {
            name: {
                **paper_results.beside(score.score(file, subsets[name], names, confidence=confidence), setup),
                "select_on": trained[name].params["train"]["select_on"],
                "predictions": str(file.path),
            }
            for (name, file), setup in zip(files.items(), setups, strict=True)
        }
    }
    if len(files) > 1:
        facts["comparison"] = score.compare(files, subsets[first], names)
    if fuse:
        fused = score.score(list(files.values()), subsets[first], names, confidence=confidence)
        facts["fused"] = paper_results.beside(fused, paper_results.fused(setups))
    if csv:
        results = {**facts["runs"], **({"fused": facts["fused"]} if fuse else {})}
        tables.write_csv(csv, [row for name, r in results.items() for row in tables.score_rows(r, name)])
        beside = csv.with_name(f"{csv.stem}-classes{csv.suffix}")
        tables.write_csv(beside, [row for name, r in results.items() for row in tables.class_rows(r, name)])
        facts["csv"] = [str(csv), str(beside)]
    return facts


def check_subsets(faces: Path, names: tuple[str, ...]) -> None:
    """Refuse a subset that does not exist, before a network has run for it.

    Raises:
        ArtefactError: these faces have no subsets.
        UsageError: no subset of that name.
    """
    if names:
        path = faces.with_name("subsets.h5")
        if not path.exists():
            raise ArtefactError(f"there are no subsets beside {faces}", "run: fertool build-subsets")
        subsets = artefact.read(path, "subsets")
        for name in names:
            if name != score.ALL:
                score.membership(subsets, name)


def _faces(path: Path, predictions: Artefact) -> Artefact | None:
    """The faces that were predicted, if they still lie where the run belongs."""
    wanted = predictions.parent("faces")
    for candidate in sorted(path.parent.parent.parent.parent.glob("*/faces.h5")):
        faces = artefact.read(candidate, "faces")
        if faces.digest == wanted.digest:
            return faces
    return None


def _subsets(faces: Artefact | None) -> Artefact | None:
    if faces is None or not (path := faces.path.with_name("subsets.h5")).exists():
        return None
    return artefact.read(path, "subsets")


def report(facts: dict, *, every_class: bool = False) -> None:
    """Print tables: scores per run, classes, comparison, fusion, latency."""
    results = dict(facts["runs"])
    if "fused" in facts:
        results[f"mean of {facts['fused']['fused']} runs"] = facts["fused"]
    console.show(tables.scores(results, next(iter(results)) if len(results) == 1 else "Scores"))
    for line in tables.notes(results):
        console.say(line)
    for name, result in facts["runs"].items():
        if result["select_on"] == "test":
            console.say(f"note: the checkpoint of {name} was chosen on the test split; its numbers are optimistic")
        if len(facts["runs"]) == 1 or every_class:
            for subset in result["subsets"] if every_class else ["all"]:
                console.show(tables.classes(result, subset))
                if every_class:
                    console.show(tables.confusion(result, subset))
    if "comparison" in facts:
        console.show(tables.comparison(facts["comparison"]))
    for name, time in facts.get("latency", {}).items():
        console.say(
            f"{name}: {time['median_ms']:.1f} ms per face at batch 1 (median of {time['faces']}; 90 % below "
            f"{time['p90_ms']:.1f} ms; {time['device']})"
        )
    for file in facts.get("csv", []):
        console.say(f"→ {file}")
