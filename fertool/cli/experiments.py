"""Commands that train and evaluate, and those that run whole recipes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fertool import console, executors
from fertool import recipe as recipes
from fertool.cli import complete
from fertool.cli.app import EXPERIMENTS
from fertool.cli.command import Options, command
from fertool.cli.options import (
    Data,
    ExecutorName,
    Gpus,
    Images,
    Lists,
    Overwrite,
    Processes,
    RayAddress,
    Runs,
    Sets,
    Space,
    Variant,
)
from fertool.errors import UsageError
from fertool.run_folders import data_folder, distinct_names
from fertool.settings import LARGEST_SEED
from fertool.workspace import Workspace

Model = Annotated[
    str,
    typer.Argument(help="network (ran) or recipe (ran-ferplus)", autocompletion=complete.networks_and_recipes),
]
Folds = Annotated[str | None, typer.Option(help="cross-validation: all, or the number of one fold")]
Subsets = Annotated[
    list[str] | None, typer.Option("--subset", help="also score this subset, e.g. pose45; repeatable; or all")
]


@command(
    "train",
    EXPERIMENTS,
    settings="train",
    flags=("init", "labels", "epochs", "patience", "global_batch --batch", "lr", "oversample", "precision", "seed"),
)
def train(
    options: Options,
    model: Model,
    data: Data = None,
    variant: Annotated[str | None, Variant] = None,
    gpus: Gpus = None,
    cpu_processes: Processes = 1,
    nodes: Annotated[int, typer.Option(min=1, help="number of machines, each started by torchrun or Slurm")] = 1,
    folds: Folds = None,
    pretrained_part: Annotated[
        str | None,
        typer.Option(
            "--pretrained-part",
            help="run of the pretrained part: of rasnet for man, of amg for ws-lgrn (default: the latest)",
            autocompletion=complete.runs,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue a stopped run")] = False,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run (default: the next free name)")] = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Train a network (faces → run.h5)."""
    from fertool.stages import train as stage
    from fertool.stages.train import folds as train_folds
    from fertool.training.devices import choose

    space = Workspace(workspace)
    faces = space.faces(data)
    recipe = recipes.of_training(model, options.recipe_name, faces)
    settings = options.settings(recipe)
    if recipe.pretraining and not resume and settings.init is None:
        console.say(f"note: the paper starts from a run of {recipe.pretraining}: --init RUN, or fertool run")
    runs = train_folds.run(
        faces,
        stage.each_fold(settings, folds, space.beside(faces, "subsets")),
        devices=choose(gpus, cpu_processes, nodes),
        workspace=space,
        regions=space.beside(faces, "regions"),
        subsets=space.beside(faces, "subsets"),
        masks=space.beside(faces, "masks"),
        pretrained_part=space.run(pretrained_part) if pretrained_part else None,
        recipe=recipe.name,
        variant=variant or "",
        out=out,
        resume=None if resume and folds == "all" else resume,  # some folds may not have begun
        overwrite=overwrite,
    )
    summaries = [stage.summary(run) for run in runs]
    if len(summaries) == 1:
        return summaries[0]
    console.say("fertool eval --folds scores them together")
    return {"folds": summaries}


@command(
    "eval",
    EXPERIMENTS,
    settings="eval",
    flags=("split", "weights", "batch", "precision", "crop_repeats", "paper", "by"),
)
def evaluate(
    options: Options,
    run: Runs = None,
    data: Annotated[
        str | None, typer.Option(help="other faces than those of the training", autocompletion=complete.data)
    ] = None,
    subset: Subsets = None,
    regions: Annotated[Path | None, typer.Option(help="other regions than the run's, e.g. more random crops")] = None,
    folds: Annotated[bool, typer.Option("--folds", help="score all folds of each cross-validation together")] = False,
    average: Annotated[bool, typer.Option("--average", help="mean accuracy over datasets, one run on each")] = False,
    fuse: Annotated[bool, typer.Option("--fuse", help="also score the mean of the runs' probabilities")] = False,
    latency: Annotated[bool, typer.Option("--latency", help="also measure the time per face at batch 1")] = False,
    classes: Annotated[bool, typer.Option("--classes", help="also print classes and confusions per subset")] = False,
    csv: Annotated[Path | None, typer.Option(help="also write the scores as a CSV file")] = None,
    gpus: Gpus = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    workspace: Space = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Evaluate runs (→ predictions.h5), beside the paper's numbers."""
    from fertool.evaluation import paper_results
    from fertool.stages.evaluate import pairs, scores
    from fertool.training.devices import choose

    space, settings, devices = Workspace(workspace), options.settings(), choose(gpus)
    where = executors.choose(executor, ray_address)
    folders = [space.run(name) for name in run] if run else [space.run()]
    if settings.paper:
        paper_results.load(settings.paper)  # which raises if it cannot be read
    of_expressions = {
        "--subset": subset,
        "--folds": folds,
        "--average": average,
        "--fuse": fuse,
        "--classes": classes,
        "--crop-repeats": options.flags["crop_repeats"],
        "--by": settings.by,
    }
    of_subjects = pairs.applies(folders)
    if of_subjects and (given := [flag for flag, value in of_expressions.items() if value]):
        raise UsageError(f"{given[0]} is for expressions, and {folders[0].name} learned subjects", "leave it out")
    if average:
        if subset or fuse or latency or data or folds or regions or csv or settings.by or options.flags["split"]:
            raise UsageError("--average scores every run on its own split", "of the options of eval add --run only")
        facts = scores.average(folders, settings=settings, devices=devices, executor=where)
        scores.report_average(facts)
        return facts
    if folds:
        if subset or fuse or latency or data or settings.by:
            raise UsageError("--folds scores whole folds", "leave out --subset, --by, --fuse, --latency and --data")
        facts = scores.cross_validation(
            folders, settings=settings, devices=devices, executor=where, overwrite=overwrite, csv=csv
        )
        scores.report_cross_validation(facts, every_class=classes)
        return facts
    faces, names = space.faces(data) if data else None, tuple(subset or ())
    for folder in folders:
        scores.check_subsets(faces or data_folder(folder) / "faces.h5", names)
        scores.check_groups(faces or data_folder(folder) / "faces.h5", settings.by)
    common = {"settings": settings, "devices": devices, "faces": faces, "regions": regions}
    every = _predictions(folders, {**common, "executor": where}, overwrite)
    first = {name: paths[0] for name, paths in every.items()}
    if of_subjects:
        facts = pairs.run(first, settings=settings, csv=csv)
    else:
        fused = tuple(first) if fuse else ()
        facts = scores.run(
            first,
            names=names,
            confidence=settings.confidence,
            fuse=fused,
            csv=csv,
            repeats=every,
            paper=settings.paper,
            by=settings.by,
        )
    if latency:
        facts["latency"] = _latency(folders, common)
    if of_subjects:
        pairs.report(facts)
    else:
        scores.report(facts, every_class=classes)
    return facts


def _predictions(folders: list[Path], common: dict[str, Any], overwrite: bool) -> dict[str, list[Path]]:
    """Return the predictions of every run, one file per sample of random crops."""
    from fertool.stages import evaluate as stage

    every = {name: stage.run_repeats(folder, **common, overwrite=overwrite) for name, folder in _named(folders).items()}
    if common["settings"].crop_repeats > 1 and not any(len(paths) > 1 for paths in every.values()):
        raise UsageError(
            "--crop-repeats samples random crops anew, and these runs have none",
            "make some: fertool crop-regions --mode random --out FILE, then add --regions FILE",
        )
    return every


def _latency(folders: list[Path], common: dict[str, Any]) -> dict[str, Any]:
    from fertool.stages import evaluate as stage

    return {name: stage.latency(folder, **common) for name, folder in _named(folders).items()}


def _named(folders: list[Path]) -> dict[str, Path]:
    """Return runs by names that tell them apart."""
    return dict(zip(distinct_names(folders), folders, strict=True))


@command("sweep", EXPERIMENTS, settings="train", flags=("epochs",))
def sweep(
    options: Options,
    model: Model,
    name: Annotated[str | None, typer.Argument(help="sweep of the recipe (default: its only one)")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION.KEY=[VALUES]", help="setting and its values; repeatable"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="number of seeds per value: mean and sd")] = 1,
    data: Data = None,
    variant: Annotated[str | None, Variant] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="train nothing: evaluate this run on other regions", autocompletion=complete.runs),
    ] = None,
    folds: Folds = None,
    crop_repeats: Annotated[
        int | None, typer.Option(min=1, help="evaluations per value, each with newly sampled random crops")
    ] = None,
    subset: Subsets = None,
    gpus: Gpus = None,
    cpu_processes: Processes = 1,
    workspace: Space = None,
) -> dict[str, Any]:
    """Train and evaluate for several values of a setting: table and curve.

    Finished trainings are not repeated.
    """
    from fertool.stages import sweep as stage
    from fertool.training.devices import choose

    space = Workspace(workspace)
    trained = space.run(run) if run else None
    faces = data_folder(trained) / "faces.h5" if trained and not data else space.faces(data)
    recipe = recipes.of_training(model, options.recipe_name, faces)
    name, axes = _axes(recipe, name, vary or [])
    if seeds > 1:
        axes = {**axes, "train.seed": list(range(seeds))}
    for_eval = [entry for entry in options.sets if recipes.section_of(entry) == "eval"]
    others = tuple(entry for entry in options.sets if entry not in for_eval)
    facts = stage.run(
        faces,
        name,
        stage.points(recipe, axes, variant=variant or "", options=options.flags, sets=others),
        recipe=recipe.name,
        variant=variant or "",
        settings=recipe.settings("eval", {"crop_repeats": crop_repeats}, for_eval),
        folds=folds or ("all" if recipe.settings("build-subsets").folds and not trained else None),
        subsets=tuple(subset or ()),
        devices=choose(gpus, cpu_processes),
        workspace=space,
        trained=trained,
    )
    stage.report(facts)
    return facts


def _axes(recipe: recipes.Recipe, name: str | None, vary: list[str]) -> tuple[str, dict[str, list[Any]]]:
    """Return the name of a sweep and the values of each setting: from the options, or from the recipe."""
    if vary:
        axes = {}
        for entry in vary:
            ((section, keys, values),) = recipes.parse_sets([entry])
            values = values if isinstance(values, list) else [values]
            if not values:
                raise UsageError(f"--vary {entry} has no values", "e.g. --vary train.lr=[0.01,0.001]")
            axes[".".join((section, *keys))] = values
        return name or "-".join(k.rpartition(".")[2] for k in axes), axes
    if name is None and len(recipe.sweeps) == 1:
        name = next(iter(recipe.sweeps))
    if name is None or name not in recipe.sweeps:
        known = ", ".join(recipe.sweeps) or "none"
        raise UsageError(
            f"which sweep? recipe {recipe.name or 'of your own'} has: {known}",
            "name one, or a setting: --vary train.model.alpha=[0.1,0.3,0.5]",
        )
    return name, dict(recipe.sweeps[name])


@command("run", EXPERIMENTS)
def run_recipe(
    recipe: Annotated[str, typer.Argument(help="recipe, see: fertool recipes", autocompletion=complete.recipes)],
    path: Annotated[Path, typer.Argument(help="folder of the dataset")],
    variant: Annotated[
        list[str] | None, typer.Option(help="train these variants instead of the recipe's; repeatable")
    ] = None,
    images: Images = None,
    lists: Lists = None,
    name: Annotated[str | None, typer.Option(help="name in the workspace (default: the folder's name)")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="DATASET=FOLDER",
            help="another dataset that the recipe pretrains on or adds to the training faces; repeatable",
        ),
    ] = None,
    gpus: Gpus = None,
    cpu_processes: Processes = 1,
    sets: Sets = None,
    workspace: Space = None,
) -> dict[str, Any]:
    """Run all stages of a recipe, and the recipes that it requires.

    Finished stages are skipped, stopped ones continue. `--set RECIPE:section.key=value` changes a required recipe.
    """
    from fertool.datasets import disk
    from fertool.stages import run_recipe as stage
    from fertool.training.devices import choose

    if wrong := [entry for entry in others or () if not all(entry.partition("="))]:
        raise UsageError(f"--with {wrong[0]} is not DATASET=FOLDER", "e.g. --with fer2013=data/fer2013")
    space = Workspace(workspace)
    disk.leave_out(space.root)
    return stage.run(
        recipes.load(recipe),
        path,
        image_folder=images,
        workspace=space,
        devices=choose(gpus, cpu_processes),
        variants=tuple(variant or ()),
        lists=lists,
        name=name,
        sets=tuple(sets or ()),
        others={dataset: Path(folder) for dataset, _, folder in (entry.partition("=") for entry in others or ())},
    )


@command("demo", EXPERIMENTS)
def demo(
    folder: Annotated[Path, typer.Argument(help="folder for images and artefacts")] = Path("fertool-demo"),
    people: Annotated[int, typer.Option(min=6, help="number of people rendered")] = 80,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="random seed of the people")] = 0,
) -> dict[str, Any]:
    """Run all seven stages on rendered faces (no data needed)."""
    from fertool.stages import demo as stage

    return stage.run(folder, people=people, seed=seed)
