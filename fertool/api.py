"""The Python API: the functions behind the commands, and faces and networks for your own code.

Every stage is a function `(inputs, settings) -> path of its output`. Settings are given by a recipe, as a settings
object, or by name, the later before the earlier:

    faces = fertool.detect_align("data/raf", recipe="ran-rafdb", size=112)
    run = fertool.train("ran", data=faces, epochs=2)
    scores = fertool.evaluate(run, subsets=["pose45"])

Progress and notes go to stderr; `fertool.quiet()` turns them off. Errors are `fertool.errors.FertoolError`s with a
`message` and a `hint`. Accuracies are fractions.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fertool import console, executors, plugins
from fertool import recipe as recipes
from fertool.run_folders import data_folder, distinct_names
from fertool.settings import Settings
from fertool.workspace import Workspace, slug

if TYPE_CHECKING:  # what takes a while to import is imported where it is needed
    import pandas as pd

    from fertool.artefact import Artefact
    from fertool.datasets.base import Dataset

PathLike = Path | str


def quiet(on: bool = True) -> None:
    """Turn progress and notes on stderr off, or on again."""
    console.configure(quiet=on)


def open(path: PathLike) -> "Artefact":
    """Open an artefact: `faces["images"]` maps a column into memory, `faces.to_pandas()` gives a table of the others.

    Raises:
        ArtefactError: missing, foreign, damaged or unfinished.
    """
    from fertool import artefact

    return artefact.read(path)


def _settings(stage: str, settings: Settings | None, recipe: str | None, changes: Mapping[str, Any]) -> Any:
    """Return the settings of a stage: those given, else a recipe's, with some changed by name."""
    plugins.allow_mentioned([changes])
    if settings is None:
        return recipes.load(recipe).settings(stage, changes)
    return recipes.build(type(settings), {**settings.as_dict(), **changes}, where=stage) if changes else settings


def _faces(data: PathLike | None, workspace: PathLike | None) -> Path:
    return Workspace(workspace).faces(None if data is None else str(data))


def detect_align(
    path: PathLike,
    *,
    dataset: str | None = None,
    images: PathLike | None = None,
    name: str | None = None,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    workers: int | None = None,
    limit: int | None = None,
    executor: str | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> Path:
    """Detect, align and store the faces of a dataset.

    Args:
        path: folder or table of the dataset.
        dataset: its layout; None: recognised.
        images: of a table, the folder that its paths are relative to.
        name: its name in the workspace; None: the folder's.
        workspace: folder of the artefacts; None: ./artefacts.
        out: file to write instead.
        settings: a `DetectAlign`; or a recipe, or single settings by name.
        recipe: name or file of a recipe.
        workers: number of processes; None: all cores.
        limit: at most this many images, spread evenly.
        executor: "local" or "ray", see `fertool.executors.choose`.
        ray_address: HOST:PORT of a running Ray cluster.
        overwrite: replace a file made with other settings.
        **changes: settings by name, e.g. `size=112`.

    Returns:
        Path of the faces file.

    Raises:
        DataError, UsageError: no dataset, or one that is incomplete.
        ArtefactError: the file holds other work.
    """
    from fertool.stages import detect_align as stage

    plugins.allow_mentioned([dataset])
    used = _settings("detect-align", settings, recipe, changes)
    source = dataset_at(Path(path), dataset, images, used, recipe, workspace)
    target = Path(out) if out else Workspace(workspace).path(slug(name or Path(path).resolve().name), "faces")
    return stage.run(
        source,
        settings=used,
        out=target,
        overwrite=overwrite,
        workers=workers,
        limit=limit,
        executor=executors.choose(executor, ray_address),
    )


def dataset_at(
    path: Path,
    layout: str | None,
    images: PathLike | None,
    settings: Any,
    recipe: str | None = None,
    workspace: PathLike | None = None,
) -> "Dataset":
    """Open the dataset at `path` with the options of `DetectAlign` settings; arguments as for `detect_align`."""
    from fertool.datasets import disk, open_dataset, recognise

    disk.leave_out(Workspace(workspace).root)
    if layout is None:
        console.say(recognise(path)[1])
    usual = recipes.load(recipe).settings("detect-align").data
    folder = Path(images) if images is not None else None
    return open_dataset(path, layout, image_folder=folder, usual=usual, **settings.data)


def make_masks(
    data: PathLike | None = None,
    *,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    preview: Path | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> Path:
    """Make MAN's region masks and AMG's attribute groups; arguments as for `crop_regions`."""
    from fertool.stages import make_masks as stage

    used, faces = _settings("make-masks", settings, recipe, changes), _faces(data, workspace)
    target = Path(out) if out else faces.with_name("masks.h5")
    return stage.run(faces, settings=used, out=target, overwrite=overwrite, preview=preview)


def crop_regions(
    data: PathLike | None = None,
    *,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    preview: Path | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> Path:
    """Choose the regions of every face.

    Args:
        data: a faces file, or a dataset of the workspace; None: the only one.
        workspace: folder of the artefacts; None: ./artefacts.
        out: file to write; None: beside the faces.
        settings: the stage's settings; or a recipe, or single settings by name.
        recipe: name or file of a recipe.
        preview: also draw the regions of some faces into this image.
        overwrite: replace a file made with other settings or faces.
        **changes: settings by name, e.g. `mode="random"`.

    Returns:
        Path of the regions file.
    """
    from fertool.stages import crop_regions as stage

    used, faces = _settings("crop-regions", settings, recipe, changes), _faces(data, workspace)
    target = Path(out) if out else faces.with_name("regions.h5")
    return stage.run(faces, settings=used, out=target, overwrite=overwrite, preview=preview)


def build_subsets(
    data: PathLike | None = None,
    *,
    lists: PathLike | None = None,
    occlusion_table: PathLike | None = None,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    preview: Path | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> Path:
    """Make test subsets and folds; further arguments as for `crop_regions`.

    Args:
        data: a faces file, or a dataset of the workspace; None: the only one.
        lists: folder of RAN's released lists.
        occlusion_table: CSV file with the columns id,type.
        workspace: folder of the artefacts; None: ./artefacts.
        out: file to write; None: beside the faces.
        settings: a `BuildSubsets`.
        recipe: name or file of a recipe.
        preview: also draw the strongest disagreements of lists and estimated pose.
        overwrite: replace a file of other settings or inputs.
        **changes: settings by name, e.g. `folds=10`.

    Returns:
        Path of the subsets file.
    """
    from fertool.stages import build_subsets as stage

    used, faces = _settings("build-subsets", settings, recipe, changes), _faces(data, workspace)
    return stage.run(
        faces,
        settings=used,
        out=Path(out) if out else faces.with_name("subsets.h5"),
        lists=Path(lists) if lists else None,
        occlusion_table=Path(occlusion_table) if occlusion_table else None,
        overwrite=overwrite,
        preview=preview,
    )


def train(
    network: str,
    data: PathLike | None = None,
    *,
    variant: str = "",
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    pretrained_part: PathLike | None = None,
    gpus: int | None = None,
    resume: bool | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> Path:
    """Train a network.

    Args:
        network: a network ("ran") or a recipe ("ran-ferplus"); a network takes its recipe for the dataset of the faces.
        data: a faces file, or a dataset of the workspace; None: the only one. Regions, masks and subsets beside the
            faces are used where the network requires them.
        variant: a baseline or ablation of the network.
        workspace: folder of the artefacts; None: ./artefacts.
        out: folder of the run; None: the next free name beside the faces.
        settings: a `Train`, instead of a recipe's.
        recipe: name or file of a recipe.
        pretrained_part: run of the pretrained part, for networks that require one; None: the latest.
        gpus: number of GPUs, 0 for the CPU; None: one, if there is one.
        resume: continue a stopped run; None: if there is one.
        overwrite: train again.
        **changes: settings by name, e.g. `epochs=2`, `model={"backbone": "tiny"}`.

    Returns:
        Folder of the run.

    Raises:
        RecipeError, ArtefactError, DataError, DeviceError: before the training starts.
        NotFiniteError: the training diverged.
    """
    from fertool.stages import train as stage
    from fertool.training.devices import choose

    plugins.allow_mentioned([network])
    space, faces = Workspace(workspace), _faces(data, workspace)
    chosen = recipes.of_training(network, recipe, faces)
    used = chosen.settings("train", changes) if settings is None else _settings("train", settings, None, changes)
    run = stage.run(
        faces,
        settings=used,
        devices=choose(gpus),
        workspace=space,
        regions=faces.with_name("regions.h5"),
        subsets=faces.with_name("subsets.h5"),
        masks=faces.with_name("masks.h5"),
        pretrained_part=space.run(str(pretrained_part)) if pretrained_part else None,
        recipe=chosen.name,
        variant=variant,
        out=Path(out) if out else None,
        resume=resume,
        overwrite=overwrite,
    )
    return run.parent


def evaluate(
    runs: PathLike | Sequence[PathLike] | None = None,
    *,
    data: PathLike | None = None,
    subsets: Iterable[str] = (),
    workspace: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    gpus: int | None = None,
    executor: str | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Evaluate runs, several of them with paired tests.

    Args:
        runs: one run or several, by folder or name; None: the latest.
        data: other faces than those of the training.
        subsets: subsets to score too; ["all"] for all.
        workspace: folder of the artefacts; None: ./artefacts.
        settings: an `Evaluate`.
        recipe: name or file of a recipe.
        gpus: number of GPUs, 0 for the CPU; None: one, if there is one.
        executor: "local" or "ray", see `fertool.executors.choose`.
        ray_address: HOST:PORT of a running Ray cluster.
        overwrite: predict again.
        **changes: settings by name, e.g. `split="val"`.

    Returns:
        {"runs": {name: scores}, "comparison": ... of several runs}, as `fertool eval --json` prints it.
    """
    from fertool.stages import evaluate as stage
    from fertool.stages.evaluate import scores
    from fertool.training.devices import choose

    used = _settings("eval", settings, recipe, changes)
    space, names = Workspace(workspace), tuple(subsets)
    wanted = [runs] if isinstance(runs, str | Path) or runs is None else list(runs)
    folders = [space.run(None if run is None else str(run)) for run in wanted]
    faces = _faces(data, workspace) if data is not None else None
    for folder in folders:
        scores.check_subsets(faces or data_folder(folder) / "faces.h5", names)
        scores.check_groups(faces or data_folder(folder) / "faces.h5", used.by)
    where = executors.choose(executor, ray_address)
    predictions = {
        name: stage.run(folder, settings=used, devices=choose(gpus), faces=faces, executor=where, overwrite=overwrite)
        for name, folder in zip(distinct_names(folders), folders, strict=True)
    }
    options = {"confidence": used.confidence, "paper": used.paper, "by": used.by}
    return scores.run(predictions, names=names, fuse=(), csv=None, **options)


def predict(
    images: PathLike | Sequence[PathLike],
    run: PathLike | None = None,
    *,
    workspace: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    gpus: int | None = None,
    workers: int | None = None,
    executor: str | None = None,
    ray_address: str | None = None,
    **changes: Any,
) -> "pd.DataFrame":
    """Predict the expression of every face in images, folders or videos.

    Args:
        images: files or folders.
        run: folder or name of a run, or an exported .safetensors or .onnx; None: the latest run.
        workspace: folder of the artefacts; None: ./artefacts.
        settings: a `Predict`.
        recipe: name or file of a recipe.
        gpus: number of GPUs, 0 for the CPU; None: one, if there is one.
        workers: processes that find faces; None: all cores for 32 images or more, else none.
        executor: "local" or "ray", see `fertool.executors.choose`.
        ray_address: HOST:PORT of a running Ray cluster.
        **changes: settings by name, e.g. `detector="none"`.

    Returns:
        One row per face, the largest of an image first, with the columns of predictions.csv: file, frame, seconds,
        face, track, x0, y0, x1, y1, score, expression, probability, p_CLASS for every class, attention, problem; one
        with face 0 for an image without a face.
    """
    from fertool.stages import predict as stage
    from fertool.training import checkpoint
    from fertool.training.devices import choose

    used = _settings("predict", settings, recipe, changes)
    words = [str(images)] if isinstance(images, str | Path) else [str(image) for image in images]
    if run is not None and checkpoint.is_exported(str(run)):
        network = checkpoint.of_file(Path(run))
    else:
        network = checkpoint.of_run(Workspace(workspace).run(None if run is None else str(run)), used.weights)
    facts = stage.run(
        words,
        network,
        settings=used,
        devices=choose(gpus),
        collect=True,
        workers=workers,
        executor=executors.choose(executor, ray_address),
    )
    return facts["table"]


def visualize(
    kind: str,
    runs: PathLike | Sequence[PathLike] | None = None,
    *,
    subset: str | None = None,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    **changes: Any,
) -> list[Path]:
    """Draw figures of runs.

    Args:
        kind: name of a figure, see `fertool visualize --help`, or FILE.py:FUNCTION.
        runs: one run or several, by folder or name; None: the latest.
        subset: only faces of this subset.
        workspace: folder of the artefacts; None: ./artefacts.
        out: folder for the figures; None: figures/ of the run.
        settings: a `Visualize`.
        recipe: name or file of a recipe.
        **changes: settings by name, e.g. `dpi=150`.

    Returns:
        Paths of the files written.
    """
    from fertool.stages import visualize as stage

    plugins.allow_mentioned([kind])
    used, space = _settings("visualize", settings, recipe, changes), Workspace(workspace)
    wanted = [runs] if isinstance(runs, str | Path) or runs is None else list(runs)
    folders = [space.run(None if run is None else str(run)) for run in wanted]
    return stage.run(kind, folders, settings=used, out_dir=Path(out) if out else None, subset=subset)


def report(
    runs: PathLike | Sequence[PathLike] | None = None,
    *,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    gpus: int | None = None,
    **changes: Any,
) -> Path:
    """Write an HTML page of runs; those without predictions are evaluated first. Arguments as for `visualize`.

    Returns:
        Path of the page.
    """
    from fertool.stages import report as stage
    from fertool.training.devices import choose

    used, space = _settings("report", settings, recipe, changes), Workspace(workspace)
    wanted = [runs] if isinstance(runs, str | Path) or runs is None else list(runs)
    folders = [space.run(None if run is None else str(run)) for run in wanted]
    stage.evaluate_missing(folders, choose(gpus))
    return stage.run(folders, settings=used, out=Path(out) if out else None)


def runs(
    data: str | None = None,
    *,
    network: str | None = None,
    variant: str | None = None,
    sweep: str | None = None,
    finished: bool | None = None,
    workspace: PathLike | None = None,
) -> "pd.DataFrame":
    """List runs.

    Args:
        data: only runs of this dataset.
        network: only runs of this network.
        variant: only runs of this variant; the network's name: those without.
        sweep: only runs of this sweep.
        finished: only runs that are, or are not.
        workspace: folder of the artefacts; None: ./artefacts.

    Returns:
        One row per run, the newest first, with the columns of `fertool runs --json`; `name` and `path` are what the
        other functions take as a run. Accuracies are fractions.

    Raises:
        ArtefactError: there is no such dataset.
    """
    import pandas as pd

    from fertool.stages import runs as stage

    filters = {"data": data, "network": network, "variant": variant, "sweep": sweep, "finished": finished}
    return pd.DataFrame(stage.summary(Workspace(workspace), **filters)["runs"], columns=stage.COLUMNS)


def export(
    run: PathLike | None = None,
    *,
    formats: Sequence[str] = ("safetensors", "onnx"),
    card: bool = False,
    workspace: PathLike | None = None,
    out: PathLike | None = None,
    settings: Settings | None = None,
    recipe: str | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> list[Path]:
    """Export a run as safetensors and ONNX, with `card` also a model card (README.md).

    Returns:
        Paths of the files written.
    """
    from fertool.stages import export as stage
    from fertool.training import checkpoint

    used = _settings("export", settings, recipe, changes)
    folder = Workspace(workspace).run(None if run is None else str(run))
    return stage.run(
        checkpoint.of_run(folder, used.weights),
        folder,
        settings=used,
        formats=tuple(formats),
        with_card=card,
        out=Path(out) if out else folder,
        overwrite=overwrite,
    )
