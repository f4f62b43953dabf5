"""run: all stages of a recipe, one after the other, and the recipes that have to be run before it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from fertool import artefact, console
from fertool.datasets import open_dataset
from fertool.recipe import Recipe
from fertool.settings import BuildSubsets, DetectAlign, Evaluate, Train, Visualize
from fertool.stages import (
    build_subsets,
    combine,
    crop_regions,
    detect_align,
    evaluate,
    make_masks,
    report,
    train,
    visualize,
)
from fertool.stages.evaluate import pairs, scores
from fertool.stages.plan import Plan, make_plan
from fertool.stages.train import folds as train_folds
from fertool.training.devices import Devices
from fertool.workspace import Workspace, slug


def run(
    recipe: Recipe,
    path: Path,
    *,
    image_folder: Path | None = None,
    workspace: Workspace,
    devices: Devices,
    variants: tuple[str, ...] = (),
    lists: Path | None = None,
    name: str | None = None,
    sets: tuple[str, ...] = (),
    others: Mapping[str, Path] | None = None,
) -> dict:
    """Walk a recipe on the dataset at `path`; work that is done is skipped, work that was stopped is resumed.

    Args:
        image_folder: of a table at `path`, the folder that its paths are relative to.
        variants: trained instead of the recipe's own.
        lists: folder of RAN's released lists, for the subsets.
        name: of the dataset in the workspace; default: the folder's name.
        sets: "section.key=value", or "RECIPE:section.key=value" for a recipe that is run before this one.
        others: dataset -> folder, for the recipes that are run on other datasets and for faces that join.

    Returns:
        The facts of every stage, by its name; those of eval are the scores of all variants. "before": the same of
        every recipe that was run on another dataset.

    Raises:
        RecipeError, ArtefactError: a wrong setting, or a dataset that is missing; before anything starts.
    """
    plan = make_plan(recipe, variants, sets, others or {}, workspace)
    return _Walk(workspace, devices, lists).run(plan, path, name, image_folder)[0]


class _Walk:
    def __init__(self, workspace: Workspace, devices: Devices, lists: Path | None):
        self.workspace, self.devices, self.lists = workspace, devices, lists

    def run(
        self, plan: Plan, path: Path, name: str | None = None, image_folder: Path | None = None
    ) -> tuple[dict, dict[str, list[Path]]]:
        """Return the facts of every stage, and by variant the run.h5 of every fold."""
        facts: dict = {}
        trained: dict[str, Mapping[str, Path]] = {}  # recipe on another dataset -> variant -> run.h5
        for earlier in plan.elsewhere:
            if earlier.folder is None:
                trained[earlier.recipe.name] = earlier.runs
                continue
            console.say(f"\n{earlier.recipe.name} on {earlier.folder}")
            facts.setdefault("before", {})[earlier.recipe.name], before = self.run(earlier, earlier.folder)
            trained[earlier.recipe.name] = {variant: each[0] for variant, each in before.items()}
        faces = self.workspace.path(slug(name or path.resolve().name), "faces")
        beside = self.workspace.beside
        runs: dict[str, list[Path]] = {}
        joined: list[Path] = []  # runs of other recipes whose scores are averaged with ours
        for stage, asked in plan.stages.items():
            console.say(f"\n{stage}")
            judged = stage in ("eval", "report")
            settings = replace(asked, paper=asked.paper or plan.recipe.paper) if judged else asked
            match stage:
                case "detect-align":
                    facts[stage] = self._detect_align(plan, settings, path, faces, image_folder)
                    if plan.joining:
                        faces = self._combine(plan, faces, facts)
                case "make-masks":
                    made = make_masks.run(faces, settings=settings, out=beside(faces, "masks"))
                    facts[stage] = _report(make_masks, made)
                case "crop-regions":
                    made = crop_regions.run(faces, settings=settings, out=beside(faces, "regions"))
                    facts[stage] = _report(crop_regions, made)
                case "build-subsets":
                    made = build_subsets.run(
                        faces, settings=settings, lists=self.lists, occlusion_table=None, out=beside(faces, "subsets")
                    )
                    facts[stage] = _report(build_subsets, made)
                case "train":
                    folds = "all" if plan.stages.get("build-subsets", BuildSubsets()).folds else None
                    parts = [r for p in plan.parts for r in _flat(self._train(p, faces, folds))]
                    joined = [r for p in plan.fused for r in _flat(self._train(p, faces, folds))]
                    runs = self._train(plan, faces, folds, trained)
                    facts[stage] = {r.parent.name: train.summary(r) for r in (*parts, *joined, *_flat(runs))}
                case "eval":
                    facts[stage] = self._evaluate(plan, settings, faces, runs, joined)
                case "visualize":
                    facts[stage] = {"files": _draw([each[0] for each in runs.values()], settings)}
                case "report":
                    folders = [each[0].parent for each in runs.values()]
                    facts[stage] = _report(report, report.run(folders, settings=settings))
        return facts, runs

    def _detect_align(
        self, plan: Plan, settings: DetectAlign, path: Path, faces: Path, image_folder: Path | None = None
    ) -> dict:
        dataset = open_dataset(
            path,
            plan.recipe.dataset or None,
            image_folder=image_folder,
            usual=plan.recipe.settings("detect-align").data,
            **settings.data,
        )
        return _report(detect_align, detect_align.run(dataset, settings=settings, out=faces))

    def _combine(self, plan: Plan, faces: Path, facts: dict) -> Path:
        """Prepare the faces of the other datasets and join them with ours. Returns the faces.h5 of all."""
        name = faces.parent.name
        sources = [combine.Source(faces, plan.recipe.dataset)]
        for other, splits in plan.joining:
            assert other.folder is not None  # those that join have been found
            console.say(f"\ndetect-align {other.folder}")
            theirs = self.workspace.path(f"{slug(other.folder.resolve().name)}-for-{name}", "faces")
            self._detect_align(other, other.stages["detect-align"], other.folder, theirs)
            sources.append(combine.Source(theirs, other.recipe.dataset, splits))
        console.say("\ncombine")
        out = self.workspace.path("-".join([name, *(s.name for s in sources[1:])]), "faces")
        facts["combine"] = _report(combine, combine.run(sources, out=out))
        return out

    def _train(
        self, plan: Plan, faces: Path, folds: str | None, trained: Mapping[str, Mapping[str, Path]] | None = None
    ) -> dict[str, list[Path]]:
        """Train every variant; runs of the same settings that are unfinished go on.

        Args:
            folds: as for `train.each_fold`.
            trained: runs on other datasets, by recipe and variant.

        Returns:
            The run.h5 of every fold, by variant.
        """
        beside, trained = self.workspace.beside, trained or {}
        runs: dict[str, list[Path]] = {}
        for variant in plan.variants:
            settings: Train = plan.stages["train"]
            if plan.pretraining:
                settings = replace(settings, init=str(trained[plan.pretraining][variant]))
            part = plan.part_of(variant)
            runs[variant] = train_folds.run(
                faces,
                train.each_fold(settings, folds, beside(faces, "subsets")),
                devices=self.devices,
                workspace=self.workspace,
                regions=beside(faces, "regions"),
                subsets=beside(faces, "subsets"),
                masks=beside(faces, "masks"),
                pretrained_part=trained[part][""].parent if part else None,
                recipe=plan.recipe.name,
                variant=variant,
                resume=None,
            )
        return runs

    def _evaluate(
        self, plan: Plan, settings: Evaluate, faces: Path, runs: dict[str, list[Path]], joined: list[Path]
    ) -> dict:
        """Score all variants, and the mean of the scores of those that the recipe fuses."""
        if pairs.applies([r.parent for r in _flat(runs)]):
            made = {r.parent.name: evaluate.run(r.parent, settings=settings, devices=self.devices) for r in _flat(runs)}
            facts = pairs.run(made, settings=settings)
            pairs.report(facts)
            return facts
        if any(len(each) > 1 for each in runs.values()):
            folders = [each[0].parent for each in runs.values()]
            facts = scores.cross_validation(folders, settings=settings, devices=self.devices)
            scores.report_cross_validation(facts)
            return facts
        repeats = {
            r.parent.name: evaluate.run_repeats(r.parent, settings=settings, devices=self.devices)
            for r in (*joined, *_flat(runs))
        }
        fuse = tuple(r.parent.name for r in joined)
        system = plan.stages["train"].model["name"]
        own = ["" if v == system else v for v in plan.recipe.fuse if v not in {p.recipe.name for p in plan.fused}]
        if set(own) <= set(runs):
            fuse += tuple(runs[v][0].parent.name for v in own)
        else:  # the user asked for some of the variants only
            fuse = ()
        facts = scores.run(
            {name: paths[0] for name, paths in repeats.items()},
            names=("all",) if self.workspace.beside(faces, "subsets").exists() else (),
            confidence=settings.confidence,
            fuse=fuse,
            csv=None,
            repeats=repeats,
            paper=settings.paper,
            by=settings.by,
        )
        scores.report(facts)
        return facts


def _flat(runs: Mapping[str, list[Path]]) -> list[Path]:
    return [run for each in runs.values() for run in each]


def _report(stage: ModuleType, made: Path) -> dict:
    facts = stage.summary(made)
    stage.report(facts)
    return facts


def _draw(runs: list[Path], settings: Visualize) -> list[str]:
    """Draw curves and confusions of all runs, and the attention of the last one that has any, into its folder."""
    files = []
    out = runs[-1].parent / "figures"
    folders = [r.parent for r in runs]
    for kind in ("curves", "confusion"):
        files += visualize.run(kind, folders, settings=settings, out_dir=out)
    for r in reversed(runs):
        made = evaluate.predictions_of(r.parent)
        columns = artefact.read(made, "predictions").columns if made else ()
        if any(c.startswith("attention_") for c in columns):
            kind = "regions" if "attention_weight" in columns else "attention"
            files += visualize.run(kind, [r.parent], settings=settings, out_dir=out)
            break
    written = list(dict.fromkeys(map(str, files)))  # all kinds share one figures.h5
    for file in written:
        console.say(f"→ {file}")
    return written
