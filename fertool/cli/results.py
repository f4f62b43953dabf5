"""Commands that use a finished run: figures, report, prediction, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fertool import console, executors, plugins
from fertool.cli import complete
from fertool.cli.app import RESULTS
from fertool.cli.command import Options, command
from fertool.cli.options import Data, ExecutorName, Gpus, Overwrite, RayAddress, Run, Runs, Space
from fertool.errors import UsageError
from fertool.workspace import Workspace


@command(
    "visualize",
    RESULTS,
    settings="visualize",
    flags=(
        "faces",
        "ids --id",
        "by",
        "images",
        "target",
        "layer",
        "region_weights",
        "weights",
        "patches --patch",
        "counts",
        "paper",
        "dpi",
        "formats --format",
    ),
    choices=plugins.built_in_figures(),
)
def visualize(
    options: Options,
    kind: Annotated[
        str,
        typer.Argument(help="figure, see below, or one of your own: FILE.py:FUNCTION", autocompletion=complete.figures),
    ],
    run: Runs = None,
    data: Annotated[
        str | None,
        typer.Option(help="for figures of faces without a run: dataset or faces.h5", autocompletion=complete.data),
    ] = None,
    subset: Annotated[str | None, typer.Option(help="only faces of this subset")] = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="folder for the figures (default: figures/ of the run)")] = None,
) -> dict[str, Any]:
    """Draw figures of runs and faces (→ figures/, figures.h5)."""
    from fertool.stages import visualize as stage

    space = Workspace(workspace)
    if data and run:
        raise UsageError("--data and --run exclude one another", "leave out --data: a run names its faces")
    if data or (not run and not space.runs() and stage.can_draw_faces(kind)):
        folders = [space.faces(data)]
    else:
        folders = [space.run(name) for name in run] if run else [space.run()]
    files = stage.run(kind, folders, settings=options.settings(), out_dir=out, subset=subset)
    for file in files:
        console.say(f"→ {file}")
    return {"files": [str(f) for f in files]}


@command("report", RESULTS, settings="report", flags=("mistakes", "confidence", "paper", "by"))
def report(
    options: Options,
    run: Runs = None,
    gpus: Gpus = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="HTML file (default: report.html in the run's folder)")] = None,
) -> dict[str, Any]:
    """Write an HTML page of one run, or of several side by side (report.html).

    Runs without predictions are evaluated first.
    """
    from fertool.stages import report as stage
    from fertool.training.devices import choose

    space, settings = Workspace(workspace), options.settings()
    folders = [space.run(name) for name in run] if run else [space.run()]
    stage.evaluate_missing(folders, choose(gpus))
    facts = stage.summary(stage.run(folders, settings=settings, out=out))
    stage.report(facts)
    return facts


@command("board", RESULTS, settings="eval", flags=("split", "weights", "confidence", "paper"))
def board(
    options: Options,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            help="name or folder of a run; repeatable (default: all of the dataset)",
            autocompletion=complete.runs,
        ),
    ] = None,
    data: Data = None,
    subset: Annotated[
        list[str] | None, typer.Option("--subset", help="also score this subset, e.g. pose45; repeatable; or all")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="system or run that all others are compared with (default: each network's own baseline)"),
    ] = None,
    gpus: Gpus = None,
    workspace: Space = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for board.md, board.json, board.csv and figures (default: none)")
    ] = None,
) -> dict[str, Any]:
    """Compare systems over several seeds: intervals, paired tests, the paper's claims.

    Runs that differ by their seed alone are one system. Runs of other faces, labels, splits or subsets get a table of
    their own; unfinished ones are listed with the reason.
    """
    from fertool.evaluation import paper_results
    from fertool.stages import board as stage
    from fertool.training.devices import choose

    space, settings = Workspace(workspace), options.settings()
    if settings.paper:
        paper_results.load(settings.paper)  # which raises if it cannot be read
    folders = [space.run(name) for name in run] if run else space.runs(space.faces(data).parent.name)
    facts = stage.run(
        folders,
        settings=settings,
        devices=choose(gpus),
        subsets=tuple(subset or ()),
        baseline=baseline or "",
        out=out,
    )
    stage.report(facts)
    return facts


@command(
    "predict",
    RESULTS,
    settings="predict",
    flags=(
        "frame_step",
        "time_step",
        "track",
        "smooth",
        "pose",
        "landmarks",
        "detector",
        "min_score",
        "on_no_face",
        "sdm",
        "weights",
        "batch",
        "precision",
    ),
)
def predict(
    options: Options,
    source: Annotated[list[str], typer.Argument(help="images, folders, videos, or the number of a camera (0)")],
    run: Annotated[
        str | None,
        typer.Option(
            help="name or folder of a run, or an exported .safetensors or .onnx (default: the latest)",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for predictions.csv and drawn images (default: CSV on stdout)")
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="also write the images with faces framed and labelled")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="also write predictions.parquet")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="processes that find faces (default: all cores for 32 pictures or more, else none)"),
    ] = None,
    gpus: Gpus = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    workspace: Space = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Predict the expression of every face in images, videos or a camera."""
    from fertool.stages import predict as stage
    from fertool.training import checkpoint
    from fertool.training.devices import choose

    settings = options.settings()
    if run and checkpoint.is_exported(run):
        network = checkpoint.of_file(Path(run))
    else:
        network = checkpoint.of_run(Workspace(workspace).run(run), settings.weights)
    facts = stage.run(
        source,
        network,
        settings=settings,
        devices=choose(gpus),
        executor=executors.choose(executor, ray_address),
        out=out,
        draw=draw,
        parquet=parquet,
        workers=workers,
        overwrite=overwrite,
    )
    stage.report(facts)
    return facts


@command("export", RESULTS, settings="export", flags=("weights", "opset", "by"))
def export(
    options: Options,
    run: Run = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="safetensors or onnx; repeatable (default: both)")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="also write a model card (README.md)")] = False,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="folder for the files (default: the run's)")] = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Export a run as safetensors and ONNX, with classes, preprocessing and licences; a model card with `--card`."""
    from fertool.stages import export as stage
    from fertool.training import checkpoint

    settings = options.settings()
    folder = Workspace(workspace).run(run)
    if settings.by and not card:
        raise UsageError("--by groups the faces of the model card", "add --card")
    files = stage.run(
        checkpoint.of_run(folder, settings.weights),
        folder,
        settings=settings,
        formats=tuple(formats or stage.FORMATS),
        with_card=card,
        out=out or folder,
        overwrite=overwrite,
    )
    facts = stage.summary(files)
    stage.report(facts)
    return facts
