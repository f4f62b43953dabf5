"""The commands that lead to every number of a paper, made from what the comparison asks for."""

from dataclasses import dataclass
from pathlib import Path

from fertool.evaluation import differences, paper_results
from fertool.evaluation.differences import cached_recipe
from fertool.evaluation.paper_results import Member, Reported, recipe_names
from fertool.models.registry import model_settings, required_network
from fertool.recipe import Recipe, set_to


@dataclass(frozen=True)
class Cell:
    """A number of a paper, the commands that evaluate the same here, and what they rest on.

    Without commands: the reason why there are none.
    """

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
    return Cell(row, (_run(row),), _needs(row), "")


def _run(row: Reported) -> str:
    """Return the command that walks a recipe; of several members, the one whose recipe fuses their scores."""
    first = next((m for m in row.members if cached_recipe(m.recipe).fuse), row.members[0])
    own = [m for m in row.members if m.recipe == first.recipe]
    variants = [m.variants[0] for m in own]
    if variants == list(cached_recipe(first.recipe).variants):
        variants = []  # all of them are trained without being asked for
    words = ["fertool run", first.recipe, f"data/{row.dataset}", f"--name {Path(_name(first, row)).stem}"]
    words += [f"--with {d}=data/{d}" for d in _others(first)]
    words += [f"--variant {v}" for v in variants]
    words += ["--lists RAN_LISTS"] if row.subset in row.data.subsets and row.data.subset_source == "list" else []
    words += _sets(first)
    for m in row.members:
        name = cached_recipe(m.recipe).name
        words += [option.replace("--set ", f"--set {name}:") for option in _sets(m) if m not in own]
    return " ".join(words)


def _name(member: Member, row: Reported) -> str:
    """Return the name of the faces in the workspace: that of the first recipe that makes the same."""
    mine = cached_recipe(member.recipe)
    if mine.combine:
        return member.recipe
    usual, stages = f"{row.paper}-{row.dataset}", ("detect-align", "build-subsets")
    for name in (usual, mine.extends):
        if name in recipe_names() and all(mine.settings(s) == cached_recipe(name).settings(s) for s in stages):
            return name
    return member.recipe


def _others(member: Member) -> list[str]:
    """Return the other datasets that a recipe needs: to pretrain on, or to join."""
    found: dict[str, None] = {}

    def walk(recipe: Recipe, variant: str) -> None:
        required = required_network(recipe.settings("train").model, variant)
        for earlier in (r for r in map(cached_recipe, recipe.requires_recipes) if _trains(r.name) == required):
            found.update(dict.fromkeys([earlier.dataset]))
        if recipe.pretraining:
            earlier = cached_recipe(recipe.pretraining)
            found.update(dict.fromkeys([earlier.dataset]))
            walk(earlier, variant)
        found.update(dict.fromkeys(recipe.combine))

    mine = cached_recipe(member.recipe)
    walk(mine, member.variants[0])
    return [d for d in found if d != mine.dataset]


def _trains(recipe: str) -> str:
    return cached_recipe(recipe).sections["train"]["model"]["name"]


def _sets(member: Member) -> list[str]:
    """Return the options for the settings in which a number departs from its recipe."""
    options, recipe = [], cached_recipe(member.recipe)
    for key, value in member.given.items():
        section, _, name = key.partition(".")
        wanted = value[0] if isinstance(value, list) else value
        there = recipe.settings(section).as_dict()
        if name.startswith("model."):
            there, name = model_settings(there["model"], member.variants[0]).as_dict(), name.removeprefix("model.")
        if key == "train.init":
            wanted, there["init"] = _weights(wanted), recipe.pretraining or there["init"] or "none"
        if there.get(name) != wanted:
            options.append(f"--set {set_to(key, wanted) if not isinstance(wanted, str) else f'{key}={wanted}'}")
    return options


def _weights(name: str) -> str:
    """Return the words for starting weights: a word that train knows, or a file of the user's."""
    if name in ("none", "imagenet"):
        return name
    return f"{name.upper()}.pth"


def _needs(row: Reported) -> str:
    """Return what has to be there for the comparison, beside the settings."""
    data, member = row.data, row.members[0]
    said = [" and ".join(row.trained_on)]
    if data.train:
        said.append(f"{data.train:,} faces to train on")
    if data.test:
        said.append(f"{data.test:,} {'' if data.train else 'faces '}to test on")
    if folds := differences.crossed(member):
        said.append(folds)
    if before := [d for d in _others(member) if d not in row.trained_on]:
        said.append(f"pretrained on {' and '.join(before)}")
    if row.subset in data.subsets:
        said.append("subsets by the authors' lists")
    if weights := sorted({w for m in row.members if (w := differences.wanted_weights(m))}):
        said.append(f"starting weights: {' and '.join(weights)}, in files of your own")
    return ", ".join(said)
