"""The commands that lead to every number of a paper, made from what the comparison asks for."""

import json
from dataclasses import dataclass
from functools import cache

import torch

from fertool.evaluation import differences, paper_results
from fertool.evaluation.differences import cached_recipe
from fertool.evaluation.paper_results import Member, Reported, recipe_names
from fertool.models.registry import build_model, model_settings
from fertool.recipe import set_to


@dataclass(frozen=True)
class Cell:
    """One of the paper's own numbers, the commands after which ours stands beside it, and what they rest on; without
    commands the reason why there are none."""

    row: Reported
    commands: tuple[str, ...]
    needs: str
    reason: str


def cells(paper: str) -> list[Cell]:
    """Return every number of the paper's own systems, in the order of its file."""
    return [_cell(r) for r in paper_results.load(paper).results if r.own]


def _cell(row: Reported) -> Cell:
    if reason := paper_results.unreachable(row):
        return Cell(row, (), "", reason)
    if len(row.trained_on) > 1:
        commands = _combined(row)
    elif len(row.members) > 1:
        commands = _fused(row)
    else:
        commands = (*_before(row.members[0]), _run(row, [row.members[0]]))
    return Cell(row, tuple(dict.fromkeys(commands)), _needs(row), "")


def _run(row: Reported, members: list[Member]) -> str:
    """The command that walks a recipe; the members have one recipe and the same settings."""
    variants = [f"--variant {m.variants[0]}" for m in members]
    lists = ["--lists RAN_LISTS"] if row.subset in row.data.subsets and row.data.subset_source == "list" else []
    first = members[0]
    return " ".join(["fertool run", first.recipe, f"data/{row.dataset}", *variants, *lists, *_sets(first)])


def _fused(row: Reported) -> tuple[str, ...]:
    each: dict[tuple, list[Member]] = {}
    for m in row.members:
        each.setdefault((m.recipe, json.dumps(m.given)), []).append(m)
    runs = [_run(row, members) for members in each.values()]
    before = [c for m in row.members for c in _before(m)]
    count: dict[str, int] = {}
    names = []
    for m in row.members:
        network = differences.train_settings(m).model["name"]
        name = network + (f"-{m.variants[0]}" if m.variants[0] != network else "")
        count[name] = count.get(name, 0) + 1
        names.append(f"--run {name}-{count[name]}")
    subset = [] if row.subset == "all" else ["--subset all"]
    split = differences.test_split(row.members[0])
    return (*before, *runs, " ".join(["fertool eval", *names, "--fuse", *subset, f"--split {split}"]))


def _combined(row: Reported) -> tuple[str, ...]:
    """The commands that join data sets to train on them together."""
    (member,) = row.members
    commands = list(_before(member))
    for name in dict.fromkeys([*row.trained_on, row.dataset]):
        own = f"{row.paper}-{name}"
        recipe = own if own in recipe_names() and cached_recipe(own).stages == ("detect-align",) else member.recipe
        commands.append(f"fertool detect-align data/{name} --recipe {recipe}")
    parts = [f"{name}:{splits}" if splits else name for name, splits in row.trained_on.items()]
    joined = "-".join(row.trained_on)
    commands.append(f"fertool combine {' '.join(parts)}")
    tested = row.dataset if row.dataset not in row.trained_on else joined
    if "crop-regions" in cached_recipe(member.recipe).stages:
        commands += [f"fertool crop-regions --data {d}" for d in dict.fromkeys((joined, tested))]
    variant = [f"--variant {member.variants[0]}"]
    commands.append(" ".join(["fertool train", member.recipe, f"--data {joined}", *variant, *_sets(member)]))
    elsewhere = [f"--data {tested}"] if tested != joined else []
    commands.append(" ".join(["fertool eval", *elsewhere, f"--split {differences.test_split(member)}"]))
    return tuple(commands)


def _before(member: Member) -> list[str]:
    """The commands that train what the network starts from, on other data sets."""
    found = []
    init = member.given.get("train.init", "none")
    part = _part(member.recipe, member.variants[0])
    mine = cached_recipe(member.recipe)
    if part and not mine.after:
        found += [n for n in sorted(recipe_names()) if _trains(n) == part and cached_recipe(n).paper == mine.paper]
    found += [init] if init in recipe_names() else []
    return [f"fertool run {name} data/{cached_recipe(name).dataset}" for name in found]


@cache
def _trains(recipe: str) -> str:
    return cached_recipe(recipe).sections.get("train", {}).get("model", {}).get("name", "")


@cache
def _part(recipe: str, variant: str) -> str:
    """The network that has to be trained before a variant of a recipe's."""
    settings = model_settings(cached_recipe(recipe).settings("train").model, variant)
    with torch.device("meta"):
        return build_model(settings, 7).stands_on


def _sets(member: Member) -> list[str]:
    """The options for the settings in which a number departs from its recipe."""
    options, recipe = [], cached_recipe(member.recipe)
    for key, value in member.given.items():
        section, _, name = key.partition(".")
        wanted = value[0] if isinstance(value, list) else value
        there = recipe.settings(section).as_dict()
        if name.startswith("model."):
            there, name = model_settings(there["model"], member.variants[0]).as_dict(), name.removeprefix("model.")
        if key == "train.init":
            wanted = _weights(wanted)
        if there.get(name) != wanted:
            options.append(f"--set {set_to(key, wanted) if not isinstance(wanted, str) else f'{key}={wanted}'}")
    return options


def _weights(name: str) -> str:
    """The words for starting weights: a word that train knows, the run of a recipe, or a file of the user's."""
    if name in ("none", "imagenet"):
        return name
    if name in recipe_names():
        return f"artefacts/{cached_recipe(name).dataset}/runs/{_trains(name)}-1/run.h5"
    return f"{name.upper()}.pth"


def _needs(row: Reported) -> str:
    """What has to be there for the comparison, beside the settings."""
    data, member = row.data, row.members[0]
    said = [" and ".join(row.trained_on)]
    if data.train:
        said.append(f"{data.train:,} faces to train on")
    if data.test:
        said.append(f"{data.test:,} to test on")
    if folds := differences.crossed(member):
        said.append(folds)
    if row.subset in data.subsets:
        said.append("subsets by the authors' lists")
    if weights := sorted({w for m in row.members if (w := differences.wanted_weights(m))}):
        said.append(f"starting weights: {' and '.join(weights)}, in files of your own")
    return ", ".join(said)
