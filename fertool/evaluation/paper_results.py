"""The numbers that papers print.

A YAML file holds one paper each: `fertool/papers/<paper>.yaml`, those of installed packages, and files of the user's:

    paper, title, authors, venue
    given        settings that hold for all of the paper's own numbers and stand in no recipe
    data         name -> how many faces the paper trains and tests on, see `Data`
    latency      {device, milliseconds: {variant: time per face}}
    facts        anything else that is looked up
    results      groups of rows; what stands at the group holds for all its rows
    confusions   name -> {table, dataset, variant, classes, rows in percent}; a row that is not known is null; with
                 `support`, the faces of each class, `fertool papers --check` compares it with the results

A row is one number: `dataset`, `system` (as the paper calls it), `subset` (absent: all test faces), `metric` (absent:
accuracy), `value` in percent, `sd`, `n_correct` and `n_total` where they are known, `own` (the paper's own system or an
ablation of it), `note`, for a cross-validation `aggregation` (pooled or fold mean) and the reason `why` it is compared
so, and what its system was:

    variant      as fertool calls it; a list means any of these. The full system has the name of the network
    members      instead of a variant, where scores are fused: {variant, recipe, given} of each network; the recipe of
                 one of them has `fuse`
    recipe       whose settings are the paper's: a name, or a .yaml file beside this one; default: <paper>-<dataset>
    given        settings in which the number departs from the recipe: "init", "model.alpha",
                 "detect-align.on_no_face" ...; a list means any of these
    trained_on   the datasets that were trained on, where it is not the row's dataset alone
    data         entry of `data` that says how many faces there are; default: the row's dataset
    fold         of a matrix: the only fold it is of
    unreachable  why no command of fertool's gives a number to compare with this one

`init` says which weights a training starts from: `none`, the name of a recipe (the weights of its run; default: the
recipe's pretraining), or the name of weights that come from elsewhere, in a file of the user's.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fertool import yaml_files
from fertool.errors import RecipeError, nearest
from fertool.evaluation import paper_schema
from fertool.recipe import names as all_recipes
from fertool.settings import STAGES
from fertool.yaml_text import parse

if TYPE_CHECKING:
    from fertool.models.base import FerModel


@dataclass(frozen=True)
class Member:
    """A network behind a number.

    It is trained by a recipe, in any of some variants, with settings that depart from the recipe, by their full names
    ("train.lr").
    """

    recipe: str
    variants: tuple[str, ...]
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Data:
    """How many faces a number rests on.

    Attributes:
        train, test: faces; None where the paper does not say, or in a cross-validation.
        classes: how many are told apart.
        subsets: name -> faces.
        subset_source: who says which faces are in them, as build-subsets stores it.
        tolerance, train_tolerance: by which fraction the number of faces tested or trained on may differ.
    """

    train: int | None = None
    test: int | None = None
    classes: int | None = None
    subsets: Mapping[str, int] = field(default_factory=dict)
    subset_source: str = ""
    tolerance: float = 0.01
    train_tolerance: float = 0.01


@dataclass(frozen=True)
class Reported:
    """One number of a paper, in percent. See the module for the meaning of the fields."""

    paper: str
    table: str
    dataset: str
    system: str
    value: float
    members: tuple[Member, ...] = ()
    subset: str = "all"
    metric: str = "accuracy"
    sd: float | None = None
    n_correct: int | None = None
    n_total: int | None = None
    aggregation: str = ""
    why: str = ""
    own: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    data: Data = Data()
    fold: int | None = None
    unreachable: str = ""
    note: str = ""

    @property
    def fraction(self) -> float:
        """Return the value as results have it, from 0 to 1."""
        return self.value / 100

    @property
    def faces(self) -> int | None:
        """How many faces were scored; None where the paper does not say."""
        return self.data.test if self.subset == "all" else self.data.subsets.get(self.subset)

    @property
    def source(self) -> str:
        """Where it stands, e.g. "Table V (alpha: 0.1)"."""
        shown = ", ".join(
            f"{k.rpartition('.')[2]}: {plain(v)}" for k, v in self.settings.items() if not isinstance(v, list)
        )
        return self.table + (f" ({shown})" if shown else "")


@dataclass(frozen=True)
class Paper:
    """One paper's file."""

    name: str
    title: str
    authors: str
    venue: str
    facts: Mapping[str, Any]
    latency: Mapping[str, Any]
    results: tuple[Reported, ...]
    matrices: Mapping[str, Reported]
    confusions: Mapping[str, Mapping[str, Any]]

    def confusion(self, name: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Return class names and the printed matrix (C, C) in percent; nan where a row is not known."""
        if name not in self.confusions:
            raise RecipeError(f"{self.name} prints no confusion matrix {name!r}", nearest(name, self.confusions))
        entry = self.confusions[name]
        classes = tuple(entry["classes"])
        rows = [row if row is not None else [np.nan] * len(classes) for row in entry["rows"]]
        return classes, np.array(rows, float)


def names() -> list[str]:
    """Return the papers of fertool and of installed packages."""
    return list(yaml_files.named("papers"))


def load(name: str) -> Paper:
    """Return a paper.

    Args:
        name: of the paper, or a .yaml file.

    Raises:
        RecipeError: there is no such paper, or its file does not hold what it has to.
    """
    return _load(name, yaml_files.version(name))


@cache
def _load(name: str, _version: tuple[str, int]) -> Paper:
    if yaml_files.is_file(name):
        if not Path(name).is_file():
            raise RecipeError(f"there is no file {name} with a paper's numbers")
        text = Path(name).read_text(encoding="utf-8", errors="replace")
    elif name in names():
        text = yaml_files.named("papers")[name].read_text(encoding="utf-8")
    else:
        raise RecipeError(f"there is no paper {name!r}", f"{nearest(name, names())}; or name a .yaml file")
    raw = paper_schema.checked(parse(text, name), name)
    confusions = raw.get("confusions", {})

    def row(group: Mapping[str, Any], entry: Mapping[str, Any]) -> Reported:
        return _row(raw, name, {**group, **entry}, {**group.get("given", {}), **entry.get("given", {})})

    return Paper(
        raw["paper"],
        raw["title"],
        raw["authors"],
        raw["venue"],
        raw.get("facts", {}),
        raw.get("latency", {}),
        tuple(row(group, entry) for group in raw["results"] for entry in group["rows"]),
        {key: row({}, {"own": True, "system": key, "value": np.nan, **m}) for key, m in confusions.items()},
        confusions,
    )


def of_network(cls: "type[FerModel]") -> str:
    """Return the paper of a network: a name, or the path of a .yaml file beside the network's; "" without."""
    module = sys.modules[cls.__module__]
    return yaml_files.beside(cls.paper, module.__file__ or "") if cls.paper else ""


def _row(raw: Mapping[str, Any], file: str, merged: Mapping[str, Any], given: Mapping[str, Any]) -> Reported:
    paper, dataset = raw["paper"], merged["dataset"]
    settings = full_names(given)
    given = {**full_names(raw.get("given", {})), **settings}
    recipe = merged.get("recipe", f"{paper}-{dataset}")
    each = merged.get("members") or ([merged] if "variant" in merged else [])
    members = tuple(
        Member(
            yaml_files.beside(one.get("recipe", recipe), file),
            tuple(one["variant"]) if isinstance(one["variant"], list) else (one["variant"],),
            given if one is merged else {**given, **full_names(one.get("given", {}))},
        )
        for one in each
    )
    data = raw.get("data", {}).get(merged.get("data", dataset), {})
    kept = {f.name for f in fields(Reported)} - {"members", "data", "settings", "paper"}
    values = {k: v for k, v in merged.items() if k in kept}
    trained_on = tuple(merged.get("trained_on", (dataset,)))
    return Reported(
        **{**values, "trained_on": trained_on}, paper=paper, members=members, settings=settings, data=Data(**data)
    )


@cache
def recipe_names() -> frozenset[str]:
    """Return the recipes of fertool and of installed packages, looked up once."""
    return frozenset(all_recipes())


def unreachable(row: Reported) -> str:
    """Return why no run can be compared with a number, "" if one can."""
    if row.unreachable or not row.own:
        return row.unreachable or "other people's work"
    absent = sorted(m.recipe for m in row.members if m.recipe not in recipe_names() and not Path(m.recipe).is_file())
    return f"there is no recipe {absent[0]}" if absent else ""


def full_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their full names: "lr" and "model.size" belong to train, "detect-align.size" says it."""
    return {k if k.partition(".")[0] in STAGES else f"train.{k}": v for k, v in given.items()}


def plain(value: Any) -> str:
    """Return a setting as a reader sees it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
