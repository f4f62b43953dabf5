"""What was measured of a run: scores, how far its confidence can be believed, training, folds, and what is missing."""

from typing import Any

import numpy as np

from fertool import artefact
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, FertoolError
from fertool.evaluation import metrics, score
from fertool.evaluation.board import results
from fertool.evaluation.board.systems import Entry, arrange
from fertool.models.registry import model_class
from fertool.run_folders import data_folder, name_of
from fertool.settings import Evaluate, Report
from fertool.stages.evaluate import pairs, predictions_of, scores
from fertool.stages.report import gallery, provenance
from fertool.stages.visualize.inputs import Run, named, subsets_of
from fertool.training import lineage
from fertool.workspace import run_reference


def facts(run: Run, settings: Report, *, pictures: bool = True) -> dict:
    """Return all that a page says about one run.

    Args:
        run: its folder.
        settings: of the report.
        pictures: whether faces and attention maps are among it.

    Raises:
        ArtefactError: a run of a classifier without predictions, or with ones of other faces or an older state.
    """
    trained, data = run.run(), data_folder(run.folder)
    model = trained.params["model"]["name"]
    about = {
        "name": run.name,
        "folder": str(run.folder),
        "data": data.name,
        "model": model,
        "variant": trained.params["variant"],
        "recipe": trained.params["recipe"],
        "fold": trained.params["train"].get("fold"),
        "classifies": model_class(model).classifies,
        "verification": None,
        "training": _training(trained, model_class(model).metric),
        "settings": artefact.flatten({k: trained.params[k] for k in ("model", "train")}),
        "scores": None,
        "warnings": [],
        "silent": [],
    }
    last = trained
    if about["classifies"]:
        last = _scored(about, run, trained, settings)
        if pictures:
            _show(about, run, trained, last, settings)
    elif model_class(model).verifies:
        if path := predictions_of(run.folder):
            last = artefact.read(path, "predictions")
            last.require_parent(trained)
            found = pairs.run({run.name: path}, settings=Evaluate())["runs"][run.name]
            about["verification"] = found | {"split": last.params["split"]}
        about["silent"].append(f"how well expressions are recognised: {model} learns subjects, others start from it")
    else:
        about["silent"].append(
            f"how well faces are recognised: {model} predicts no expressions, it is a pretrained part of other networks"
        )
    about["origin"] = provenance.chain([*about.pop("scored_on", ()), last], data)
    _say(about, trained)
    return about


def _scored(about: dict, run: Run, trained: Artefact, settings: Report) -> Artefact:
    """Add what the run's predictions say. Gives the predictions."""
    faces = run.faces()
    predictions = run.predictions(faces)
    names: tuple[str, ...] = ()
    try:
        about["scored_on"] = [subsets_of(faces)]
        names = (score.ALL,)
    except ArtefactError as e:
        about["silent"].append(f"how it does on occluded or turned faces: {e.message} ({e.hint})")
    options: dict[str, Any] = {
        "confidence": settings.confidence,
        "fuse": (),
        "csv": None,
        "paper": settings.paper,
        "by": settings.by,
    }
    found = scores.run({run.name: predictions.path}, names=names, **options)
    about |= {
        "split": predictions.params["split"],
        "classes": list(predictions.class_names),
        "scores": found["runs"][run.name],
        "calibration": _calibration(predictions),
        "elsewhere": _elsewhere(run, trained, settings.confidence),
    }
    return predictions


def _show(about: dict, run: Run, trained: Artefact, predictions: Artefact, settings: Report) -> None:
    """Add faces, and where the network looks."""
    looks = gallery.Looks(run, run.faces(), predictions)
    about |= {
        "gallery": gallery.gallery(looks, settings),
        "looks": gallery.means(looks),
        "trace": gallery.trace(trained),
    }
    if any(c.startswith("attention_weight") for c in predictions.columns) and not looks.kind:
        about["silent"].append("where it looks: the regions it was given are no longer beside its faces")


def _training(trained: Artefact, metric: str) -> dict:
    history = {k: np.asarray(v) for k, v in trained.group("history").items()}
    seconds, waited = trained.info.get("seconds", []), trained.info.get("waited", [])
    planned = trained.params["train"].get("iterations") or trained.params["train"].get("epochs")
    return {
        "metric": metric,
        "history": history,
        "epochs": len(history.get("loss", ())),
        "planned": planned,
        "counts": "steps" if trained.params["train"].get("iterations") else "epochs",
        "finished": bool(trained["state/finished"]) if "state/finished" in trained else True,
        "iterations": int(trained["state/iteration"]) if "state/iteration" in trained else None,
        "seconds": sum(seconds),
        "waited": sum(waited),
        "device": trained.info.get("device", ""),
    }


def _calibration(predictions: Artefact) -> dict | None:
    """Return confidence against accuracy, fractions; None without labelled faces."""
    label = np.asarray(predictions["label"]).astype(np.int64)
    probability = metrics.softmax(np.asarray(predictions["logits"])[label >= 0])
    if not len(probability):
        return None
    right, sure = probability.argmax(1) == label[label >= 0], probability.max(1)
    c = metrics.calibration(sure, right)
    return {
        "error": c.error,
        "confidence": sure.mean(),
        "when_right": sure[right].mean() if right.any() else None,
        "when_wrong": sure[~right].mean() if not right.all() else None,
        "bins": [
            {"low": low, "high": high, "n": int(n), "confidence": conf, "accuracy": acc}
            for low, high, n, conf, acc in zip(c.edges[:-1], c.edges[1:], c.n, c.confidence, c.accuracy, strict=True)
        ],
    }


def _elsewhere(run: Run, trained: Artefact, confidence: float) -> list[dict]:
    """Return its scores on other faces, splits or checkpoints, from the other predictions in its folder."""
    found = []
    for path in sorted(set(run.folder.glob("predictions-*.h5")) - {predictions_of(run.folder)}):
        try:
            other = artefact.read(path, "predictions")
            other.require_parent(trained)
        except ArtefactError:
            continue
        whole = score.score(other, confidence=confidence)["subsets"][score.ALL]
        parent = other.parent("faces")
        about = {"file": path.name, "faces": parent.name if parent else "", "params": other.params}
        found.append(
            about | {k: whole[k] for k in ("n_total", "n_correct", "accuracy", "low", "high", "macro_accuracy")}
        )
    return found


def _say(about: dict, trained: Artefact) -> None:
    """Collect warnings about the numbers, and what they cannot show."""
    training, warnings, silent = about["training"], about["warnings"], about["silent"]
    if not training["finished"]:
        warnings.append(f"The training is not finished: {training['epochs']} epochs are done.")
    if about["scores"]:
        warnings += [f"{remark}." for remark in about["scores"]["remarks"]]
        whole = about["scores"]["subsets"][score.ALL]
        if about["scores"]["select_on"] == "test":
            warnings.append("The checkpoint was chosen on the test split: these numbers are optimistic.")
        if about["split"] in trained.params["train"]["train_splits"] and about["fold"] is None:
            warnings.append(f"It was trained on the split that is scored here ({about['split']}).")
        duplicates = about["scores"]["subsets"].get("duplicate")
        if duplicates and duplicates["n_total"]:
            warnings.append(
                f"{duplicates['n_total']:,} of the {whole['n_total']:,} faces scored have an exact pixel duplicate "
                "in another split."
            )
        if whole["n_unlabelled"]:
            silent.append(f"anything about {whole['n_unlabelled']:,} of {whole['n_rows']:,} faces, which have no label")
        silent.append(
            "how much another seed would change: intervals cover the choice of faces only (fertool board has seeds)"
        )
    if not training["device"]:
        silent.append("which machine it was trained on: the run did not record it")
    for node in about["origin"]:
        if not node["found"] and node["is_artefact"]:
            silent.append(f"how {node['name']} was made: it is no longer in the workspace")


def comparison(runs: list[Run]) -> dict:
    """Return the comparison of every run with the first, face by face.

    Returns:
        the result of `score.compare`, or {"refused": why}.
    """
    try:
        faces = {r.name: r.faces() for r in runs}
        files = {r.name: r.predictions(faces[r.name]) for r in runs}
        names: tuple[str, ...] = (score.ALL,)
        try:
            subsets = subsets_of(faces[runs[0].name])
        except ArtefactError:
            subsets, names = None, ()
        return score.compare(files, subsets, names)
    except ArtefactError as e:
        return {"refused": e.message}


def over_seeds(runs: list[Run], settings: Report) -> list[dict]:
    """Return the tables of systems that several of the runs are seeds of, see `evaluation.board.results.of_block`."""
    entries = []
    for run in runs:
        trained, faces = run.run(), run.faces()
        if not lineage.describe(trained)["finished"]:
            continue
        try:
            subsets = subsets_of(faces)
        except ArtefactError:
            subsets = None
        entries.append(Entry(run.name, trained, run.predictions(faces), faces, subsets))
    blocks, _ = arrange(entries, (score.ALL,))
    several = [b for b in blocks if any(len(s.entries) > 1 for s in b.systems)]
    return [results.of_block(b, confidence=settings.confidence, paper=settings.paper) for b in several]


def cross_validations(runs: list[Run], settings: Report) -> list[dict]:
    """Return the cross-validations that the runs are folds of, each once.

    Returns:
        {"name", "runs" (names), "result": see `folds.score`, with the paper's number} or {"name", "missing": why,
        "command": what to do about it}.
    """
    found: dict[str, dict] = {}
    for run in runs:
        if run.run().params["train"].get("fold") is None:
            continue
        name = name_of(run.folder).rpartition("-fold")[0]
        if name in found and "result" in found[name]:
            continue
        try:
            found[name] = {"name": name, **_all_folds(run, settings)}
        except FertoolError as e:
            found[name] = {"name": name, "missing": e.message, "command": e.hint}
    return list(found.values())


def _all_folds(run: Run, settings: Report) -> dict:
    _, folders = scores.siblings(run.folder)
    each = named(folders)
    faces = run.faces()
    if without := [r.name for r in each if predictions_of(r.folder) is None]:
        raise ArtefactError(
            f"{', '.join(without)} have no predictions", f"run: fertool eval --folds --run {run_reference(run.folder)}"
        )
    result = scores.crossed([r.run() for r in each], [r.predictions(faces) for r in each], faces, settings)
    return {"runs": [r.name for r in each], "result": result}
