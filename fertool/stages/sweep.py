"""sweep: train and score a network for each of several values of a setting → a table and a curve."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fertool import console, locks
from fertool.artefact import read
from fertool.errors import RecipeError, UsageError
from fertool.evaluation import comparison, tables
from fertool.evaluation.score import ALL
from fertool.evaluation.units import percent
from fertool.figures import style
from fertool.figures import sweep as figure_of
from fertool.models.registry import model_class, model_settings
from fertool.recipe import Recipe, section_of, set_to
from fertool.run_folders import RUNS, SWEEPS, name_of
from fertool.settings import CropRegions, Evaluate, Train, Visualize
from fertool.stages import crop_regions, evaluate, train, visualize
from fertool.stages.evaluate import scores
from fertool.stages.train import folds as train_folds
from fertool.training.devices import Devices
from fertool.workspace import Workspace, slug

_SEED = "train.seed"
_VARIED = ("train", "crop-regions")


@dataclass(frozen=True)
class Point:
    """One combination of values, and the settings it gives.

    Attributes:
        values: "section.key" -> value.
        train: settings of its training.
        regions: settings of its regions; None where regions are not varied.
    """

    values: Mapping[str, object]
    train: Train
    regions: CropRegions | None

    @property
    def regions_name(self) -> str:
        """Name of its regions file, from the values that make it."""
        mine = {k.partition(".")[2]: v for k, v in self.values.items() if k.startswith("crop-regions.")}
        return "regions-" + slug("-".join(f"{k}-{v}" for k, v in mine.items())) + ".h5"


def points(
    recipe: Recipe,
    axes: Mapping[str, list],
    *,
    variant: str = "",
    options: Mapping[str, object] | None = None,
    sets: tuple[str, ...] = (),
) -> list[Point]:
    """Return every combination of the values, all checked.

    Args:
        axes: "section.key" -> the values it takes.
        variant: baseline or ablation that is trained.
        options: other settings of the training.
        sets: "section.key=value" that hold for all points; the values of a point win over them.

    Raises:
        UsageError: more than two keys with several values beside the seed, or no key.
        RecipeError: a section that cannot be varied, an unknown key or an impossible value.
    """
    varied = [k for k, values in axes.items() if k != _SEED and len(values) > 1]
    if not axes or len(varied) > 2:
        raise UsageError(
            f"a sweep varies one or two settings, not {len(varied)}", "e.g. --vary train.model.alpha=[0.1,0.3,0.5]"
        )
    for key in axes:
        if section_of(key) not in _VARIED:
            raise RecipeError(
                f"a sweep cannot vary {key}: it makes other faces or masks",
                "run that stage once per value with --name, and train on each",
            )
    if odd := [s for s in sets if section_of(s) not in _VARIED]:
        raise RecipeError(f"--set {odd[0]}: a sweep uses the settings of {' and '.join(_VARIED)}")
    by_region = any(section_of(key) == "crop-regions" for key in axes)
    found = []
    for values in itertools.product(*axes.values()):
        given = [*sets, *(set_to(key, value) for key, value in zip(axes, values, strict=True))]
        mine = {section: [s for s in given if section_of(s) == section] for section in _VARIED}
        training = recipe.settings("train", options, mine["train"])
        model_settings(training.model, variant)
        regions = recipe.settings("crop-regions", {}, mine["crop-regions"]) if by_region else None
        found.append(Point(dict(zip(axes, values, strict=True)), training, regions))
    return found


def run(
    faces: Path,
    name: str,
    series: list[Point],
    *,
    recipe: str,
    variant: str,
    settings: Evaluate,
    subsets: tuple[str, ...],
    devices: Devices,
    workspace: Workspace,
    trained: Path | None = None,
    folds: str | None = None,
) -> dict:
    """Train and score every point; what is there already is not done again.

    Args:
        faces: the faces file.
        name: of the folder `sweeps/NAME` beside the faces, for the runs, the table, the curve and the arrays behind it.
            Finished runs of the dataset with the same settings are taken from where they are.
        subsets: score these too.
        trained: instead of training, score this run on the regions of every point.
        folds: cross-validation of every point, as for `train.each_fold`; its accuracy is then what the paper reports,
            else the mean over folds.

    Returns:
        {"name", "keys", "points": [{"values", "runs", "subsets": {name: {accuracy, low, high, sd, n_total, paper (its
        number), closest (if there is none: its number for the closest settings), source, differs (in words)}}}],
        "files"}. Runs that differ in nothing but their seed are one point: their mean, `sd` over them, and `low` and
        `high` one sd away within 0 and 1; likewise the samples of random crops and the mean over folds.

    Raises:
        UsageError: a network that learns subjects; `trained` with settings of the training varied, or folds of it;
            subsets of folds.
    """
    if folds == "all" and (subsets or trained):
        raise UsageError("cross-validation scores whole folds, and trains them", "leave out --subset and --run")
    if trained and not all(p.regions and not any(k.startswith("train.") for k in p.values) for p in series):
        raise UsageError("a finished run can only be scored on other regions", "vary crop-regions, or leave out --run")
    models = [read(trained / "run.h5", "run").params["model"]] if trained else [p.train.model for p in series]
    if of_subjects := [m["name"] for m in models if model_class(m["name"]).verifies]:
        raise UsageError(
            f"{of_subjects[0]} is trained on subjects, and a sweep scores expressions",
            "train each value with fertool train, and eval the runs together",
        )
    scores.check_subsets(faces, subsets)
    if slug(name) == RUNS:
        raise UsageError(f"a sweep cannot be called {RUNS}", "choose another name")
    out = faces.parent / SWEEPS / slug(name)
    with locks.exclusive(out):
        return _run(faces, out, name, series, recipe, variant, settings, subsets, devices, workspace, trained, folds)


def _run(
    faces: Path,
    out: Path,
    name: str,
    series: Sequence[Point],
    recipe: str,
    variant: str,
    settings: Evaluate,
    subsets: tuple[str, ...],
    devices: Devices,
    workspace: Workspace,
    trained: Path | None,
    folds: str | None,
) -> dict:
    beside = workspace.beside
    each_fold = [[] if trained else train.each_fold(p.train, folds, beside(faces, "subsets")) for p in series]
    _announce(name, series, sum(map(len, each_fold)), recipe, variant, trained)
    found: dict[tuple, list[tuple[list[Path], dict, Mapping]]] = {}
    for point, each in zip(series, each_fold, strict=True):
        said = ", ".join(f"{k} = {v}" for k, v in point.values.items())
        console.say(f"\n{said}")
        regions = _regions(faces, point)
        if trained:
            folders = [trained]
        else:
            made = train_folds.run(
                faces, each, devices=devices, workspace=workspace, regions=regions, subsets=beside(faces, "subsets"),
                masks=beside(faces, "masks"), recipe=recipe, variant=variant, home=out, resume=None,
            )  # fmt: skip
            folders = [run.parent for run in made]
        if len(folders) > 1:
            scored = _cross_validated(folders[0], settings, devices)
        else:
            other = regions if trained and point.regions else None
            scored = _scored(folders[0], settings, subsets, devices, other)
        key = tuple((k, _hashable(v)) for k, v in point.values.items() if k != _SEED)
        found.setdefault(key, []).append((folders, scored, point.values))
    facts = {
        "name": name,
        "keys": [k for k in series[0].values if k != _SEED and len({str(p.values[k]) for p in series}) > 1],
        "points": [_together(runs) for runs in found.values()],
    }
    csv = tables.write_csv(out / "sweep.csv", _rows(facts))
    about = {"kind": "sweep", "keys": facts["keys"], "variant": variant, "recipe": recipe}
    with style.look():
        every = dict.fromkeys(f for runs in found.values() for each, *_ in runs for f in each)
        drawn = _draw(facts, [read(f / "run.h5", "run") for f in every])
    files = visualize.keep(out, "sweep", drawn, about, Visualize())
    return facts | {"files": [str(f) for f in (csv, *files)]}


def _announce(name: str, series: Sequence[Point], runs: int, recipe: str, variant: str, trained: Path | None) -> None:
    """Print what a sweep trains or evaluates, how often, and over which values."""
    varied = {key: list(dict.fromkeys(str(p.values[key]) for p in series)) for key in series[0].values}
    over = "; ".join(f"{key} = {', '.join(values)}" for key, values in varied.items())
    if trained:
        times = "once" if len(series) == 1 else f"{len(series)} times"
        console.say(f"sweep {name}: evaluates {trained.name} {times}, {over}")
        return
    network = f"{series[0].train.model['name']}{f' ({variant})' if variant else ''}"
    whole = f"{runs} run{'s' * (runs != 1)}"
    console.say(f"sweep {name}: trains {whole} of {network}, recipe {recipe or 'none'}; finished ones are kept; {over}")


def _scored(folder: Path, settings: Evaluate, subsets: tuple[str, ...], devices: Devices, regions: Path | None) -> dict:
    """Return the scores of a run by subset; over several samples of random crops, mean and sd."""
    repeats = evaluate.run_repeats(folder, settings=settings, devices=devices, regions=regions)
    name = folder.name
    result = scores.run(
        {name: repeats[0]},
        names=subsets,
        confidence=settings.confidence,
        fuse=(),
        csv=None,
        repeats={name: repeats},
        paper=settings.paper,
    )["runs"][name]
    over = {subset: _around(d["mean"], d["sd"]) for subset, d in (result["crop_repeats"] or {}).items()}
    return {subset: {"sd": None} | scored | over.get(subset, {}) for subset, scored in result["subsets"].items()}


def _cross_validated(folder: Path, settings: Evaluate, devices: Devices) -> dict:
    """Return the score of all folds of a run, in the way that its paper reports it, else their mean."""
    facts = scores.cross_validation([folder], settings=settings, devices=devices)
    (result,) = facts["systems"].values()
    pooled, mean = result["pooled"], result["fold_mean"]
    scored = {"sd": None, "paper": result["paper"], "n_total": pooled["n_total"]}
    if (result["paper"] or {}).get("aggregation") == "pooled":
        return {ALL: scored | {k: pooled[k] for k in ("accuracy", "low", "high")}}
    return {ALL: scored | _around(mean["accuracy"], mean["sd_sample"])}


def _around(mean: float, sd: float) -> dict:
    return {"accuracy": mean, "low": max(0.0, mean - sd), "high": min(1.0, mean + sd), "sd": sd}


def report(facts: dict) -> None:
    """Print one line per point: its values, accuracy on every subset, and the paper's number."""
    names = list(facts["points"][0]["subsets"])
    with_paper = any(s["paper"] is not None for p in facts["points"] for s in p["subsets"].values())
    columns = [*(k.rpartition(".")[2] for k in facts["keys"]), *names, *(["paper"] if with_paper else []), "run"]
    rows = []
    for p in facts["points"]:
        shown = [_accuracy(p["subsets"][n]) for n in names]
        paper = [percent(p["subsets"][ALL]["paper"])] if with_paper else []
        rows.append([*(str(p["values"][k]) for k in facts["keys"]), *shown, *paper, ", ".join(p["runs"])])
    console.show(console.table("accuracy in %, " + " and ".join(facts["keys"] or [_SEED]), columns, rows))
    for line in _not_compared(facts):
        console.say(line)
    for file in facts["files"]:
        console.say(f"→ {file}")


def _accuracy(s: dict) -> str:
    if s["accuracy"] is None:
        return "–"
    return percent(s["accuracy"]) + (f" ± {percent(s['sd'])}" if s["sd"] is not None else "")


def _regions(faces: Path, point: Point) -> Path:
    """Return the regions of a point: its own file beside regions.h5 where they are varied."""
    if point.regions is None:
        return faces.with_name("regions.h5")
    return crop_regions.run(faces, settings=point.regions, out=faces.with_name(point.regions_name))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _together(runs: list[tuple[list[Path], dict, Mapping]]) -> dict:
    """Return runs that differ in their seed at most, as one point."""
    subsets = {}
    for name, first in runs[0][1].items():
        each = [scored[name]["accuracy"] for _, scored, _ in runs]
        point = {k: first[k] for k in ("accuracy", "low", "high", "sd", "n_total")}
        if len(each) > 1 and None not in each:
            point |= _around(float(np.mean(each)), float(np.std(each, ddof=1)))
        subsets[name] = point | _paper(first.get("paper"))
    values = {k: v for k, v in runs[0][2].items() if k != _SEED}
    return {"values": values, "runs": [name_of(f) for folders, *_ in runs for f in folders], "subsets": subsets}


def _paper(entry: Mapping | None) -> dict:
    """Return the paper's number, or that of the closest settings, and in what those differ from ours."""
    if entry is None:
        return {"paper": None, "closest": None, "source": None, "differs": ""}
    closest = entry["others"][0] if entry["value"] is None else None
    said = {"paper": entry["value"], "closest": closest and closest["value"]}
    return said | {"source": (closest or entry)["source"], "differs": comparison.reason(entry)}


def _not_compared(facts: dict) -> list[str]:
    """Return the numbers of the paper that do not belong beside ours and why, what holds for several points once."""
    numbers: dict[str, list[str]] = {}
    for p in facts["points"]:
        values = ", ".join(f"{k.rpartition('.')[2]} {p['values'][k]}" for k in facts["keys"])
        for name, s in p["subsets"].items():
            if s["differs"]:
                of = ", ".join(filter(None, [values, "" if name == ALL else name]))
                numbers.setdefault(s["differs"], []).append(
                    f"{of}: {percent(s['closest'])} in {s['source']}".lstrip(": ")
                )
    return [f"not compared with the paper: {'; '.join(each)}; because here: {why}" for why, each in numbers.items()]


def _rows(facts: dict) -> list[dict]:
    """Return one flat row per point and subset, for CSV."""
    return [
        {**p["values"], "subset": name, **s, "runs": " ".join(p["runs"])}
        for p in facts["points"]
        for name, s in p["subsets"].items()
    ]


def _draw(facts: dict, parents: list) -> visualize.Drawn:
    """Draw one curve per subset over the only key, or over the first key one curve per value of the second."""
    keys, found = facts["keys"], facts["points"]
    lines: dict[str, list[tuple[object, dict]]] = {}
    for p in found:
        x = p["values"][keys[0]] if keys else ""
        if len(keys) > 1:
            lines.setdefault(f"{keys[1].rpartition('.')[2]} {p['values'][keys[1]]}", []).append((x, p["subsets"][ALL]))
        else:
            for name, s in p["subsets"].items():
                lines.setdefault("whole split" if name == ALL else name, []).append((x, s))
    figure = figure_of.draw(lines, keys[0] if keys else _SEED, chance=1 / len(parents[0].class_names))
    arrays = {}
    for name, line in lines.items():
        arrays[f"{name}/value"] = np.array([str(x) for x, _ in line], object)
        for k in ("accuracy", "low", "high", "n_total"):
            arrays[f"{name}/{k}"] = np.array([np.nan if s[k] is None else s[k] for _, s in line])
    return visualize.Drawn(figure, arrays, parents)
