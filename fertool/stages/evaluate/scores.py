"""eval, second half: predictions → scores, comparison, fusion, beside the paper's numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, RecipeError, UsageError
from fertool.evaluation import comparison, folds, groups, paper_results, score, setups, tables
from fertool.evaluation.units import percent
from fertool.executors import Executor
from fertool.models.registry import model_class
from fertool.requirements.rows import fold_count
from fertool.run_folders import beside, data_folder
from fertool.settings import Evaluate, Report
from fertool.stages import evaluate
from fertool.stages.train import LAST_EPOCHS
from fertool.training.devices import Devices

#: in what the runs of one cross-validation differ, or may: each fold has its own pretrained part
_PER_FOLD = {"pretrained_part", "train.fold", "train.cache", "train.checkpoint_minutes", "train.compile"}


def run(
    predictions: Mapping[str, Path],
    *,
    names: tuple[str, ...],
    confidence: float,
    fuse: tuple[str, ...],
    csv: Path | None,
    repeats: Mapping[str, list[Path]] | None = None,
    paper: str = "",
    by: Sequence[str] = (),
) -> dict:
    """Score one or more runs.

    Args:
        predictions: run name -> its predictions.h5, all of the same faces when there are several.
        names: subsets to score beside the whole split; "all" for every one.
        fuse: runs of which the mean of the probabilities is scored too.
        csv: also write one line per run and subset, and beside it (…-classes.csv) one per class.
        repeats: run name -> its predictions with every sample of random crops, where there are several.
        paper: whose numbers to compare with, see `Evaluate.paper`.
        by: columns of the faces to group them by, see `evaluation.groups`; with a CSV file, …-groups.csv beside it.

    Returns:
        {"runs": {name: scores}, "comparison": ... of several runs, "fused": ... if asked}, see `evaluation.score`. The
        scores of a run have "groups", column -> result of `evaluation.groups.score_groups`.
    """
    if len(fuse) == 1:
        raise UsageError("--fuse needs at least two runs", "name them: --run ran-1 --run ran-2 --fuse")
    files = {name: artefact.read(path, "predictions") for name, path in predictions.items()}
    trained = {name: artefact.read(path.parent / "run.h5", "run") for name, path in predictions.items()}
    faces = {name: _faces(path, files[name]) for name, path in predictions.items()}
    first = next(iter(files))
    subsets = {name: _subsets(f) if names else None for name, f in faces.items()}
    made = {n: setups.setup_of(trained[n], files[n], faces[n], subsets[n], paper=paper) for n in files}
    facts: dict = {
        "runs": {
            name: {
                **comparison.beside(score.score(file, subsets[name], names, confidence=confidence), made[name]),
                "select_on": trained[name].params["train"]["select_on"],
                "last_epochs": last_epochs(trained[name], file),
                "remarks": _remarks(trained[name]),
                "groups": _grouped(file, faces[name], by, confidence),
                "crop_repeats": _over_repeats((repeats or {}).get(name, ()), subsets[name], names),
                "predictions": str(file.path),
            }
            for name, file in files.items()
        }
    }
    if len(files) > 1:
        facts["comparison"] = score.compare(files, subsets[first], names)
    if fuse:
        fused = score.score([files[n] for n in fuse], subsets[first], names, confidence=confidence)
        facts["fused"] = comparison.beside(fused, setups.fused([made[n] for n in fuse]))
    if csv:
        results = {**facts["runs"], **({"fused": facts["fused"]} if fuse else {})}
        tables.write_csv(csv, [row for name, r in results.items() for row in tables.score_rows(r, name)])
        beside = csv.with_name(f"{csv.stem}-classes{csv.suffix}")
        tables.write_csv(beside, [row for name, r in results.items() for row in tables.class_rows(r, name)])
        facts["csv"] = [str(csv), str(beside)]
        if by:
            beside = csv.with_name(f"{csv.stem}-groups{csv.suffix}")
            tables.write_csv(beside, [row for name, r in facts["runs"].items() for row in tables.group_rows(r, name)])
            facts["csv"].append(str(beside))
    return facts


def _remarks(run: Artefact) -> list[str]:
    """Return what a reader of a run's scores has to know of its network."""
    model = run.params["model"]
    try:
        return list(model_class(model["name"]).remarks(model))
    except RecipeError:  # a network that is no longer installed
        return []


def _grouped(predictions: Artefact, faces: Artefact | None, by: Sequence[str], confidence: float) -> dict[str, dict]:
    """Return the scores of the groups that each column makes."""
    if not by:
        return {}
    if faces is None:
        raise ArtefactError(f"the faces of {predictions.path} are no longer in the workspace", "leave out --by")
    label, rows = np.asarray(predictions["label"], dtype=np.int64), np.asarray(predictions["row"])
    predicted, classes = np.asarray(predictions["logits"]).argmax(1), len(predictions.class_names)
    return {
        column: groups.score_groups(label, predicted, groups.groups_by(faces, column, rows), classes, confidence)
        for column in by
    }


def check_groups(faces: Path, by: Sequence[str]) -> None:
    """Refuse a column that faces cannot be grouped by, before a network has run for it.

    Raises:
        UsageError: no such column.
    """
    if by:
        source = artefact.read(faces, "faces")
        for column in by:
            groups.require_column(source, column)


def cross_validation(
    folders: list[Path],
    *,
    settings: Evaluate,
    devices: Devices,
    executor: Executor | None = None,
    overwrite: bool = False,
    csv: Path | None = None,
) -> dict:
    """Score each run together with the runs of the other folds, in the three ways papers do it.

    Returns:
        {"systems": {name: result of `evaluation.folds.score` with the paper's numbers, and its "runs"}}

    Raises:
        UsageError: a run that is no fold.
        ArtefactError: the run of a fold is missing, unfinished or of other settings.
    """
    systems = {}
    for folder in folders:
        name, runs = siblings(folder)
        if name in systems:
            continue
        predictions = [
            artefact.read(evaluate.run(r, settings=settings, devices=devices, executor=executor, overwrite=overwrite))
            for r in runs
        ]
        trained = [artefact.read(r / "run.h5", "run") for r in runs]
        systems[name] = {
            **crossed(trained, predictions, _faces(predictions[0].path, predictions[0]), settings),
            "runs": [str(r) for r in runs],
        }
    facts: dict[str, Any] = {"systems": systems}
    if csv:
        tables.write_csv(csv, [row for name, result in systems.items() for row in tables.fold_rows(result, name)])
        facts["csv"] = [str(csv)]
    return facts


def average(folders: list[Path], *, settings: Evaluate, devices: Devices, executor: Executor | None = None) -> dict:
    """Score runs on several datasets and take the mean of their accuracies, as LNLAttenNet's Table IV does.

    Every run is scored on the split that was watched in its training; a fold together with its siblings, by the mean
    over folds.

    Returns:
        {"datasets": {name in the workspace: {run, accuracy, paper}}, "accuracy": their mean, "paper": the paper's
        number, where each of ours has one of the paper's beside it, else None}

    Raises:
        UsageError: fewer than two datasets, or two runs on one.
    """
    names = [data_folder(folder.resolve()).name for folder in folders]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UsageError(
            f"--average takes one run on each of several datasets, not runs on {', '.join(names)}",
            "e.g. --run artefacts/raf/runs/lnlattennet-1 --run artefacts/sfew/runs/lnlattennet-1",
        )
    found, papers, variants = {}, set(), set()
    for name, folder in zip(names, folders, strict=True):
        trained = artefact.read(folder / "run.h5", "run")
        params = trained.params
        if params["train"].get("fold") is None:
            watched = replace(settings, split=params["train"]["val_split"])
            made = {folder.name: evaluate.run(folder, settings=watched, devices=devices, executor=executor)}
            scored = run(made, names=(), confidence=settings.confidence, fuse=(), csv=None, paper=settings.paper)
            result = scored["runs"][folder.name]
            accuracy, paper = (result["subsets"][score.ALL].get(k) for k in ("accuracy", "paper"))
        else:
            crossed = cross_validation([folder], settings=settings, devices=devices, executor=executor)
            (result,) = crossed["systems"].values()
            accuracy, paper = result["fold_mean"]["accuracy"], result["paper"]
        papers.add(settings.paper or setups.paper_of(trained) if result.get("paper") else None)
        variants.add(params["variant"] or params["model"]["name"])
        found[name] = {"run": str(folder), "accuracy": accuracy, "paper": (paper or {}).get("value")}
    mean = sum(d["accuracy"] for d in found.values()) / len(found)
    comparable = all(d["paper"] is not None for d in found.values()) and len(papers) == len(variants) == 1
    return {
        "datasets": found,
        "accuracy": mean,
        "paper": _papers_average(papers.pop(), variants.pop()) if comparable else None,
    }


def _papers_average(paper: str | None, variant: str) -> float | None:
    """Return the mean over datasets that a paper prints for a system."""
    if paper is None:
        return None
    rows = [
        r
        for r in paper_results.load(paper).results
        if r.dataset == "average" and any(variant in m.variants for m in r.members)
    ]
    return rows[0].fraction if rows else None


def report_average(facts: dict) -> None:
    """Print the accuracy on every dataset, and their mean."""
    rows = [(name, d["accuracy"], d["paper"]) for name, d in facts["datasets"].items()]
    rows.append(("average", facts["accuracy"], facts["paper"]))
    shown = [(name, *map(percent, values)) for name, *values in rows]
    console.show(console.table("accuracy in %", ("dataset", "ours", "paper"), shown))


def crossed(
    runs: list[Artefact], predictions: list[Artefact], faces: Artefact | None, settings: Evaluate | Report
) -> dict:
    """Score the folds of one system together, beside the paper's number.

    Returns:
        the result of `evaluation.folds.score` with the paper's number, and "last_epochs" as of a single run, the mean
        over folds; None where a fold has none
    """
    result = folds.score(predictions, settings.confidence)
    lasts = [last_epochs(r, p) for r, p in zip(runs, predictions, strict=True)]
    for fold, last in zip(result["folds"], lasts, strict=True):
        fold["last_epochs"] = last and last["mean"]
    means = [last["mean"] for last in lasts if last]
    result["last_epochs"] = None
    if len(means) == len(lasts):
        result["last_epochs"] = {"epochs": LAST_EPOCHS, "mean": sum(means) / len(means)}
    pairs = zip(runs, predictions, strict=True)
    each = [setups.setup_of(r, p, faces, crossed=True, paper=settings.paper) for r, p in pairs]
    return comparison.beside_folds(result, each)


def siblings(folder: Path) -> tuple[str, list[Path]]:
    """Return the system of a cross-validated run, and the latest run of the same settings for every fold."""
    first = artefact.read(folder / "run.h5", "run")
    if first.params["train"].get("fold") is None:
        raise UsageError(f"{folder.name} is no fold of a cross-validation", "train with --folds all")
    name = folder.name.rpartition("-fold")[0]
    found: dict[int, Path] = {}
    for other in beside(folder):
        run = artefact.read(other / "run.h5", "run")
        if run["state/finished"] and not artefact.differences(first, run.params, run.inputs, _PER_FOLD):
            found[run.params["train"]["fold"]] = other
    number = fold_count(artefact.read(data_folder(folder) / "subsets.h5", "subsets"))
    if missing := [str(k) for k in range(number) if k not in found]:
        raise ArtefactError(
            f"of the {number} folds of {name}, {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not trained",
            "fertool train ... --folds all does what is missing",
        )
    return name, [found[k] for k in range(number)]


def report_cross_validation(facts: dict, *, every_class: bool = False) -> None:
    """Print every fold, and all together."""
    for name, result in facts["systems"].items():
        console.show(tables.folds(result, name))
        for line in tables.fold_notes(result):
            console.say(line)
        if every_class:
            console.show(tables.fold_confusion(result))
            _show_paper_confusions(result)
    for file in facts.get("csv", []):
        console.say(f"→ {file}")


def _show_classes(result: Mapping, run: str, every_class: bool) -> None:
    """Print the classes of the whole split, or classes and confusions of every subset that is large enough."""
    shown = [n for n, s in result["subsets"].items() if n == score.ALL or (every_class and s["n_total"] >= score.FEW)]
    for subset in shown:
        console.show(tables.classes(result, subset, run))
        if every_class:
            console.show(tables.confusion(result, subset, run))
            if subset == score.ALL:
                _show_paper_confusions(result)
    if every_class and (left := [n for n, s in result["subsets"].items() if n not in shown and s["n_total"]]):
        console.say(f"{run + ': ' if run else ''}no classes of {', '.join(left)}: fewer than {score.FEW} faces")


def _show_paper_confusions(result: Mapping) -> None:
    for name, rows in (result.get("paper") or {}).get("confusions", {}).items():
        console.show(tables.paper_confusion(name, rows, result["classes"]))


def last_epochs(run: Artefact, predictions: Artefact) -> dict | None:
    """Return the accuracy on the scored split over a run's last epochs, as LNLAttenNet reports it: mean, best, number.

    None if another split was watched in training, or there were fewer epochs.
    """
    watched = run.params["train"]["val_split"] if run.params["train"].get("fold") is None else "test"
    same_faces = run.parent_digest("faces") == predictions.parent_digest("faces")
    values = run.group("history").get("val_accuracy", np.empty(0))[-LAST_EPOCHS:]
    if predictions.params["split"] != watched or not same_faces or len(values) < LAST_EPOCHS:
        return None
    return {"epochs": LAST_EPOCHS, "mean": float(values.mean()), "best": float(values.max())}


def _over_repeats(paths: Sequence[Path], subsets: Artefact | None, names: tuple[str, ...]) -> dict | None:
    """Return the accuracy over samples of random crops, subset -> {n_repeats, mean, sd}; None for a single one."""
    if len(paths) < 2:
        return None
    each = [score.score(artefact.read(p, "predictions"), subsets, names)["subsets"] for p in paths]
    values = {name: [s[name]["accuracy"] for s in each] for name in each[0]}
    return {
        name: {"n_repeats": len(v), "mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1))}
        for name, v in values.items()
        if None not in v
    }


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
    """Return the faces that were predicted, if they still lie in the workspace."""
    workspace = data_folder(path.parent).parent
    parent = predictions.parent("faces")
    return artefact.find(parent, sorted(workspace.glob("*/faces.h5"))) if parent else None


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
        if lasts := result["last_epochs"]:
            console.say(
                f"{name}: over the last {lasts['epochs']} epochs {percent(lasts['mean'])} % on average, "
                f"{percent(lasts['best'])} % in the best of them"
            )
        for subset, over in (result["crop_repeats"] or {}).items():
            console.say(
                f"{name}, {subset}: {percent(over['mean'])} ± {percent(over['sd'])} % over {over['n_repeats']} "
                "samples of the random crops"
            )
        for remark in result["remarks"]:
            console.say(f"note: {name}: {remark}")
        if result["select_on"] == "test":
            console.say(f"note: the checkpoint of {name} was chosen on the test split; its numbers are optimistic")
        if len(facts["runs"]) == 1 or every_class:
            _show_classes(result, name if len(facts["runs"]) > 1 else "", every_class)
    for name, result in facts["runs"].items():
        for column, grouped in result["groups"].items():
            console.show(tables.groups(grouped, column, result["confidence"], name if len(facts["runs"]) > 1 else ""))
            console.say(tables.gap(grouped))
    if "comparison" in facts:
        console.show(tables.comparison(facts["comparison"]))
    for name, time in facts.get("latency", {}).items():
        console.say(
            f"{name}: {time['median_ms']:.1f} ms per face at batch 1 (median of {time['faces']}; 90 % below "
            f"{time['p90_ms']:.1f} ms; {time['device']})" + (f"; {time['paper']}" if time["paper"] else "")
        )
    for file in facts.get("csv", []):
        console.say(f"→ {file}")
