"""Commands that train and measure, and those that walk a whole recipe."""

from pathlib import Path
from typing import Annotated

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli.common import RUNS, Data, Gpus, Images, Overwrite, RecipeName, Runs, Sets, Space, command, setting
from fertool.errors import UsageError, nearest
from fertool.settings import LARGEST_SEED, Evaluate, Train
from fertool.workspace import Workspace

Processes = Annotated[int, typer.Option("--cpu-processes", min=1, help="processes on the CPU, where there is no GPU")]


@command("train", RUNS)
def train(
    model: Annotated[str, typer.Argument(help="a network (ran) or a recipe (ran-ferplus)")],
    data: Data = None,
    variant: Annotated[str | None, typer.Option(help="baseline or ablation, see: fertool models NAME")] = None,
    init: setting(Train, "init") = None,
    labels: setting(Train, "labels") = None,
    epochs: setting(Train, "epochs") = None,
    batch: setting(Train, "global_batch", "--batch") = None,
    lr: setting(Train, "lr") = None,
    oversample: setting(Train, "oversample") = None,
    precision: setting(Train, "precision") = None,
    seed: setting(Train, "seed") = None,
    gpus: Gpus = None,
    cpu_processes: Processes = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help="machines, each started with this command by torchrun or Slurm")
    ] = 1,
    folds: Annotated[
        str | None, typer.Option(help="cross-validation: all, or the number of one fold of build-subsets")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="the run it stands on (man: of rasnet, ws-lgrn: of amg); default: the latest")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run that was stopped")] = False,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; default: the next free name")] = None,
    overwrite: Overwrite = False,
):
    """Train a network on the faces (run.h5)."""
    from fertool import artefact
    from fertool.stages import train as stage
    from fertool.stages.train import folds as train_folds
    from fertool.training.devices import choose

    space = Workspace(workspace)
    faces = space.faces(data)
    chosen = _recipe(model, recipe, artefact.read(faces, "faces").params.get("dataset", ""))
    options = {
        "init": init, "labels": labels, "epochs": epochs, "global_batch": batch, "lr": lr, "oversample": oversample,
        "precision": precision, "seed": seed,
    }  # fmt: skip
    settings = chosen.settings("train", options, sets or ())
    if chosen.pretraining and not resume and settings.init is None:
        console.say(f"note: in the paper this starts from a run of {chosen.pretraining}: --init RUN, or fertool run")
    each = stage.each_fold(settings, folds, space.beside(faces, "subsets"))
    made = train_folds.run(
        faces,
        each,
        devices=choose(gpus, cpu_processes, nodes),
        workspace=space,
        regions=space.beside(faces, "regions"),
        subsets=space.beside(faces, "subsets"),
        masks=space.beside(faces, "masks"),
        part=space.run(part) if part else None,
        recipe=chosen.name,
        variant=variant or "",
        out=out,
        resume=None if resume and folds == "all" else resume,  # some folds may not have begun
        overwrite=overwrite,
    )
    found = [stage.summary(m) for m in made]
    if len(found) == 1:
        return found[0]
    console.say("fertool eval --folds scores them together")
    return {"folds": found}


def _recipe(model: str, recipe: str | None, dataset: str) -> recipes.Recipe:
    """The recipe meant by `fertool train MODEL`: named by option or argument, else the network's for this data set."""
    from fertool.models.registry import MODELS

    if model in recipes.names() or model.endswith((".yaml", ".yml")):
        if recipe:
            raise UsageError(f"two recipes: {model} and {recipe}", "name one of them, or a network and a recipe")
        return recipes.load(model)
    if model not in MODELS:
        raise UsageError(
            f"{model!r} is neither a network nor a recipe",
            nearest(model, MODELS if "-" not in model else (*MODELS, *recipes.names())) + "; see: fertool recipes",
        )
    if recipe:
        return recipes.load(recipe).with_model(model)
    name = f"{model}-{dataset}"
    if name in recipes.names():
        console.say(f"recipe {name}")
        return recipes.load(name)
    console.say(f"no recipe for {model} on these faces: the paper's settings")
    return recipes.load(None).with_model(model)


@command("eval", RUNS)
def evaluate(
    run: Runs = None,
    data: Annotated[str | None, typer.Option(help="other faces than the run was trained on")] = None,
    subset: Annotated[
        list[str] | None, typer.Option(help="score this subset too, e.g. pose45; repeatable; or all")
    ] = None,
    split: setting(Evaluate, "split") = None,
    weights: setting(Evaluate, "weights") = None,
    batch: setting(Evaluate, "batch") = None,
    precision: setting(Evaluate, "precision") = None,
    draws: setting(Evaluate, "draws") = None,
    regions: Annotated[Path | None, typer.Option(help="other regions than the run's, e.g. more random crops")] = None,
    folds: Annotated[
        bool, typer.Option("--folds", help="score each run together with the other folds of its cross-validation")
    ] = False,
    average: Annotated[
        bool, typer.Option("--average", help="the mean accuracy of runs on several datasets, one run on each")
    ] = False,
    fuse: Annotated[bool, typer.Option("--fuse", help="also score the mean of the runs' probabilities")] = False,
    latency: Annotated[bool, typer.Option("--latency", help="also measure the time per face at batch 1")] = False,
    classes: Annotated[
        bool, typer.Option("--classes", help="also print classes and confusions of every subset")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="also write the scores as a CSV file")] = None,
    gpus: Gpus = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    overwrite: Overwrite = False,
):
    """Score runs, beside the paper's numbers."""
    from fertool.stages import evaluate as stage
    from fertool.stages.evaluate import pairs, scores
    from fertool.training.devices import choose

    space = Workspace(workspace)
    folders = [space.run(name) for name in run] if run else [space.run()]
    options = {"split": split, "weights": weights, "batch": batch, "precision": precision, "draws": draws}
    settings = recipes.load(recipe).settings("eval", options, sets or ())
    devices = choose(gpus)
    faces = space.faces(data) if data else None
    names = tuple(subset or ())
    verified = pairs.applies(folders)
    asked = {"subset": subset, "folds": folds, "average": average, "fuse": fuse, "classes": classes, "draws": draws}
    if verified and (odd := [name for name, value in asked.items() if value]):
        raise UsageError(
            f"--{odd[0]} is for networks that learn expressions, and {folders[0].name} learnt subjects", "leave it out"
        )
    if average:
        if subset or fuse or latency or data or folds or regions or csv or split:
            raise UsageError("--average scores every run on its own split", "of the options of eval add --run only")
        facts = scores.average(space, folders, settings=settings, devices=devices)
        scores.report_average(facts)
        return facts
    if folds:
        if subset or fuse or latency or data:
            raise UsageError("--folds scores whole folds", "leave out --subset, --fuse, --latency and --data")
        facts = scores.cross_validation(
            space, folders, settings=settings, devices=devices, overwrite=overwrite, csv=csv
        )
        scores.report_cross_validation(facts, every_class=classes)
        return facts
    for folder in folders:
        scores.check_subsets(faces or folder.parent.parent / "faces.h5", names)
    every = {
        name: stage.draws(folder, settings=settings, devices=devices, faces=faces, regions=regions, overwrite=overwrite)
        for name, folder in _named(folders).items()
    }
    if settings.draws > 1 and not any(len(paths) > 1 for paths in every.values()):
        raise UsageError(
            "--draws repeats random crops, and these runs have none",
            "make some: fertool crop-regions --mode random --out FILE, then add --regions FILE",
        )
    predictions = {name: paths[0] for name, paths in every.items()}
    fused = tuple(predictions) if fuse else ()
    if verified:
        facts = pairs.run(predictions, settings=settings, csv=csv)
    else:
        facts = scores.run(predictions, names=names, confidence=settings.confidence, fuse=fused, csv=csv, draws=every)
    if latency:
        facts["latency"] = {
            name: stage.latency(folder, settings=settings, devices=devices, faces=faces, regions=regions)
            for name, folder in _named(folders).items()
        }
    if verified:
        pairs.report(facts)
    else:
        scores.report(facts, every_class=classes)
    return facts


def _named(folders: list[Path]) -> dict[str, Path]:
    """Runs by name; by data set and name where two data sets have runs of one name."""
    names = [f.name for f in folders]
    return {f.name if names.count(f.name) == 1 else f"{f.parent.parent.name}/{f.name}": f for f in folders}


@command("sweep", RUNS)
def sweep(
    model: Annotated[str, typer.Argument(help="a network (ran) or a recipe (lnlattennet-rafdb)")],
    name: Annotated[str | None, typer.Argument(help="a sweep of the recipe; default: its only one")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION.KEY=[VALUES]", help="a setting and the values it takes; repeatable"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="train each with so many seeds: mean and sd")] = 1,
    data: Data = None,
    variant: Annotated[str | None, typer.Option(help="baseline or ablation, see: fertool models NAME")] = None,
    run: Annotated[str | None, typer.Option("--run", help="train nothing: score this run on other regions")] = None,
    folds: Annotated[
        str | None,
        typer.Option(help="cross-validation of every point: all, or the number of one fold; default: as the recipe"),
    ] = None,
    draws: setting(Evaluate, "draws") = None,
    subset: Annotated[
        list[str] | None, typer.Option(help="score this subset too, e.g. pose45; repeatable; or all")
    ] = None,
    epochs: setting(Train, "epochs") = None,
    gpus: Gpus = None,
    cpu_processes: Processes = 1,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
):
    """Train and score for several values of a setting: table and curve.

    What is there already is not trained again."""
    from fertool import artefact
    from fertool.stages import sweep as stage
    from fertool.training.devices import choose

    space = Workspace(workspace)
    trained = space.run(run) if run else None
    faces = trained.parent.parent / "faces.h5" if trained and not data else space.faces(data)
    chosen = _recipe(model, recipe, artefact.read(faces, "faces").params.get("dataset", ""))
    name, axes = _axes(chosen, name, vary or [])
    if seeds > 1:
        axes = {**axes, "train.seed": list(range(seeds))}
    scoring = [s for s in sets or () if recipes.section_of(s) == "eval"]
    rest = tuple(s for s in sets or () if s not in scoring)
    facts = stage.run(
        faces,
        name,
        stage.points(chosen, axes, variant=variant or "", options={"epochs": epochs}, sets=rest),
        recipe=chosen.name,
        variant=variant or "",
        settings=chosen.settings("eval", {"draws": draws}, scoring),
        folds=folds or ("all" if chosen.settings("build-subsets").folds and not trained else None),
        subsets=tuple(subset or ()),
        devices=choose(gpus, cpu_processes),
        workspace=space,
        trained=trained,
    )
    stage.report(facts)
    return facts


def _axes(recipe: recipes.Recipe, name: str | None, vary: list[str]) -> tuple[str, dict[str, list]]:
    """What is varied, with the name it is kept under: what the options say, or a sweep of the recipe."""
    if vary:
        axes = {}
        for entry in vary:
            ((section, keys, values),) = recipes.parse_sets([entry])
            values = values if isinstance(values, list) else [values]
            if not values:
                raise UsageError(f"--vary {entry}: there is no value to take", "e.g. --vary train.lr=[0.01,0.001]")
            axes[".".join((section, *keys))] = values
        return name or "-".join(k.rpartition(".")[2] for k in axes), axes
    known = ", ".join(recipe.sweeps) or "none"
    if name is None and len(recipe.sweeps) == 1:
        name = next(iter(recipe.sweeps))
    if name not in recipe.sweeps:
        raise UsageError(
            f"which sweep? recipe {recipe.name or 'of your own'} has: {known}",
            "name one, or say what to vary: --vary train.model.alpha=[0.1,0.3,0.5]",
        )
    return name, dict(recipe.sweeps[name])


@command("run", RUNS)
def run_recipe(
    recipe: Annotated[str, typer.Argument(help="a recipe, see: fertool recipes")],
    path: Annotated[Path, typer.Argument(help="folder of the data set")],
    variant: Annotated[list[str] | None, typer.Option(help="train these instead of the recipe's; repeatable")] = None,
    images: Images = None,
    lists: Annotated[Path | None, typer.Option(help="folder of RAN's released lists, for the subsets")] = None,
    name: Annotated[str | None, typer.Option(help="its name in the workspace; default: the folder's name")] = None,
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
):
    """Walk all stages of a recipe on a dataset, and before them the recipes that it needs.

    What is up to date is skipped, what was stopped goes on. `--set RECIPE:section.key=value` changes a recipe that is
    run before this one."""
    from fertool.datasets import disk
    from fertool.stages import run_recipe
    from fertool.training.devices import choose

    if odd := [entry for entry in others or () if not all(entry.partition("="))]:
        raise UsageError(f"--with {odd[0]} does not name a dataset and its folder", "e.g. --with fer2013=data/fer2013")
    space = Workspace(workspace)
    disk.leave_out(space.root)
    return run_recipe.run(
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


@command("demo", RUNS)
def demo(
    folder: Annotated[Path, typer.Argument(help="where the demo keeps its pictures and artefacts")] = Path(
        "fertool-demo"
    ),
    people: Annotated[int, typer.Option(min=6, help="how many people are rendered")] = 80,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="another seed renders other people")] = 0,
):
    """All seven stages on rendered faces, no data needed."""
    from fertool.stages import demo as stage

    return stage.run(folder, people=people, seed=seed)
