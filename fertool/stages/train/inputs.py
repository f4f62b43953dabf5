"""The inputs of a training, gathered and checked before anything heavy starts.

Files of other stages, the rows they allow, and the run of the pretrained part.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fertool import artefact, console, plugins
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, RecipeError, nearest
from fertool.faces.status import HAS_IMAGE
from fertool.models.base import FerModel
from fertool.models.registry import build_model_meta, model_class, model_settings, unlabelled_networks
from fertool.pretrained.initialise import NAMED, init_source
from fertool.requirements import Inputs, NeededFile
from fertool.requirements.base import FOLDS
from fertool.settings import Train
from fertool.training.devices import Devices
from fertool.workspace import Workspace

#: kinds of files beside the faces, in the order in which a run names its inputs
KINDS = ("regions", "subsets", "masks")


@dataclass(frozen=True)
class Job:
    """All that a training process has to know. Plain data: it is sent to every process.

    Attributes:
        run: the run.h5 that is written.
        files: files beside the faces that are read, by kind.
        pretrained_part: the run.h5 of the pretrained part.
        params, inputs: what the run was made with and from, for its header.
        resume: continue from the state in `run`.
    """

    run: Path
    faces: Path
    files: Mapping[str, Path]
    pretrained_part: Path | None
    settings: Train
    params: dict
    inputs: tuple
    resume: bool


def gather(
    source: Artefact,
    settings: Train,
    model: Any,
    recipe: str,
    variant: str,
    files: Mapping[str, Path | None],
    pretrained_part: Path | None,
    workspace: Workspace,
    devices: Devices,
) -> Job:
    """Gather and check everything the run depends on.

    Args:
        model: settings of the network.
        files: where the files beside the faces are or would be, by kind.
        pretrained_part: folder of the run of the pretrained part; None for the latest.
    """
    if model_class(model.name).classifies and not source.classes:
        raise DataError(
            f"{source.path} has no expression labels; {model.name} requires them",
            f"networks that train without them: {', '.join(unlabelled_networks())}",
        )
    model, trained = _with_part(model, variant, source, settings, pretrained_part, workspace)
    network = build_model_meta(model, len(source.classes or ()))
    for key in ("label_smoothing", "class_weights", "mixup", "cutmix"):
        if getattr(settings, key) not in (0, "none") and not network.classifies:
            raise RecipeError(
                f"{key} is for classes of expressions, which {model.name} does not predict",
                f"leave it out: --set train.{key}={getattr(Train, key)}",
            )
    for key in ("mixup", "cutmix"):
        if getattr(settings, key) and network.pairs is not None:
            raise RecipeError(
                f"{key} gives a face two classes, and {model.name} learns from pairs of one class or of two",
                f"leave it out: --set train.{key}=0",
            )
    if settings.patience and settings.patience_on == "loss" and not network.has_val_loss:
        raise RecipeError(f"{model.name} has no validation loss to watch", "write patience_on: score")
    weights = _weights_file(workspace, settings.init or network.pretrained)
    settings = replace(settings, init=weights)
    init = init_source(network, weights)
    inputs = Inputs(source, settings, open_files(network, source, settings, files))
    _check_size(source, network)
    for requirement in network.requires:
        requirement.check(network, inputs)
    model = network.selection.settle(model, inputs)
    _check_rows(network, inputs, devices)
    tracked_rows(source, settings)
    params = {
        "recipe": recipe,
        "variant": variant,
        "train": {k: v for k, v in settings.deciding().items() if k != "model"},
        "model": model.as_dict(),
        **plugins.digests(model=plugins.resolve("models", model.name)),
    }
    parents = [source.as_parent(), *(made.as_parent() for made in inputs.files.values()), *([init] if init else [])]
    return Job(
        run=Path(),
        faces=source.path,
        files={kind: made.path for kind, made in inputs.files.items()},
        pretrained_part=trained.path if trained else None,
        settings=settings,
        params=params,
        inputs=(*parents, trained.as_parent("pretrained_part")) if trained else tuple(parents),
        resume=False,
    )


def open_files(network: FerModel, faces: Artefact, settings: Train, paths: Mapping[str, Path | None]) -> dict:
    """Return the artefacts that the network requires beside the faces, by kind.

    Raises:
        ArtefactError: one is missing, or was made from other faces.
    """
    needed = {f.kind: f for requirement in network.requires for f in requirement.files(settings)}
    found = {}
    for kind in (k for k in KINDS if k in needed):
        path, file = paths[kind], needed[kind]
        if path is None or not path.is_file():
            raise ArtefactError(
                f"{file.needed_for or network.settings.name} requires {kind} of {faces.path}",
                f"run: fertool {file.command} --data {faces.path}",
            )
        found[kind] = artefact.read(path, kind)
        found[kind].require_parent(faces)
    return found


def _with_part(
    model: Any, variant: str, source: Artefact, settings: Train, pretrained_part: Path | None, workspace: Workspace
) -> tuple[Any, Artefact | None]:
    """Return the network's settings with those of its pretrained part, and the run of that."""
    needed = build_model_meta(model, len(source.classes or ())).pretrained_part
    if not needed:
        if pretrained_part:
            raise RecipeError(
                f"{model.name}{variant and f' ({variant})'} has no pretrained part", "leave out --pretrained-part"
            )
        return model, None
    trained = _finished(
        pretrained_part or _latest(workspace, source, model.name, needed, settings.fold), model.name, needed
    )
    return replace(model, pretrained_part=trained.params["model"]), trained


def _check_size(source: Artefact, network: FerModel) -> None:
    """Refuse faces that are smaller than what the network cuts out of them."""
    height, width = source["images"].shape[1:3]
    want = network.input.size
    if network.input.crop and (height < want[0] or width < want[1]):
        raise RecipeError(
            f"{network.settings.name} cuts {want[1]}×{want[0]} pixels out of every face, and those of {source.path} "
            f"have {width}×{height}",
            "make larger faces (--size, --height), or let it resize them: --set train.model.crop=false",
        )


def _check_rows(network: FerModel, inputs: Inputs, devices: Devices) -> None:
    """Refuse too few faces to train on, or to select a checkpoint by."""
    settings, selection = inputs.settings, network.selection
    rows = selection.train_rows(inputs)
    where = f"in split {', '.join(settings.train_splits)}" if settings.fold is None else f"outside fold {settings.fold}"
    selection.check_rows(inputs, rows, where)
    if not len(selection.val_rows(inputs)) and (settings.select_on != "last" or settings.patience):
        asked = f"patience: {settings.patience}" if settings.patience else f"select_on: {settings.select_on}"
        raise DataError(
            f"{asked} needs labelled faces in split {settings.val_split}, and there are none",
            f"fertool inspect shows the splits; or write {'patience: 0' if settings.patience else 'select_on: last'}",
        )
    processes = devices.count * devices.nodes
    if min(len(rows), settings.global_batch) < 2 * processes and processes > 1:
        raise RecipeError(
            f"{len(rows)} faces in batches of {settings.global_batch} are too few for {processes} processes",
            "every process needs two faces of a batch: use fewer",
        )


def _weights_file(workspace: Workspace, init: str) -> str:
    """Return the file that initial weights are in; they may be named by their run, or its folder."""
    if init not in NAMED and not Path(init).is_file():
        with suppress(ArtefactError):
            return str(workspace.run(init) / "run.h5")
    return init


def _latest(workspace: Workspace, source: Artefact, name: str, needed: str, fold: int | None) -> Path:
    """Return the latest finished run of a pretrained part.

    Runs on the same faces come first; of these only runs that have left out the same fold are taken.
    """
    found = []
    for folder in workspace.runs():
        run = artefact.read(folder / "run.h5", "run")
        here = run.parent_digest("faces") == source.digest
        if run.params["model"]["name"] == needed and run["state/finished"]:
            any_fold = not _by_fold(needed)
            if not here or any_fold or run.params["train"].get("fold") == fold:
                found.append((here, folder))
    if not found:
        before = "".join(f"fertool {f.command}, then: " for f in _files_of(needed, Train()))
        folds = " --folds all" if fold is not None and _by_fold(needed) else ""
        raise ArtefactError(
            f"{name} requires a trained {needed}, and {workspace.root} has none",
            f"run: {before}fertool train {needed}{folds}; or name another run with --pretrained-part",
        )
    same = [folder for here, folder in found if here]
    chosen = (same or [folder for _, folder in found])[-1]
    console.say(f"pretrained part: {needed} of {chosen}")
    return chosen


def _by_fold(network: str) -> bool:
    """Return whether the network is trained anew for every fold."""
    return FOLDS in _files_of(network, Train(fold=0))


def _files_of(network: str, settings: Train) -> list[NeededFile]:
    requires = build_model_meta(model_settings({"name": network}), classes=2).requires
    return [file for requirement in requires for file in requirement.files(settings)]


def _finished(folder: Path, name: str, needed: str) -> Artefact:
    run = artefact.read(folder / "run.h5", "run")
    if run.params["model"]["name"] != needed:
        raise ArtefactError(
            f"{name} requires {needed}, and {folder} is a run of {run.params['model']['name']}",
            f"name a run of {needed} with --pretrained-part",
        )
    if not run["state/finished"]:
        raise ArtefactError(f"{folder} is unfinished", f"finish it: fertool train {needed} --resume")
    return run


def tracked_rows(faces: Artefact, s: Train) -> torch.Tensor:
    """Return the rows of the faces whose attention is kept during the training.

    Raises:
        DataError: an id that these faces do not have, or without an image.
    """
    place = {name: row for row, name in enumerate(faces.ids)} if s.track else {}
    for name in s.track:
        if name not in place:
            raise DataError(f"{faces.path} has no face {name!r} to track", nearest(name, place))
        if faces["status"][place[name]] not in HAS_IMAGE:
            raise DataError(f"the face {name!r} has no picture to track", "track others")
    return torch.tensor([place[name] for name in s.track], dtype=torch.int64)
