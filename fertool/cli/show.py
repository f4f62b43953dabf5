"""Commands for what a finished run is good for: pictures of what it learnt, and its use on other photographs."""

from pathlib import Path
from typing import Annotated

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli.common import SHOW, Gpus, Overwrite, RecipeName, Runs, Sets, Space, command, setting
from fertool.errors import UsageError
from fertool.figures import KINDS, OF_FACES
from fertool.settings import Export, Predict, Report, Visualize
from fertool.workspace import Workspace


@command("visualize", SHOW, choices=KINDS)
def visualize(
    kind: Annotated[str, typer.Argument(help="what to draw, see below")],
    run: Runs = None,
    data: Annotated[
        str | None, typer.Option(help="for pictures of faces alone, instead of a run: data set or faces.h5 file")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="only faces of this subset")] = None,
    faces: setting(Visualize, "faces") = None,
    face: Annotated[
        list[str] | None, typer.Option("--id", help="draw this face instead of chosen ones; repeatable")
    ] = None,
    by: setting(Visualize, "by") = None,
    photos: setting(Visualize, "photos") = None,
    target: setting(Visualize, "target") = None,
    layer: setting(Visualize, "layer") = None,
    region_weights: setting(Visualize, "region_weights") = None,
    weights: setting(Visualize, "weights") = None,
    patch: Annotated[
        list[int] | None, typer.Option(help="obscure: number of a patch that is obscured, from 1; repeatable")
    ] = None,
    counts: setting(Visualize, "counts") = None,
    paper: setting(Visualize, "paper") = None,
    dpi: setting(Visualize, "dpi") = None,
    formats: Annotated[list[str] | None, typer.Option("--format", help="png, pdf or svg; repeatable")] = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the pictures; default: figures/ of the run or data set")
    ] = None,
):
    """Draw what a run learnt and where it looks."""
    from fertool.stages import visualize as stage

    space = Workspace(workspace)
    if data and run:
        raise UsageError("--data and --run are named together", "a run brings its faces with it: leave out --data")
    if data or (kind in OF_FACES and not run and not space.runs()):
        folders = [space.faces(data)]
    else:
        folders = [space.run(name) for name in run] if run else [space.run()]
    options = {
        "faces": faces,
        "ids": tuple(face) if face else None,
        "by": by,
        "photos": photos,
        "target": target,
        "layer": layer,
        "region_weights": region_weights,
        "weights": weights,
        "patches": tuple(patch) if patch else None,
        "counts": counts,
        "paper": paper,
        "dpi": dpi,
        "formats": tuple(formats) if formats else None,
    }
    settings = recipes.load(recipe).settings("visualize", options, sets or ())
    files = stage.run(kind, folders, settings=settings, out_dir=out, subset=subset)
    for file in files:
        console.say(f"→ {file}")
    return {"files": [str(f) for f in files]}


@command("report", SHOW)
def report(
    run: Runs = None,
    mistakes: setting(Report, "mistakes") = None,
    confidence: setting(Report, "confidence") = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="the page; default: report.html in the run's folder")] = None,
):
    """Make a page of one run, or of several beside one another (report.html)."""
    from fertool.stages import report as stage

    space = Workspace(workspace)
    folders = [space.run(name) for name in run] if run else [space.run()]
    settings = recipes.load(recipe).settings("report", {"mistakes": mistakes, "confidence": confidence}, sets or ())
    facts = stage.summary(stage.run(folders, settings=settings, out=out))
    stage.report(facts)
    return facts


@command("predict", SHOW)
def predict(
    source: Annotated[list[str], typer.Argument(help="photographs, folders, films, or the number of a camera (0)")],
    run: Annotated[
        str | None, typer.Option(help="a run's name or folder, or an exported .safetensors; default: the latest")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for predictions.csv and what is drawn; default: CSV on stdout")
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="also write the pictures, faces framed and labelled")] = False,
    every: setting(Predict, "every") = None,
    detector: setting(Predict, "detector") = None,
    min_score: setting(Predict, "min_score") = None,
    missed: setting(Predict, "missed") = None,
    sdm: setting(Predict, "sdm") = None,
    weights: setting(Predict, "weights") = None,
    batch: setting(Predict, "batch") = None,
    precision: setting(Predict, "precision") = None,
    gpus: Gpus = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    overwrite: Overwrite = False,
):
    """Say the expression of every face in photographs, films or what a camera sees."""
    from fertool.stages import predict as stage
    from fertool.training import checkpoint
    from fertool.training.devices import choose

    options = {
        "every": every, "detector": detector, "min_score": min_score, "missed": missed, "sdm": sdm, "weights": weights,
        "batch": batch, "precision": precision,
    }  # fmt: skip
    settings = recipes.load(recipe).settings("predict", options, sets or ())
    if run and run.endswith(".safetensors"):
        network = checkpoint.of_file(Path(run))
    else:
        network = checkpoint.of_run(Workspace(workspace).run(run), settings.weights)
    facts = stage.run(source, network, settings=settings, devices=choose(gpus), out=out, draw=draw, overwrite=overwrite)
    stage.report(facts)
    return facts


@command("export", SHOW)
def export(
    run: Annotated[str | None, typer.Option(help="a run's name or folder; default: the latest")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="safetensors or onnx; repeatable; default: both")
    ] = None,
    weights: setting(Export, "weights") = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="folder for the files; default: the run's")] = None,
    overwrite: Overwrite = False,
):
    """Write a run's network as safetensors and ONNX, with classes, preprocessing and licences inside."""
    from fertool.stages import export as stage
    from fertool.training import checkpoint

    settings = recipes.load(recipe).settings("export", {"weights": weights}, sets or ())
    folder = Workspace(workspace).run(run)
    files = stage.run(
        checkpoint.of_run(folder, settings.weights),
        settings=settings,
        formats=tuple(formats or stage.FORMATS),
        out=out or folder,
        overwrite=overwrite,
    )
    facts = stage.summary(files)
    stage.report(facts)
    return facts
