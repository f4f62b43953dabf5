"""Commands for what a finished run is good for: pictures of what it learnt, and its use on other photographs."""

from pathlib import Path
from typing import Annotated

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli.frame import SHOW, RecipeName, Runs, Sets, Space, command, setting
from fertool.errors import UsageError
from fertool.figures import KINDS, OF_FACES
from fertool.settings import Report, Visualize
from fertool.workspace import Workspace


@command("visualize", SHOW)
def visualize(
    kind: Annotated[str, typer.Argument(help="; ".join(f"{k}: {v}" for k, v in KINDS.items()))],
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
