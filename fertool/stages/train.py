"""train: faces (and regions, subsets) → a run."""

import multiprocessing
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, DeviceError, RecipeError, Stopped, UsageError, nearest
from fertool.faces.status import HAS_IMAGE
from fertool.models.registry import build_model, model_class, model_settings
from fertool.models.weights import init_weights, read_tensors
from fertool.settings import Train
from fertool.training.batchnorm import synchronise
from fertool.training.devices import Devices, start
from fertool.training.faces import (
    Pixels,
    Rows,
    check_classes,
    check_some,
    drawn,
    fold_count,
    given_columns,
    masked,
    region_boxes,
    select,
)
from fertool.training.loop import Data, fit
from fertool.training.run_file import RunFile
from fertool.workspace import Workspace

#: settings that may differ between a run and its continuation: they change how fast or how far it goes, not where
_SPEED = {"train.cache", "train.checkpoint_minutes", "train.compile"}
#: LNLAttenNet reports the mean over so many last epochs
LAST_EPOCHS = 10
_LENGTH = {"train.epochs", "train.iterations"}


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


def run(
    faces: Path,
    *,
    settings: Train,
    devices: Devices,
    workspace: Workspace,
    regions: Path | None = None,
    subsets: Path | None = None,
    masks: Path | None = None,
    part: Path | None = None,
    recipe: str = "",
    variant: str = "",
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Train a network.

    Args:
        faces: the faces file; regions, subsets and masks files are used if the network or `settings.labels` needs
            them.
        part: folder of the finished run that the network stands on; by default the latest in the workspace, those on
            the same faces first.
        variant: a named baseline or ablation of the network, applied on top of `settings.model`.
        out: folder of the run; by default the next free name beside the faces.
        resume: go on with the latest unfinished run of these settings.
        overwrite: train again although there is such a run.

    Returns:
        The run.h5 file.

    Raises:
        RecipeError, ArtefactError, DataError, DeviceError: before anything heavy starts.
        Stopped: Ctrl-C or SIGTERM, after the state was saved.
    """
    model = model_settings(settings.model, variant)
    variant = "" if variant == model.name else variant  # the system itself has no suffix
    if settings.fold is not None and settings.select_on == "val":
        raise RecipeError("a fold leaves no validation split to select on", "write select_on: last")
    if settings.select_on == "val" and settings.val_split == "test":
        raise RecipeError(
            "select_on: val would choose the checkpoint on the test split",
            "set val_split to another split, or spell it out with select_on: test",
        )
    if settings.select_on == "test" and settings.val_split != "test":
        raise RecipeError(
            f"select_on: test, but it is the split {settings.val_split} whose accuracy is known after every epoch",
            "write select_on: val, or val_split: test",
        )
    source = artefact.read(faces, "faces")
    files = {"regions": regions, "subsets": subsets, "masks": masks}
    job = _job(source, settings, model, recipe, variant, files, part, workspace, devices)
    folder, go_on = _folder(job, workspace, out, resume, overwrite)
    if folder is None:
        return go_on
    job = replace(job, run=folder / "run.h5", resume=go_on)
    try:
        return _start(job, devices)
    finally:
        with suppress(OSError):
            folder.rmdir()  # only works if nothing has been saved


def each_fold(settings: Train, folds: str | None, subsets: Path) -> list[Train]:
    """The settings of one run, or of one for each fold.

    Args:
        folds: None for no cross-validation beyond what the settings say, "all", or the number of a fold.
        subsets: the subsets file, which says how many folds there are.
    """
    if folds is None:
        return [settings]
    if folds != "all":
        if not folds.isdigit():
            raise UsageError(f"--folds {folds} is neither all nor the number of a fold", "e.g. --folds all")
        return [replace(settings, fold=int(folds))]
    if not subsets.is_file():
        raise ArtefactError(f"cross-validation needs the folds of {subsets}", "run: fertool build-subsets --folds 10")
    return [replace(settings, fold=fold) for fold in range(fold_count(artefact.read(subsets, "subsets")))]


def _job(
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
            f"{source.path} knows no expressions, which {model.name} learns",
            "amg and rasnet learn from faces without: fertool models",
        )
    network = build_model_meta(model, len(source.classes or ()))
    stands_on = network.stands_on
    if stands_on:
        part = part or _latest(workspace, source, model.name, stands_on, settings.fold)
        trained = _finished(part, model.name, stands_on)
        model = replace(model, part=trained.params["model"])
        network = build_model_meta(model, len(source.classes or ()))
    elif part:
        raise RecipeError(f"{model.name}{variant and f' ({variant})'} stands on no other run", "leave out --part")
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
                f"region {max(network.regions_used)} is asked for, and {files['regions']} has regions 0 to {there - 1}",
                "make others with fertool crop-regions",
            )
    if "masks" in used and "masks" in used["masks"] and "masks" in network.needs:
        grid = used["masks"]["masks"].shape[1:]
        if grid != network.mask_shape:
            raise ArtefactError(
                f"{model.name} learns masks of {_times(network.mask_shape)}, and {files['masks']} has {_times(grid)}",
                f"run: fertool make-masks --grid {network.mask_shape[-1]} --overwrite",
            )
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
    }
    inputs = [source.as_parent(), *(made.as_parent() for made in used.values())]
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


def _uses(network, settings: Train, kind: str) -> bool:
    """Whether a run reads that file."""
    if kind == "subsets":
        by_list = network.classifies and settings.labels == "list"
        return by_list or (settings.fold is not None and "groups" not in network.needs)
    return kind in network.needs or (kind == "masks" and "groups" in network.needs)


def _beside(source: Artefact, path: Path | None, network, settings: Train, kind: str) -> Artefact:
    """The file of another stage, made from these faces."""
    command = {
        "regions": "crop-regions",
        "subsets": "build-subsets --lists FOLDER" if settings.labels == "list" else "build-subsets --folds 10",
        "masks": "make-masks",
    }[kind]
    if path is None or not path.is_file():
        who = network.settings.name
        if kind == "subsets":
            who = "labels: list" if settings.labels == "list" else "cross-validation"
        raise ArtefactError(f"{who} needs {kind} of {source.path}", f"run: fertool {command} --data {source.path}")
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
            "run detect-align with --align similarity, or train --variant attention",
        )
    moved = [k for k in ("flip", "rotate", "shift", "zoom", "turns") if getattr(settings, k)]
    if "masks" in network.needs and moved:
        raise RecipeError(
            f"{model.name} learns masks that lie where the face was stored, and {moved[0]} would move the face",
            f"set train.{moved[0]} to {'[]' if moved[0] == 'turns' else '0'}",
        )


def _times(shape) -> str:
    return "×".join(map(str, shape))


def _latest(workspace: Workspace, source: Artefact, name: str, stands_on: str, fold: int | None) -> Path:
    """The latest finished run of the network that another one stands on; those on the same faces come first, and of
    these only runs that have left out the same fold will do."""
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
            f"{name} stands on a trained {stands_on}, and there is none in {workspace.root}",
            f"run: {masks}fertool train {stands_on}{folds}; or name a run elsewhere with --part",
        )
    same = [folder for here, folder in found if here]
    chosen = (same or [folder for _, folder in found])[-1]
    console.say(f"{name} stands on {stands_on} of {chosen}")
    return chosen


def _finished(folder: Path, name: str, stands_on: str) -> Artefact:
    run = artefact.read(folder / "run.h5", "run")
    if run.params["model"]["name"] != stands_on:
        raise ArtefactError(
            f"{name} stands on {stands_on}, and {folder} is a run of {run.params['model']['name']}",
            f"name a run of {stands_on} with --part",
        )
    if not run["state/finished"]:
        raise ArtefactError(f"{folder} is unfinished", f"finish it: fertool train {stands_on} --resume")
    return run


def train_rows(network, faces: Artefact, s: Train, used: dict[str, Artefact]) -> Rows:
    """The faces that are trained on."""
    if "groups" in network.needs:
        return drawn(faces, used["masks"], "train")
    splits = s.train_splits if s.fold is None else ("train",)
    if "masks" in network.needs:
        return masked(faces, used["masks"], splits, subsets=used.get("subsets"), fold=s.fold)
    return select(faces, splits, labels=s.labels, subsets=used.get("subsets"), fold=s.fold)


def val_rows(network, faces: Artefact, s: Train, used: dict[str, Artefact]) -> Rows:
    """The faces whose score is shown after every epoch; may be none."""
    if "groups" in network.needs:
        return drawn(faces, used["masks"], "val")
    splits = [s.val_split if s.fold is None else "test"]
    if "masks" in network.needs:
        return masked(faces, used["masks"], splits, subsets=used.get("subsets"), fold=s.fold)
    labels = "list" if s.labels == "list" else "majority"
    return select(faces, splits, labels=labels, subsets=used.get("subsets"), fold=s.fold)


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


def build_model_meta(model, classes: int):
    """The network without memory for its weights, to ask what it needs."""
    with torch.device("meta"):
        return build_model(model, classes)


def _folder(job: Job, workspace: Workspace, out: Path | None, resume: bool, overwrite: bool):
    """Where to train: (folder, go on?), or (None, run.h5) if there is nothing to do."""
    name = job.params["model"]["name"] + (f"-{job.params['variant']}" if job.params["variant"] else "")
    if job.settings.fold is not None:
        name += f"-fold{job.settings.fold}"
    if out is not None:
        mine = [out] if (out / "run.h5").exists() else []
    else:
        mine = [r for r in workspace.runs() if r.parent.parent == job.faces.parent and _is_named(r.name, name)]
    ignore = set()
    if resume:  # a schedule in fractions of the whole would have run differently from the start
        ignore = _SPEED if job.settings.lr_unit == "fraction" else _SPEED | _LENGTH
    for folder in reversed(mine):
        old = artefact.read(folder / "run.h5", "run")
        differences = artefact.differences(old, job.params, job.inputs, ignore)
        if out is not None and differences and not overwrite:
            raise ArtefactError(
                f"{folder} holds a run with other settings: {'; '.join(differences)}", "add --overwrite"
            )
        if differences:
            continue
        if overwrite and not resume:
            return folder, False
        if old["state/finished"] and not artefact.differences(old, job.params, job.inputs, _SPEED):
            console.say(f"{folder.name} is up to date ({folder})")
            return None, folder / "run.h5"
        if resume:
            return folder, True
        raise ArtefactError(f"{folder} is unfinished", "add --resume to go on, or --overwrite to start again")
    if resume:
        there = ", ".join(r.name for r in mine) or "none"
        raise ArtefactError(
            f"there is no run of these settings to resume (runs of {name}: {there})",
            "start without --resume, or give the settings the run was started with",
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return out, False
    if not console.is_first_process():
        return Path(), False  # the first process makes the folder, and its job becomes everybody's
    return workspace.new_run(job.faces, name), False


def _is_named(folder: str, name: str) -> bool:
    return folder.rpartition("-")[0] == name


def _start(job: Job, devices: Devices) -> Path:
    """Run the training processes; turn what can go wrong in them into errors for the user. Gives the run."""

    def pass_on(number, _frame):  # a SIGTERM reaches this process only; the workers have to hear of it
        for child in multiprocessing.active_children():
            child.terminate()

    many = devices.count > 1
    old = {s: signal.signal(s, pass_on) for s in (signal.SIGINT, signal.SIGTERM)} if many else {}
    try:
        done, made = start(devices, job.settings.precision, train_process, job)
    except torch.cuda.OutOfMemoryError as e:
        raise DeviceError(
            f"the GPU has too little memory for {job.settings.global_batch} faces a step",
            "try --precision bf16, more GPUs, or --set train.accumulate=4 (pieces of the batch one after the other)",
        ) from e
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if not done:
        raise Stopped(f"stopped; everything is saved in {made}", "the same command with --resume goes on")
    return made


def train_process(fabric, job: Job) -> tuple[bool, Path]:
    """What every process does: open the files, build the network, train. Returns whether it came to the end, and the
    run."""
    s = job.settings
    faces = artefact.read(job.faces, "faces")
    files = {"regions": job.regions, "subsets": job.subsets, "masks": job.masks}
    used = {kind: artefact.read(path, kind) for kind, path in files.items() if path}
    boxes = region_boxes(faces, used.get("regions"))
    torch.manual_seed(s.seed)
    model = model_settings(job.params["model"])
    net = build_model(model, len(faces.classes or ()), regions=boxes.shape[1])
    if job.part:
        net.frozen.load_state_dict(read_tensors(job.part))
    if not job.resume and (match := init_weights(net, s.init)):
        console.say(f"weights from {match}")
    net = synchronise(net, fabric.device)
    train, val = train_rows(net, faces, s, used), val_rows(net, faces, s, used)
    tracked = tracked_rows(faces, s)
    _say_start(fabric, job, len(train), len(val), net)
    wanted = torch.cat([train.index, val.index, tracked]).unique()
    given = given_columns(used["masks"], net.needs) if "masks" in used else {}
    pixels = Pixels(faces["images"], wanted, fabric.device, s.cache)
    data = Data(train, val, pixels, boxes, given, tracked)
    out = RunFile(job.run, job.params, job.inputs, faces.classes or (), s.seed)
    previous = artefact.read(job.run, "run") if job.resume else None
    return fit(fabric, net, data, s, out, previous), job.run


def _say_start(fabric, job: Job, train: int, val: int, net) -> None:
    total = sum(p.numel() for p in net.parameters())
    frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    where = f"{fabric.world_size} × {fabric.device.type}" if fabric.world_size > 1 else str(fabric.device)
    variant = f" ({job.params['variant']})" if job.params["variant"] else ""
    held = f" ({frozen:,} of them frozen)" if frozen else ""
    console.say(
        f"{job.params['model']['name']}{variant}: {total:,} parameters{held}, {train:,} faces to train on, {val:,} in "
        f"{job.settings.val_split}, {where}, precision {job.settings.precision} → {job.run.parent}"
    )


def summary(path: Path) -> dict:
    """Facts about a run."""
    run = artefact.read(path, "run")
    history = {k: v.tolist() for k, v in run.group("history").items()}
    metric = next((k.removeprefix("val_") for k in history if k.startswith("val_")), "accuracy")
    lasts = history.get(f"val_{metric}", [])[-LAST_EPOCHS:]
    seconds, waited = sum(run.info["seconds"]), sum(run.info["waited"])
    return {
        "run": str(path),
        "model": run.params["model"]["name"],
        "variant": run.params["variant"],
        "recipe": run.params["recipe"],
        "fold": run.params["train"].get("fold"),
        "epochs": int(run["state/epoch"]),
        "iterations": int(run["state/iteration"]),
        "finished": bool(run["state/finished"]),
        "metric": metric,
        f"best_val_{metric}": float(run["state/best"]),
        f"last_epochs_val_{metric}": sum(lasts) / LAST_EPOCHS if len(lasts) == LAST_EPOCHS else None,
        "select_on": run.params["train"]["select_on"],
        "seconds": seconds,
        "waiting_for_data": waited / seconds if seconds else 0.0,
        "history": history,
    }


def report(facts: dict) -> None:
    """The end of a training in two lines."""
    line = f"{facts['epochs']} epochs, {facts['iterations']} steps, {facts['seconds']:.0f} s"
    console.say(f"{line}, {100 * facts['waiting_for_data']:.1f} % of it waiting for data")
    if facts["select_on"] == "test":
        console.say("note: the checkpoint was chosen on the test split; its accuracy there is optimistic")
