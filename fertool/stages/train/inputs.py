"""What a training depends on, gathered and checked before anything heavy starts: files of other stages, the rows they
allow, and the run of the pretrained part.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fertool import artefact, console, plugins
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, RecipeError, nearest
from fertool.faces.status import HAS_IMAGE
from fertool.models.registry import build_model_meta, model_class
from fertool.pretrained.initialise import NAMED, init_source
from fertool.settings import Train
from fertool.training import subjects
from fertool.training.data import Rows, check_classes, check_some, drawn, masked, select
from fertool.training.devices import Devices
from fertool.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """All that a training process has to know. Plain data: it is sent to every process."""

    run: Path
    faces: Path
    regions: Path | None
    subsets: Path | None
    masks: Path | None
    part: Path | None
    settings: Train
    params: dict
    inputs: tuple
    resume: bool


def gather(
    source: Artefact,
    settings: Train,
    model,
    recipe: str,
    variant: str,
    files: dict[str, Path | None],
    part: Path | None,
    workspace: Workspace,
    devices: Devices,
) -> Job:
    """Gather and check everything the run depends on."""
    if model_class(model.name).classifies and not source.classes:
        raise DataError(
            f"{source.path} has no expression labels; {model.name} requires them",
            "amg and rasnet train without labels: fertool models",
        )
    network = build_model_meta(model, len(source.classes or ()))
    stands_on = network.stands_on
    if stands_on:
        part = part or _latest(workspace, source, model.name, stands_on, settings.fold)
        trained = _finished(part, model.name, stands_on)
        model = replace(model, part=trained.params["model"])
        network = build_model_meta(model, len(source.classes or ()))
    elif part:
        raise RecipeError(
            f"{model.name}{variant and f' ({variant})'} has no pretrained part", "leave out --pretrained-part"
        )
    settings = replace(settings, init=_weights_file(workspace, settings.init or network.pretrained))
    init = init_source(network, settings.init)
    used = {
        kind: _beside(source, files[kind], network, settings, kind)
        for kind in ("regions", "subsets", "masks")
        if _uses(network, settings, kind)
    }
    _check_geometry(source, network, settings, model)
    if "regions" in used:
        there = used["regions"]["boxes"].shape[1]
        if max(network.regions_used or (0,)) >= there:
            raise RecipeError(
                f"region {max(network.regions_used)} is requested, and {files['regions']} has regions 0 to {there - 1}",
                "make others with fertool crop-regions",
            )
    if "masks" in used and "masks" in used["masks"] and "masks" in network.needs:
        grid = used["masks"]["masks"].shape[1:]
        if grid != network.mask_shape:
            raise ArtefactError(
                f"{model.name} learns masks of {_times(network.mask_shape)}, and {files['masks']} has {_times(grid)}",
                f"run: fertool make-masks --grid {network.mask_shape[-1]} --overwrite",
            )
    if network.labels == "subject":
        found = _people(network, source, settings, used)
        subjects.say(found, _watched(settings))
        model = replace(model, subjects=len(found.train.labels.unique()))
    rows = train_rows(network, source, settings, used)
    what = f"in split {', '.join(settings.train_splits)}" if settings.fold is None else f"outside fold {settings.fold}"
    (check_classes if network.classifies else check_some)(source, rows, what)
    val = val_rows(network, source, settings, used)
    if settings.select_on != "last" and not len(val):
        raise DataError(
            f"select_on: {settings.select_on} needs labelled faces in split {settings.val_split}, and there are none",
            "fertool inspect shows the splits; or write select_on: last",
        )
    processes = devices.count * devices.nodes
    if min(len(rows), settings.global_batch) < 2 * processes and processes > 1:
        raise RecipeError(
            f"{len(rows)} faces in batches of {settings.global_batch} are too few for {processes} processes",
            "every process needs two faces of a batch: use fewer",
        )
    tracked_rows(source, settings)
    params = {
        "recipe": recipe,
        "variant": variant,
        "train": {k: v for k, v in settings.as_dict().items() if k != "model"},
        "model": model.as_dict(),
        **plugins.digests(model=plugins.resolve("models", model.name)),
    }
    inputs = [source.as_parent(), *(made.as_parent() for made in used.values()), *([init] if init else [])]
    return Job(
        run=Path(),
        faces=source.path,
        **{kind: files[kind] if kind in used else None for kind in files},
        part=part / "run.h5" if stands_on else None,
        settings=settings,
        params=params,
        inputs=(*inputs, trained.as_parent("part")) if stands_on else tuple(inputs),
        resume=False,
    )


def _weights_file(workspace: Workspace, init: str) -> str:
    """Return the file that initial weights are in; they may be named by their run, or its folder."""
    if init not in NAMED and not Path(init).is_file():
        with suppress(ArtefactError):
            return str(workspace.run(init) / "run.h5")
    return init


def _uses(network, settings: Train, kind: str) -> bool:
    """Whether a run reads that file."""
    if kind == "subsets":
        by_list = network.classifies and settings.labels == "list"
        return by_list or (settings.fold is not None and "groups" not in network.needs)
    return kind in network.needs or (kind == "masks" and "groups" in network.needs)


def _beside(source: Artefact, path: Path | None, network, settings: Train, kind: str) -> Artefact:
    """Return the file of another stage, made from these faces."""
    command = {
        "regions": "crop-regions",
        "subsets": "build-subsets --lists FOLDER" if settings.labels == "list" else "build-subsets --folds 10",
        "masks": "make-masks",
    }[kind]
    if path is None or not path.is_file():
        who = network.settings.name
        if kind == "subsets":
            who = "labels: list" if settings.labels == "list" else "cross-validation"
        raise ArtefactError(f"{who} requires {kind} of {source.path}", f"run: fertool {command} --data {source.path}")
    made = artefact.read(path, kind)
    made.require_parent(source)
    return made


def _check_geometry(source: Artefact, network, settings: Train, model) -> None:
    """Refuse faces that do not lie as the network has to see them."""
    height, width = source["images"].shape[1:3]
    want = network.input.size
    if network.input.cut and (height < want[0] or width < want[1]):
        raise RecipeError(
            f"{model.name} cuts {want[1]}×{want[0]} pixels out of every face, and those of {source.path} have "
            f"{width}×{height}",
            "make larger faces (--size, --height), or let it resize them: --set train.model.cut=false",
        )
    if "aligned" in network.needs and source.params.get("align") == "none":
        raise RecipeError(
            f"symmetric attention needs aligned faces, and those of {source.path} were made with align: none",
            "align them: fertool detect-align ... --align similarity; or train with --set train.model.attention=free",
        )
    moved = [k for k in ("flip", "rotate", "shift", "scale", "rotation_angles") if getattr(settings, k)]
    if "masks" in network.needs and moved:
        raise RecipeError(
            f"{model.name} learns masks that lie where the face was stored, and {moved[0]} would move the face",
            f"set train.{moved[0]} to {'[]' if moved[0] == 'rotation_angles' else '0'}",
        )


def _times(shape) -> str:
    return "×".join(map(str, shape))


def _latest(workspace: Workspace, source: Artefact, name: str, stands_on: str, fold: int | None) -> Path:
    """Return the latest finished run of a pretrained part; those on the same faces come first, and of
    these only runs that have left out the same fold will do.
    """
    found = []
    for folder in workspace.runs():
        run = artefact.read(folder / "run.h5", "run")
        here = run.parent("faces").digest == source.digest
        if run.params["model"]["name"] == stands_on and run["state/finished"]:
            by_draw = "groups" in model_class(stands_on).needs
            if not here or by_draw or run.params["train"].get("fold") == fold:
                found.append((here, folder))
    if not found:
        masks = "fertool make-masks, then: " if "masks" in model_class(stands_on).needs else ""
        folds = " --folds all" if fold is not None and masks else ""
        raise ArtefactError(
            f"{name} requires a trained {stands_on}, and {workspace.root} has none",
            f"run: {masks}fertool train {stands_on}{folds}; or name another run with --pretrained-part",
        )
    same = [folder for here, folder in found if here]
    chosen = (same or [folder for _, folder in found])[-1]
    console.say(f"pretrained part: {stands_on} of {chosen}")
    return chosen


def _finished(folder: Path, name: str, stands_on: str) -> Artefact:
    run = artefact.read(folder / "run.h5", "run")
    if run.params["model"]["name"] != stands_on:
        raise ArtefactError(
            f"{name} requires {stands_on}, and {folder} is a run of {run.params['model']['name']}",
            f"name a run of {stands_on} with --pretrained-part",
        )
    if not run["state/finished"]:
        raise ArtefactError(f"{folder} is unfinished", f"finish it: fertool train {stands_on} --resume")
    return run


def train_rows(network, faces: Artefact, s: Train, used: dict[str, Artefact]) -> Rows:
    """Return the faces that are trained on."""
    if network.labels == "subject":
        return _people(network, faces, s, used).train
    if "groups" in network.needs:
        return drawn(faces, used["masks"], "train")
    splits = s.train_splits if s.fold is None else ("train",)
    if "masks" in network.needs:
        return masked(faces, used["masks"], splits, subsets=used.get("subsets"), fold=s.fold)
    return select(faces, splits, labels=s.labels, subsets=used.get("subsets"), fold=s.fold)


def val_rows(network, faces: Artefact, s: Train, used: dict[str, Artefact]) -> Rows:
    """Return the faces whose score is shown after every epoch; may be none."""
    if network.labels == "subject":
        return subjects.enough_to_verify(_people(network, faces, s, used).test)
    if "groups" in network.needs:
        return drawn(faces, used["masks"], "val")
    splits = [_watched(s)]
    if "masks" in network.needs:
        return masked(faces, used["masks"], splits, subsets=used.get("subsets"), fold=s.fold)
    labels = "list" if s.labels == "list" else "majority"
    return select(faces, splits, labels=labels, subsets=used.get("subsets"), fold=s.fold)


def _people(network, faces: Artefact, s: Train, used: dict[str, Artefact]) -> subjects.People:
    return subjects.people(faces, s.as_dict(), network.settings.held_out, _watched(s), used.get("subsets"))


def _watched(s: Train) -> str:
    return s.val_split if s.fold is None else "test"


def tracked_rows(faces: Artefact, s: Train) -> torch.Tensor:
    """Rows of the faces whose attention is kept as training goes on.

    Raises:
        DataError: an id that these faces do not have, or without a picture.
    """
    place = {name: row for row, name in enumerate(faces.ids)} if s.track else {}
    for name in s.track:
        if name not in place:
            raise DataError(f"{faces.path} has no face {name!r} to track", nearest(name, place))
        if faces["status"][place[name]] not in HAS_IMAGE:
            raise DataError(f"the face {name!r} has no picture to track", "track others")
    return torch.tensor([place[name] for name in s.track], dtype=torch.int64)
