"""What `fertool run` is going to do: a recipe, those that come before it, and their settings, all checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fertool import artefact
from fertool.errors import ArtefactError, RecipeError, nearest
from fertool.models.registry import model_settings, required_network
from fertool.recipe import Recipe, load, names, parse_sets
from fertool.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """One recipe with the settings of its stages.

    Attributes:
        recipe: as written.
        variants: trained one after the other; "" is the system itself.
        stages: settings of every stage, in order.
        folder: where its dataset lies; None for the recipe that is run, and where `runs` takes its place.
        runs: variant -> run.h5 that is finished already.
        elsewhere: recipes to be run on other datasets before: networks this one needs, pretraining.
        parts: recipes whose training on the same faces comes before this one's.
        fused: recipes trained on the same faces whose scores are averaged with this one's.
        joining: other datasets, whose faces of some splits join this one's for training.
        pretraining: name of the recipe in `elsewhere` whose runs give the starting weights, or "".
    """

    recipe: Recipe
    variants: tuple[str, ...] = ("",)
    stages: Mapping[str, Any] = field(default_factory=dict)  # each of its class in `settings.STAGES`
    folder: Path | None = None
    runs: Mapping[str, Path] = field(default_factory=dict)
    elsewhere: tuple["Plan", ...] = ()
    parts: tuple["Plan", ...] = ()
    fused: tuple["Plan", ...] = ()
    joining: tuple[tuple["Plan", tuple[str, ...]], ...] = ()
    pretraining: str = ""

    def part_of(self, variant: str) -> str:
        """Return the name of the recipe in `elsewhere` that trains what this variant's network needs, or ""."""
        wanted = required_network(self.stages["train"].model, variant)
        trains = {e.recipe.settings("train").model["name"]: e.recipe.name for e in self.elsewhere}
        return trains.get(wanted, "") if wanted else ""


def make_plan(
    recipe: Recipe, variants: tuple[str, ...], sets: tuple[str, ...], others: Mapping[str, Path], workspace: Workspace
) -> Plan:
    """Return what `fertool run` has to do; see `stages.run_recipe.run` for the arguments.

    Raises:
        RecipeError: no stages, an unknown setting, variant or recipe, or a dataset that no recipe uses.
        ArtefactError: a dataset is missing, and the workspace has no run that would make up for it.
    """
    if not recipe.stages:
        raise RecipeError(
            f"recipe {recipe.name} has no list of stages to walk", "add a line: stages: [detect-align, …]"
        )
    chain = {recipe.name: recipe} | {r.name: r for r in _chain(recipe)}
    datasets = {d for r in chain.values() for d in (r.dataset, *r.combine)} - {recipe.dataset}
    for name in others:
        if name not in datasets:
            raise RecipeError(f"--with {name}: recipe {recipe.name} uses no dataset {name!r}", nearest(name, datasets))
    given: dict[str, list[str]] = {name: [] for name in chain}
    for entry in sets:
        owner, _, rest = entry.rpartition(":") if ":" in entry.partition("=")[0] else ("", "", entry)
        owner = owner or recipe.name
        if owner not in given:
            raise RecipeError(f"--set {entry}: {recipe.name} runs no recipe {owner!r}", nearest(owner, given))
        given[owner].append(rest)
    return _Planner(given, others, workspace).plan(recipe, variants)


def _chain(recipe: Recipe) -> Iterator[Recipe]:
    """Yield all recipes that a recipe leads to."""
    for name in (
        *recipe.requires_recipes,
        *filter(None, [recipe.pretraining]),
        *(f for f in recipe.fuse if f in names()),
    ):
        yield (earlier := load(name))
        yield from _chain(earlier)
    yield from (load(entry["recipe"]) for entry in recipe.combine.values() if "recipe" in entry)


class _Planner:
    def __init__(self, given: Mapping[str, list[str]], others: Mapping[str, Path], workspace: Workspace):
        self.given, self.others, self.workspace = given, others, workspace

    def plan(self, recipe: Recipe, variants: tuple[str, ...] = ()) -> Plan:
        """Return the plan of a recipe and of all that comes before it."""
        stages = self._settings(recipe)
        variants = variants or recipe.variants or ("",)
        if "train" not in stages:
            return Plan(recipe, variants, stages)
        model = stages["train"].model
        for variant in variants:
            model_settings(model, variant)
        variants = tuple("" if v == model["name"] else v for v in variants)
        required = {required_network(model, v) for v in variants}
        elsewhere, parts = [], []
        for earlier in map(load, recipe.requires_recipes):
            if earlier.settings("train").model["name"] not in required:
                continue
            if earlier.dataset == recipe.dataset:
                parts.append(self.plan(earlier))
            else:
                elsewhere.append(self._elsewhere(recipe, earlier, ("",)))
        pretraining = recipe.pretraining
        if any(e.startswith("train.init=") for e in self.given[recipe.name]):
            pretraining = ""
        if pretraining:
            elsewhere.append(self._elsewhere(recipe, load(pretraining), variants))
        return Plan(
            recipe,
            variants,
            stages,
            elsewhere=tuple(elsewhere),
            parts=tuple(parts),
            fused=tuple(replace(self.plan(load(f)), variants=("",)) for f in recipe.fuse if f in names()),
            joining=tuple(self._joining(recipe, dataset, entry) for dataset, entry in recipe.combine.items()),
            pretraining=pretraining,
        )

    def _settings(self, recipe: Recipe) -> dict[str, Any]:
        """Return the settings of every stage."""
        wanted: dict[str, list[str]] = {stage: [] for stage in recipe.stages or ("train",)}
        for entry in self.given[recipe.name]:
            section = parse_sets([entry])[0][0]
            if section not in wanted:
                raise RecipeError(
                    f"--set {entry}: recipe {recipe.name} has no stage {section}", nearest(section, wanted)
                )
            wanted[section].append(entry)
        return {stage: recipe.settings(stage, {}, sets) for stage, sets in wanted.items()}

    def _elsewhere(self, recipe: Recipe, earlier: Recipe, variants: tuple[str, ...]) -> Plan:
        """Return the plan of a recipe on another dataset, or its finished runs where that dataset is not given."""
        if folder := self.others.get(earlier.dataset):
            return replace(self.plan(earlier, variants), folder=folder)
        runs = {v: run for v in variants if (run := self._finished(earlier, v))}
        if missing := [v for v in variants if v not in runs]:
            which = "".join(f" --variant {v}" for v in missing) if all(missing) else ""
            raise ArtefactError(
                f"{recipe.name} comes after {earlier.name}, and {self.workspace.root} has no finished run of it{which}",
                f"add --with {earlier.dataset}=FOLDER, or run: fertool run {earlier.name} FOLDER{which}",
            )
        return Plan(earlier, variants, runs=runs)

    def _finished(self, recipe: Recipe, variant: str) -> Path | None:
        """Return the latest finished run of a recipe."""
        found = None
        for folder in self.workspace.runs():
            run = artefact.read(folder / "run.h5", "run")
            if (run.params["recipe"], run.params["variant"]) == (recipe.name, variant) and run["state/finished"]:
                found = folder / "run.h5"
        return found

    def _joining(self, recipe: Recipe, dataset: str, entry: Mapping) -> tuple[Plan, tuple[str, ...]]:
        """Return how another dataset's faces are made, and their splits that are trained on."""
        if dataset not in self.others:
            raise ArtefactError(
                f"{recipe.name} also learns from {dataset}, and its folder is not given",
                f"add --with {dataset}=FOLDER",
            )
        theirs = load(entry["recipe"]) if "recipe" in entry else recipe
        stages = {"detect-align": self._settings(theirs)["detect-align"]}
        made = Plan(replace(theirs, dataset=dataset), stages=stages, folder=self.others[dataset])
        return made, tuple(entry["splits"])
