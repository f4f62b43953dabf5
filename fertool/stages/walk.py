"""run: all stages of a recipe, one after the other."""

from pathlib import Path

from fertool import artefact, console
from fertool.datasets import open_dataset
from fertool.errors import RecipeError, nearest
from fertool.models.registry import model_settings
from fertool.recipe import Recipe, load, parse_sets
from fertool.settings import BuildSubsets, Train
from fertool.stages import (
    build_subsets,
    crop_regions,
    detect_align,
    evaluate,
    make_masks,
    report,
    scores,
    train,
    train_folds,
    visualize,
)
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
) -> dict:
    """Walk a recipe on the data set at `path`; work that is done is skipped, work that was stopped goes on.

    Returns:
        The facts of every stage, by its name; those of eval are the scores of all variants.
    """
    if not recipe.stages:
        raise RecipeError(
            f"recipe {recipe.name} has no list of stages to walk", "add a line: stages: [detect-align, …]"
        )
    faces = workspace.path(slug(name or path.resolve().name), "faces")
    variants = variants or recipe.variants or ("",)
    plan = _settings(recipe, variants, sets)
    facts: dict = {}
    runs: list[Path] = []
    each: list[Train] = []
    for stage, settings in plan.items():
        console.say(f"\n{stage}")
        beside = workspace.beside
        match stage:
            case "detect-align":
                options = settings.dataset_options
                dataset = open_dataset(path, recipe.dataset or None, image_folder=image_folder, **options)
                facts[stage] = _said(detect_align, detect_align.run(dataset, settings=settings, out=faces))
            case "make-masks":
                facts[stage] = _said(make_masks, make_masks.run(faces, settings=settings, out=beside(faces, "masks")))
            case "crop-regions":
                made = crop_regions.run(faces, settings=settings, out=beside(faces, "regions"))
                facts[stage] = _said(crop_regions, made)
            case "build-subsets":
                made = build_subsets.run(
                    faces, settings=settings, lists=lists, occlusion_table=None, out=beside(faces, "subsets")
                )
                facts[stage] = _said(build_subsets, made)
            case "train":
                crossed = "all" if plan.get("build-subsets", BuildSubsets()).folds else None
                each = train.each_fold(settings, crossed, beside(faces, "subsets"))
                parts = []
                for earlier in map(load, recipe.after):
                    of_it = train.each_fold(earlier.settings("train"), crossed, beside(faces, "subsets"))
                    parts += _train(earlier, of_it, "", faces, workspace, devices)
                runs = [r for v in variants for r in _train(recipe, each, v, faces, workspace, devices)]
                facts[stage] = {r.parent.name: train.summary(r) for r in (*parts, *runs)}
            case "eval" if len(each) > 1:
                folders = [r.parent for r in runs[:: len(each)]]
                facts[stage] = scores.cross_validation(workspace, folders, settings=settings, devices=devices)
                scores.report_cross_validation(facts[stage])
            case "eval":
                predictions = {r.parent.name: evaluate.run(r.parent, settings=settings, devices=devices) for r in runs}
                names = ("all",) if beside(faces, "subsets").exists() else ()
                facts[stage] = scores.run(
                    predictions, names=names, confidence=settings.confidence, fuse=False, csv=None
                )
                scores.report(facts[stage])
            case "visualize":
                facts[stage] = {"files": _draw(runs[:: len(each)], settings)}
            case "report":
                facts[stage] = _said(report, report.run([r.parent for r in runs[:: len(each)]], settings=settings))
    return facts


def _settings(recipe: Recipe, variants: tuple[str, ...], sets: tuple[str, ...]) -> dict:
    """The settings of every stage, all checked before the first one starts."""
    given: dict[str, list[str]] = {stage: [] for stage in recipe.stages}
    for entry in sets:
        section = parse_sets([entry])[0][0]
        if section not in given:
            raise RecipeError(f"--set {entry}: recipe {recipe.name} has no stage {section}", nearest(section, given))
        given[section].append(entry)
    settings = {stage: recipe.settings(stage, {}, given[stage]) for stage in recipe.stages}
    if "train" in settings:
        for variant in variants:
            model_settings(settings["train"].model, variant)
    return settings


def _said(stage, made: Path) -> dict:
    facts = stage.summary(made)
    stage.report(facts)
    return facts


def _train(
    recipe: Recipe, each: list[Train], variant: str, faces: Path, workspace: Workspace, devices: Devices
) -> list[Path]:
    """Train one variant, with each of the settings; runs of the same settings that are unfinished go on."""
    return train_folds.run(
        faces,
        each,
        devices=devices,
        workspace=workspace,
        regions=workspace.beside(faces, "regions"),
        subsets=workspace.beside(faces, "subsets"),
        masks=workspace.beside(faces, "masks"),
        recipe=recipe.name,
        variant=variant,
        resume=None,
    )


def _draw(runs: list[Path], settings) -> list[str]:
    """Curves and confusions of all runs, and the attention of the last one that has any, into the last one's folder."""
    files = []
    out = runs[-1].parent / "figures"
    folders = [r.parent for r in runs]
    for kind in ("curves", "confusion"):
        files += visualize.run(kind, folders, settings=settings, out_dir=out)
    for r in reversed(runs):
        columns = artefact.read(r.with_name("predictions.h5"), "predictions").columns
        if any(c.startswith("attention_") for c in columns):
            kind = "regions" if "attention_weight" in columns else "attention"
            files += visualize.run(kind, [r.parent], settings=settings, out_dir=out)
            break
    written = list(dict.fromkeys(map(str, files)))  # all kinds share one figures.h5
    for file in written:
        console.say(f"→ {file}")
    return written
