"""What the papers report, and which of it belongs beside a result.

`fertool/papers/<paper>.yaml` holds one paper each:

    paper, title, authors, venue
    facts        anything else worth looking up: settings, sizes of subsets, curves known only as pictures
    results      groups of rows; what stands at the group holds for all its rows
    confusions   name -> {dataset, variant, classes, rows in percent}; a row that is not known is null

A row is one number: `dataset`, `system` (as the paper calls it), `variant` (as fertool calls it; the full system has
the name of the network, other people's systems have none), `subset` (absent: all test faces), `metric` (absent:
accuracy), `value` in percent, `sd`, `n_correct` and `n_total` where they are known, `own` (the paper's own system or an
ablation of it), `note`, and `when`: the settings under which the number was obtained, by the names they have in
fertool's recipes. A list there means any of these.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml

from fertool.artefact import Artefact
from fertool.errors import RecipeError, nearest
from fertool.models.registry import model_settings
from fertool.recipe import Recipe
from fertool.recipe import load as load_recipe
from fertool.recipe import names as recipe_names


@dataclass(frozen=True)
class Reported:
    """One number of a paper, in percent. See the module for the meaning of the fields."""

    paper: str
    table: str
    dataset: str
    system: str
    value: float
    variants: tuple[str, ...] = ()
    subset: str = "all"
    metric: str = "accuracy"
    sd: float | None = None
    n_correct: int | None = None
    n_total: int | None = None
    aggregation: str = ""
    own: bool = False
    when: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def source(self) -> str:
        """Where it stands, e.g. "Table IV (align: true, backbone: resnet18)"."""
        shown = ", ".join(f"{k}: {_plain(v)}" for k, v in self.when.items())
        return self.table + (f" ({shown})" if shown else "")


@dataclass(frozen=True)
class Paper:
    """One paper's file."""

    name: str
    title: str
    authors: str
    venue: str
    facts: Mapping[str, Any]
    results: tuple[Reported, ...]
    confusions: Mapping[str, Mapping[str, Any]]

    def confusion(self, name: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Class names and the printed matrix (C, C) in percent; nan where a row is not known."""
        if name not in self.confusions:
            raise RecipeError(f"{self.name} prints no confusion matrix {name!r}", nearest(name, self.confusions))
        entry = self.confusions[name]
        classes = tuple(entry["classes"])
        rows = [row if row is not None else [np.nan] * len(classes) for row in entry["rows"]]
        return classes, np.array(rows, float)


@dataclass(frozen=True)
class Setup:
    """What was run, in the terms in which papers state their results.

    Attributes:
        paper, dataset, variant: as in the paper's file.
        settings: settings of the run that a row's `when` may name.
        departs: settings of network and regions in which the run is not what the paper describes: what stands in the
            paper's recipe, and what here. Only a row whose `when` names such a setting may be compared with it.
    """

    paper: str
    dataset: str
    variant: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    departs: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The paper's number for a setup, or None, and what else it prints.

    Attributes:
        reported: the number that belongs here; None if the paper has none for these settings.
        others: different numbers for the same settings (papers contradict themselves); where `reported` is None, the
            numbers for the closest other settings.
    """

    reported: Reported | None
    others: tuple[Reported, ...] = ()


def names() -> list[str]:
    """The papers whose numbers come with fertool."""
    folder = resources.files("fertool") / "papers"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


@cache
def load(name: str) -> Paper:
    """A paper's file.

    Raises:
        RecipeError: there is no such paper.
    """
    if name not in names():
        raise RecipeError(f"there is no paper {name!r}", nearest(name, names()))
    raw = yaml.safe_load((resources.files("fertool") / "papers" / f"{name}.yaml").read_text(encoding="utf-8"))
    results = tuple(_row(name, group, row) for group in raw["results"] for row in group["rows"])
    return Paper(
        name, raw["title"], raw["authors"], raw["venue"], raw.get("facts", {}), results, raw.get("confusions", {})
    )


def _row(paper: str, group: Mapping, row: Mapping) -> Reported:
    values = {k: v for k, v in {**group, **row}.items() if k not in ("rows", "about")}
    values["when"] = {**group.get("when", {}), **row.get("when", {})}
    variant = values.pop("variant", ())
    values["variants"] = (variant,) if isinstance(variant, str) else tuple(variant)
    return Reported(paper=paper, **values)


def compare(setup: Setup, subset: str = "all", metric: str = "accuracy") -> Comparison:
    """The paper's number for this setup and subset.

    A row fits if none of its `when` contradicts the run and the run departs from the paper in nothing else; among those
    that fit, the one with most settings in common wins, then the first in the paper's file.
    """
    rows = [
        r
        for r in load(setup.paper).results
        if (r.dataset, r.subset, r.metric) == (setup.dataset, subset, metric) and setup.variant in r.variants
    ]
    if not rows:
        return Comparison(None)
    ranks = [(len(_conflicts(r, setup)), -sum(k in setup.settings for k in r.when)) for r in rows]
    best = min(ranks)
    closest = _distinct([r for r, rank in zip(rows, ranks, strict=True) if rank == best])
    return Comparison(None, closest) if best[0] else Comparison(closest[0], closest[1:])


def confusions_of(setup: Setup) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Matrices that the paper prints for a setup's data set, network and settings: by what they are called, class names
    and percent (C, C), nan where a row is not known."""
    paper, found = load(setup.paper), {}
    for name, entry in paper.confusions.items():
        mine = {**setup.settings, "dataset": setup.dataset, "variant": setup.variant}
        wanted = {**entry.get("when", {}), "dataset": entry["dataset"], "variant": entry["variant"]}
        if all(_agrees(v, mine[k]) for k, v in wanted.items() if k in mine):
            found[f"{entry['table']}, {name}"] = paper.confusion(name)
    return found


def beside(result: dict, setup: Setup | None) -> dict:
    """The result of `score.score` with the paper's numbers in it.

    Adds `paper` {name, title, venue} and, to every subset, `paper`: {value, system, source, note, difference
    (percentage points above the paper's value), others [{value, source, note, differs {setting: {paper, here}}}]}, or
    None. Without a setup the result comes back as it is.
    """
    if setup is None:
        return result
    paper = load(setup.paper)
    subsets = {
        name: {**s, "paper": _entry(compare(setup, name), s["accuracy"], setup)}
        for name, s in result["subsets"].items()
    }
    return {**result, "paper": {"name": paper.name, "title": paper.title, "venue": paper.venue}, "subsets": subsets}


def beside_folds(result: dict, setup: Setup | None) -> dict:
    """The result of `folds.score` with the paper's number in it: `paper` {name, title, venue, value, sd, aggregation
    (which of ours it is to be compared with), source, note, difference, others}, or None."""
    if setup is None:
        return {**result, "paper": None}
    comparison = compare(setup)
    row = comparison.reported
    pooled = row is not None and row.aggregation == "pooled"
    ours = result["pooled" if pooled else "fold_mean"]["accuracy"]
    entry = _entry(comparison, ours, setup)
    if entry is None:
        return {**result, "paper": None}
    paper = load(setup.paper)
    entry |= {"name": paper.name, "title": paper.title, "venue": paper.venue, "sd": row and row.sd}
    return {**result, "paper": entry | {"aggregation": "pooled" if pooled else "fold mean"}}


def _entry(comparison: Comparison, accuracy: float | None, setup: Setup) -> dict | None:
    r, others = comparison.reported, comparison.others
    if r is None and not others:
        return None
    entry: dict[str, Any] = dict.fromkeys(("value", "system", "source", "note", "difference"))
    if r is not None:
        entry |= {"value": r.value, "system": r.system, "source": r.source, "note": r.note}
        entry["difference"] = None if accuracy is None else accuracy - r.value
    return entry | {
        "others": [
            {"value": o.value, "source": o.source, "note": o.note, "differs": _conflicts(o, setup)} for o in others
        ]
    }


def _conflicts(row: Reported, setup: Setup) -> dict[str, dict[str, str]]:
    """Settings of the run that contradict those of the row: what stands in the paper, and what here."""
    when, mine = {"other_faces": False, **row.when}, setup.settings
    pairs = {k: (v, mine[k]) for k, v in when.items() if k in mine and not _agrees(v, mine[k])}
    pairs |= {k: pair for k, pair in setup.departs.items() if k not in when}
    return {k: {"paper": _plain(theirs), "here": _plain(ours)} for k, (theirs, ours) in pairs.items()}


def _agrees(wanted: Any, actual: Any) -> bool:
    return actual in wanted if isinstance(wanted, list) else actual == wanted


def _distinct(rows: list[Reported]) -> tuple[Reported, ...]:
    """The first row of every value."""
    seen: dict[float, Reported] = {}
    for row in rows:
        seen.setdefault(row.value, row)
    return tuple(seen.values())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def setup_of(run: Artefact, faces: Artefact, split: str) -> Setup | None:
    """What a run on a split of these faces is in its paper's terms; None if no paper's numbers belong to it.

    The paper is the recipe's, or that of the network trained without a recipe; the data set is the one the faces
    come from, or the recipe's. Splits that were trained on have no number to compare with.
    """
    if split in run.params["train"]["train_splits"]:
        return None
    model = run.params["model"]
    name = run.params["recipe"]  # the user's own file and one of a newer fertool are unknown here
    recipe = load_recipe(name if name in recipe_names() else None)
    paper = recipe.paper or model["name"]
    dataset = faces.params.get("dataset") or recipe.dataset
    if paper not in names() or not dataset:
        return None
    trained_on = run.parent("faces")
    settings = {
        **run.params["train"],
        **model,
        **{k: faces.params[k] for k in ("views", "frames") if k in faces.params},
        "align": faces.params.get("align") != "none",
        "extra_data": faces.params.get("extra_data", "none"),
        "other_faces": trained_on is not None and trained_on.digest != faces.digest,
        **recipe.compare,
    }
    return Setup(
        paper, dataset, run.params["variant"] or model["name"], settings, _departs(run, paper, dataset, recipe)
    )


def _departs(run: Artefact, paper: str, dataset: str, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Settings of a run's network, of what it stands on and of its regions that are not those of the paper's recipe.

    That is the run's own recipe, or the one for the network and data set, or else the network's defaults."""
    model, variant = run.params["model"], run.params["variant"]
    if recipe.paper != paper:
        usual = f"{model['name']}-{dataset}"
        recipe = load_recipe(usual if usual in recipe_names() else None)
    asked = recipe.with_model(model["name"]).settings("train").model
    pairs = [("", model_settings(asked, variant or None).as_dict(), model)]
    if stands_on := model.get("part"):
        pairs.append(("part.", model_settings({"name": stands_on["name"]}).as_dict(), stands_on))
    if regions := (run.info.get("prepared") or {}).get("regions"):
        pairs.append(("crop-regions.", recipe.settings("crop-regions").as_dict(), regions))
    found = {}
    for prefix, theirs, ours in pairs:
        theirs = json.loads(json.dumps(theirs))  # as a run stores them
        found |= {
            prefix + k: (v, ours[k]) for k, v in theirs.items() if ours.get(k, v) != v and k not in ("part", "seed")
        }
    return found


def fused(setups: list[Setup | None]) -> Setup | None:
    """What the mean of the scores of several runs is in their paper's terms.

    Their variants are joined, and so are settings in which they differ: the fusion of two backbones has variant
    `ran+ran` and `backbone: resnet18+vgg16`.
    """
    if not setups or None in setups or len({(s.paper, s.dataset) for s in setups}) > 1:
        return None
    keys = setups[0].settings.keys()
    settings = {k: _joined([s.settings.get(k) for s in setups]) for k in keys}
    variant = "+".join(sorted(s.variant for s in setups))
    departs = {k: pair for s in setups for k, pair in s.departs.items()}
    return Setup(setups[0].paper, setups[0].dataset, variant, settings, departs)


def _joined(values: list[Any]) -> Any:
    return values[0] if all(v == values[0] for v in values) else "+".join(sorted({str(v) for v in values}))
