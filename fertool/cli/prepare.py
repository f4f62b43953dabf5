"""Commands from photographs to faces, masks, regions and subsets."""

from pathlib import Path
from typing import Annotated

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli.common import PREPARE, Data, Images, Out, Overwrite, RecipeName, Sets, Space, command, setting
from fertool.errors import UsageError
from fertool.settings import (
    LARGEST_SEED,
    BuildSubsets,
    CropRegions,
    DetectAlign,
    FitSdm,
    MakeMasks,
    SuggestOcclusion,
    Synthesise,
)
from fertool.workspace import Workspace, slug


@command("detect-align", PREPARE)
def detect_align(
    path: Annotated[Path, typer.Argument(help="folder (or table) of the data set")],
    dataset: Annotated[str | None, typer.Option(help="what it is; default: recognised by its layout")] = None,
    images: Images = None,
    name: Annotated[str | None, typer.Option(help="its name in the workspace; default: the folder's name")] = None,
    detector: setting(DetectAlign, "detector") = None,
    landmarks: setting(DetectAlign, "landmarks") = None,
    sdm: setting(DetectAlign, "sdm") = None,
    align: setting(DetectAlign, "align") = None,
    template: setting(DetectAlign, "template") = None,
    size: setting(DetectAlign, "size") = None,
    height: setting(DetectAlign, "height") = None,
    grey: setting(DetectAlign, "grey") = None,
    illumination: setting(DetectAlign, "illumination") = None,
    pose: setting(DetectAlign, "pose") = None,
    missed: setting(DetectAlign, "missed") = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="only so many photographs, spread evenly, for a trial")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: all cores")] = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
):
    """Photographs → aligned faces (faces.h5)."""
    from fertool.datasets import disk, open_dataset, recognise
    from fertool.stages import detect_align as stage

    options = {
        "detector": detector, "landmarks": landmarks, "sdm": sdm, "align": align, "template": template, "size": size,
        "height": height, "grey": grey, "illumination": illumination, "pose": pose, "missed": missed,
    }  # fmt: skip
    chosen = recipes.load(recipe)
    settings = chosen.settings("detect-align", options, sets or ())
    disk.leave_out(Workspace(workspace).root)
    if dataset is None:
        console.say(recognise(path)[1])
    usual = chosen.settings("detect-align").dataset_options
    source = open_dataset(path, dataset, image_folder=images, usual=usual, **settings.dataset_options)
    target = out or Workspace(workspace).path(slug(name or path.resolve().name), "faces")
    made = stage.run(source, settings=settings, out=target, overwrite=overwrite, workers=workers, limit=limit)
    return _close(stage, made) | {"notes": [str(problem) for problem in source.problems()]}


@command("fit-sdm", PREPARE)
def fit_sdm(
    paths: Annotated[
        list[Path], typer.Argument(help="folders of photographs with .pts files, or faces.h5 files with landmarks")
    ],
    out: Annotated[Path, typer.Option(help="file to write")] = Path("landmarks.h5"),
    mirror: setting(FitSdm, "mirror") = None,
    starts: setting(FitSdm, "starts") = None,
    seed: setting(FitSdm, "seed") = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
):
    """Photographs or faces with landmarks → a way to find them, for detect-align (landmarks.h5)."""
    from fertool.stages import fit_sdm as stage

    settings = recipes.load(recipe).settings("fit-sdm", {"mirror": mirror, "starts": starts, "seed": seed}, sets or ())
    return _close(stage, stage.run(paths, settings=settings, out=out, overwrite=overwrite))


@command("make-masks", PREPARE)
def make_masks(
    data: Data = None,
    grid: setting(MakeMasks, "grid") = None,
    region_size_order: setting(MakeMasks, "region_size_order") = None,
    preview: Annotated[Path | None, typer.Option(help="also draw the masks of some faces into this picture")] = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
):
    """Landmarks → MAN's region masks; attributes → the groups AMG learns (masks.h5)."""
    from fertool.stages import make_masks as stage

    options = {"grid": grid, "region_size_order": region_size_order}
    settings = recipes.load(recipe).settings("make-masks", options, sets or ())
    faces, target = _paths(workspace, data, "masks", out)
    return _close(stage, stage.run(faces, settings=settings, out=target, overwrite=overwrite, preview=preview))


@command("crop-regions", PREPARE)
def crop_regions(
    data: Data = None,
    mode: setting(CropRegions, "mode") = None,
    ratio_scale: setting(CropRegions, "ratio_scale") = None,
    random_n: setting(CropRegions, "random_n") = None,
    landmark_radius: setting(CropRegions, "landmark_radius") = None,
    materialize: setting(CropRegions, "materialize") = None,
    seed: setting(CropRegions, "seed") = None,
    preview: Annotated[Path | None, typer.Option(help="also draw the regions of some faces into this picture")] = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
):
    """Faces → the regions RAN looks at (regions.h5)."""
    from fertool.stages import crop_regions as stage

    options = {
        "mode": mode, "ratio_scale": ratio_scale, "random_n": random_n, "landmark_radius": landmark_radius,
        "materialize": materialize, "seed": seed,
    }  # fmt: skip
    settings = recipes.load(recipe).settings("crop-regions", options, sets or ())
    faces, target = _paths(workspace, data, "regions", out)
    return _close(stage, stage.run(faces, settings=settings, out=target, overwrite=overwrite, preview=preview))


@command("build-subsets", PREPARE)
def build_subsets(
    data: Data = None,
    lists: Annotated[Path | None, typer.Option(help="folder of RAN's released lists")] = None,
    occlusion_table: Annotated[Path | None, typer.Option(help="CSV file: id,type of occlusion")] = None,
    pose_source: setting(BuildSubsets, "pose_source") = None,
    folds: setting(BuildSubsets, "folds") = None,
    fold_scheme: setting(BuildSubsets, "fold_scheme") = None,
    preview: Annotated[
        Path | None, typer.Option(help="also draw the faces on which lists and estimated pose disagree most")
    ] = None,
    synthesise: Annotated[
        bool, typer.Option("--synthesise", help="draw occluders on the test faces instead: a data set NAME-occluded")
    ] = False,
    severity: Annotated[
        list[float] | None, typer.Option(help="with --synthesise: fraction of the face to cover; repeatable")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="with --synthesise: draw on so many faces only")] = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
):
    """Lists, head pose → named test subsets, and folds (subsets.h5); or drawn occluders."""
    from fertool.stages import build_subsets as stage

    if synthesise:
        if lists or occlusion_table or pose_source or folds is not None or fold_scheme or preview:
            raise UsageError("--synthesise draws on faces, and reads no lists, poses or folds", "call it by itself")
        given = {"severities": tuple(severity) if severity else None, "limit": limit}
        asked = recipes.load(recipe).settings("synthesise", given, sets or ())
        return _synthesise(Workspace(workspace), data, asked, out, overwrite)
    if severity or limit:
        raise UsageError("--severity and --limit belong to --synthesise", "add --synthesise")
    options = {"pose_source": pose_source, "folds": folds, "fold_scheme": fold_scheme}
    settings = recipes.load(recipe).settings("build-subsets", options, sets or ())
    faces, target = _paths(workspace, data, "subsets", out)
    given = {"lists": lists, "occlusion_table": occlusion_table, "preview": preview}
    return _close(stage, stage.run(faces, settings=settings, out=target, overwrite=overwrite, **given))


def _synthesise(space: Workspace, data: str | None, settings: Synthesise, out: Path | None, overwrite: bool) -> dict:
    from fertool.stages import synthesise_occlusion as stage

    faces = space.faces(data)
    folder = faces.parent if faces.parent.name else faces.parent.resolve()
    target = out or folder.with_name(f"{folder.name}-occluded") / "faces.h5"
    return _close(stage, stage.run(faces, settings=settings, out=target, overwrite=overwrite))


@command("suggest-occlusion", PREPARE)
def suggest_occlusion(
    data: Data = None,
    learn_from: Annotated[
        str | None,
        typer.Option(help="draw on these faces and learn from them; default: the network that comes with fertool"),
    ] = None,
    split: setting(SuggestOcclusion, "split") = None,
    min_probability: setting(SuggestOcclusion, "min_probability") = None,
    seed: setting(SuggestOcclusion, "seed") = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
    out: Annotated[Path | None, typer.Option(help="CSV file; default: occlusion.csv beside the faces")] = None,
    overwrite: Overwrite = False,
):
    """Faces → guesses what covers them, for you to judge (occlusion.csv, .html)."""
    from fertool.stages import suggest_occlusion as stage

    space = Workspace(workspace)
    settings = recipes.load(recipe).settings(
        "suggest-occlusion", {"split": split, "min_probability": min_probability, "seed": seed}, sets or ()
    )
    faces = space.faces(data)
    teacher = space.faces(learn_from) if learn_from else None
    target = out or faces.with_name("occlusion.csv")
    return _close(stage, stage.run(faces, settings=settings, out=target, learn_from=teacher, overwrite=overwrite))


@command("combine", PREPARE)
def combine(
    data: Annotated[
        list[str],
        typer.Argument(metavar="NAME[:SPLITS]...", help="data sets; with splits only these, all of them to train on"),
    ],
    name: Annotated[str | None, typer.Option(help="its name in the workspace; default: all names")] = None,
    workspace: Space = None,
    out: Out = None,
    overwrite: Overwrite = False,
):
    """Faces of several data sets → one to train on (faces.h5)."""
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
    folder: Annotated[Path, typer.Argument(help="folder to write the pictures into")],
    people: Annotated[int, typer.Option(min=3, help="how many different people")] = 40,
    per_person: Annotated[int, typer.Option(min=1, help="pictures of each of them")] = 21,
    mixed: Annotated[
        int,
        typer.Option(
            min=0,
            help="further pictures of each, without a label, whose eyes and mouth show two different expressions: "
            "on them the Attention Map Generator cannot take one for the other",
        ),
    ] = 0,
    size: Annotated[int, typer.Option(min=32, help="side of a picture in pixels")] = 160,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="another seed renders other people")] = 0,
    overwrite: Overwrite = False,
):
    """Render labelled faces to try things on."""
    from fertool.stages import render as stage

    numbers = {"people": people, "per_person": per_person, "mixed": mixed, "size": size, "seed": seed}
    return _close(stage, stage.run(folder, **numbers, overwrite=overwrite))


def _paths(workspace: Path | None, data: str | None, kind: str, out: Path | None) -> tuple[Path, Path]:
    space = Workspace(workspace)
    faces = space.faces(data)
    return faces, out or space.beside(faces, kind)


def _close(stage, made: Path) -> dict:
    facts = stage.summary(made)
    stage.report(facts)
    console.say(f"→ {made}")
    return {"out": str(made), **facts}
