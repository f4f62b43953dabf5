"""Commands that prepare data: from images to faces, masks, regions and subsets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fertool import api, console, executors
from fertool.cli import complete
from fertool.cli.app import PREPARE
from fertool.cli.command import Options, command
from fertool.cli.options import Data, ExecutorName, Images, Lists, Out, Overwrite, RayAddress, Space
from fertool.errors import UsageError
from fertool.settings import LARGEST_SEED, Synthesise
from fertool.workspace import Workspace, slug

Name = Annotated[str | None, typer.Option(help="name in the workspace (default: the folder's name)")]


@command(
    "detect-align",
    PREPARE,
    settings="detect-align",
    flags=(
        "detector",
        "landmarks",
        "sdm",
        "align",
        "template",
        "size",
        "height",
        "grey",
        "illumination",
        "pose",
        "on_no_face",
    ),
)
def detect_align(
    options: Options,
    path: Annotated[Path, typer.Argument(help="folder or table of the dataset")],
    dataset: Annotated[
        str | None,
        typer.Option(help="layout of the dataset (default: recognised)", autocompletion=complete.dataset_types),
    ] = None,
    images: Images = None,
    name: Name = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many images, spread evenly")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="number of processes (default: all cores)")] = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Detect, align and store faces (images → faces.h5)."""
    from fertool.stages import detect_align as stage

    settings = options.settings()
    source = api.dataset_at(path, dataset, images, settings, options.recipe_name, workspace)
    target = out or Workspace(workspace).path(slug(name or path.resolve().name), "faces")
    made = stage.run(
        source,
        settings=settings,
        out=target,
        overwrite=overwrite,
        workers=workers,
        limit=limit,
        executor=executors.choose(executor, ray_address),
    )
    return _close(stage, made) | {"notes": [str(problem) for problem in source.problems()]}


@command("fit-sdm", PREPARE, settings="fit-sdm", flags=("mirror", "perturbations", "seed"))
def fit_sdm(
    options: Options,
    paths: Annotated[
        list[Path], typer.Argument(help="folders of images with .pts files, or faces.h5 files with landmarks")
    ],
    out: Annotated[Path, typer.Option(help="output file")] = Path("landmarks.h5"),
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Train a landmark model (images or faces with landmarks → landmarks.h5)."""
    from fertool.stages import fit_sdm as stage

    return _close(stage, stage.run(paths, settings=options.settings(), out=out, overwrite=overwrite))


@command("make-masks", PREPARE, settings="make-masks", flags=("grid", "region_size_order"))
def make_masks(
    options: Options,
    data: Data = None,
    preview: Annotated[Path | None, typer.Option(help="also draw the masks of some faces into this image")] = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Make MAN's region masks, and AMG's attribute groups (faces → masks.h5)."""
    from fertool.stages import make_masks as stage

    made = api.make_masks(
        data, workspace=workspace, out=out, settings=options.settings(), preview=preview, overwrite=overwrite
    )
    return _close(stage, made)


@command(
    "crop-regions",
    PREPARE,
    settings="crop-regions",
    flags=("mode", "ratio_scale", "random_n", "landmark_radius", "materialize", "seed"),
)
def crop_regions(
    options: Options,
    data: Data = None,
    preview: Annotated[Path | None, typer.Option(help="also draw the regions of some faces into this image")] = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Choose the regions of every face (faces → regions.h5)."""
    from fertool.stages import crop_regions as stage

    made = api.crop_regions(
        data, workspace=workspace, out=out, settings=options.settings(), preview=preview, overwrite=overwrite
    )
    return _close(stage, made)


@command("build-subsets", PREPARE, settings="build-subsets", flags=("pose_source", "folds", "fold_scheme"))
def build_subsets(
    options: Options,
    data: Data = None,
    lists: Lists = None,
    occlusion_table: Annotated[Path | None, typer.Option(help="CSV file with the columns id,type")] = None,
    preview: Annotated[
        Path | None, typer.Option(help="also draw the strongest disagreements of lists and estimated pose")
    ] = None,
    synthesise: Annotated[
        bool, typer.Option("--synthesise", help="instead: occlude the test faces → dataset NAME-occluded")
    ] = False,
    severity: Annotated[
        list[float] | None, typer.Option(help="with --synthesise: covered fraction of the face; repeatable")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="with --synthesise: at most this many faces")] = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Make test subsets and folds (faces, lists, pose → subsets.h5), or occluded faces."""
    from fertool.stages import build_subsets as stage

    if synthesise:
        if lists or occlusion_table or preview or any(v is not None for v in options.flags.values()):
            raise UsageError("--synthesise takes no lists, poses or folds", "run it by itself")
        given = {"severities": tuple(severity) if severity else None, "limit": limit}
        settings = options.recipe.settings("synthesise", given, options.sets)
        where = executors.choose(executor, ray_address)
        return _synthesise(Workspace(workspace), data, settings, out, where, overwrite)
    if severity or limit or executor or ray_address:
        raise UsageError("--severity, --limit and --executor belong to --synthesise", "add --synthesise")
    made = api.build_subsets(
        data,
        lists=lists,
        occlusion_table=occlusion_table,
        workspace=workspace,
        out=out,
        settings=options.settings(),
        preview=preview,
        overwrite=overwrite,
    )
    return _close(stage, made)


def _synthesise(
    space: Workspace,
    data: str | None,
    settings: Synthesise,
    out: Path | None,
    executor: executors.Executor,
    overwrite: bool,
) -> dict[str, Any]:
    from fertool.stages import synthesise_occlusion as stage

    faces = space.faces(data)
    folder = faces.parent if faces.parent.name else faces.parent.resolve()
    target = out or folder.with_name(f"{folder.name}-occluded") / "faces.h5"
    return _close(stage, stage.run(faces, settings=settings, out=target, executor=executor, overwrite=overwrite))


@command("suggest-occlusion", PREPARE, settings="suggest-occlusion", flags=("split", "min_probability", "seed"))
def suggest_occlusion(
    options: Options,
    data: Data = None,
    learn_from: Annotated[
        str | None,
        typer.Option(
            help="train the classifier on these faces (default: the network of the package)",
            autocompletion=complete.data,
        ),
    ] = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="CSV file (default: occlusion.csv beside the faces)")] = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Suggest occlusion types to review (faces → occlusion.csv, occlusion.html)."""
    from fertool.stages import suggest_occlusion as stage

    space = Workspace(workspace)
    settings = options.settings()
    faces = space.faces(data)
    teacher = space.faces(learn_from) if learn_from else None
    target = out or faces.with_name("occlusion.csv")
    made = stage.run(
        faces,
        settings=settings,
        out=target,
        learn_from=teacher,
        executor=executors.choose(executor, ray_address),
        overwrite=overwrite,
    )
    return _close(stage, made)


@command("combine", PREPARE)
def combine(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[:SPLITS]...",
            help="datasets; with splits, only these, all of them for training",
            autocompletion=complete.data,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="name in the workspace (default: all names)")] = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Combine the faces of several datasets (faces → faces.h5)."""
    from fertool.stages import combine as stage

    space = Workspace(workspace)
    sources = []
    for entry in data:
        known, _, splits = entry.partition(":")
        faces = space.faces(known)
        sources.append(stage.Source(faces, faces.parent.name, tuple(splits.split(",")) if splits else None))
    target = out or space.path(slug(name or "-".join(s.name for s in sources)), "faces")
    return _close(stage, stage.run(sources, out=target, overwrite=overwrite))


@command("render", PREPARE)
def render(
    folder: Annotated[Path, typer.Argument(help="folder for the images")],
    people: Annotated[int, typer.Option(min=3, help="number of people")] = 40,
    per_person: Annotated[int, typer.Option(min=1, help="images of each of them")] = 21,
    mixed: Annotated[
        int, typer.Option(min=0, help="further unlabelled images of each, eyes and mouth of different expressions")
    ] = 0,
    size: Annotated[int, typer.Option(min=32, help="side of an image in pixels")] = 160,
    occluded: Annotated[float, typer.Option(min=0, max=1, help="share of the images with an occluder")] = 0.25,
    turned: Annotated[float, typer.Option(min=0, max=1, help="share of the images with yaw up to 75°")] = 0.2,
    varied: Annotated[
        bool, typer.Option("--varied", help="show expressions in further ways too: speaking, shouting, crying")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="random seed")] = 0,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Render labelled faces (no data needed)."""
    from fertool.stages import render as stage

    numbers = {"people": people, "per_person": per_person, "mixed": mixed, "size": size, "seed": seed}
    made = stage.run(folder, **numbers, occluded=occluded, turned=turned, varied=varied, overwrite=overwrite)
    return _close(stage, made)


def _close(stage: Any, made: Path) -> dict[str, Any]:
    """Print the summary of a stage's output and return it."""
    facts = stage.summary(made)
    stage.report(facts)
    console.say(f"→ {made}")
    return {"out": str(made), **facts}
