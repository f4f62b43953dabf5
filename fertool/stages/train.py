"""train: faces (and regions, subsets) → a run."""

import multiprocessing
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, DeviceError, RecipeError, Stopped
from fertool.models.registry import build_model, model_settings
from fertool.models.weights import init_trunk
from fertool.settings import Train
from fertool.training.batchnorm import synchronise
from fertool.training.devices import Devices, start
from fertool.training.faces import Pixels, Rows, check_classes, region_boxes, select
from fertool.training.loop import Data, fit
from fertool.training.run_file import RunFile
from fertool.workspace import Workspace

#: settings that may differ between a run and its continuation: they change how fast or how far it goes, not where
_SPEED = {"train.cache", "train.checkpoint_minutes", "train.compile"}
_LENGTH = {"train.epochs", "train.iterations"}


@dataclass(frozen=True)
class Job:
    """All that a training process has to know. Plain data: it is sent to every process."""

    run: Path
    faces: Path
    regions: Path | None
    subsets: Path | None
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
    recipe: str = "",
    variant: str = "",
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Train a network.

    Args:
        faces: the faces file; regions and subsets files are used if the network or `settings.labels` needs them.
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
    job = _job(source, settings, model, recipe, variant, regions, subsets, devices)
    folder, go_on = _folder(job, workspace, out, resume, overwrite)
    if folder is None:
        return go_on
    job = replace(job, run=folder / "run.h5", resume=go_on)
    try:
        return _start(job, devices)
    finally:
        with suppress(OSError):
            folder.rmdir()  # only works if nothing has been saved


def _job(
    source: Artefact, settings: Train, model, recipe: str, variant: str, regions, subsets, devices: Devices
) -> Job:
    """Gather and check everything the run depends on."""
    network = build_model_meta(model, len(source.classes or ()))
    inputs = [source.as_parent()]
    uses_regions = "regions" in network.needs
    if uses_regions:
        if regions is None or not regions.is_file():
            raise ArtefactError(
                f"{model.name} needs regions of {source.path}", f"run: fertool crop-regions --data {source.path}"
            )
        boxes = artefact.read(regions, "regions")
        boxes.require_parent(source)
        inputs.append(boxes.as_parent())
        there = boxes["boxes"].shape[1]
        if max(network.regions_used or (0,)) >= there:
            raise RecipeError(
                f"region {max(network.regions_used)} is asked for, and {regions} has regions 0 to {there - 1}",
                "make others with fertool crop-regions",
            )
    listed = None
    if settings.labels == "list":
        if subsets is None or not subsets.is_file():
            raise ArtefactError(
                f"labels: list needs subsets of {source.path}", "run: fertool build-subsets --lists FOLDER"
            )
        listed = artefact.read(subsets, "subsets")
        inputs.append(listed.as_parent())
    rows = select(source, settings.train_splits, labels=settings.labels, subsets=listed)
    check_classes(source, rows, f"in split {', '.join(settings.train_splits)}")
    val = select_val(source, settings, listed)
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
    params = {
        "recipe": recipe,
        "variant": variant,
        "train": {k: v for k, v in settings.as_dict().items() if k != "model"},
        "model": model.as_dict(),
    }
    return Job(
        run=Path(),
        faces=source.path,
        regions=regions if uses_regions else None,
        subsets=subsets if listed else None,
        settings=settings,
        params=params,
        inputs=tuple(inputs),
        resume=False,
    )


def select_val(faces: Artefact, s: Train, subsets: Artefact | None) -> Rows:
    """The faces whose accuracy is shown after every epoch; may be none."""
    return select(faces, [s.val_split], labels="list" if s.labels == "list" else "majority", subsets=subsets)


def build_model_meta(model, classes: int):
    """The network without memory for its weights, to ask what it needs."""
    with torch.device("meta"):
        return build_model(model, classes)


def _folder(job: Job, workspace: Workspace, out: Path | None, resume: bool, overwrite: bool):
    """Where to train: (folder, go on?), or (None, run.h5) if there is nothing to do."""
    name = job.params["model"]["name"] + (f"-{job.params['variant']}" if job.params["variant"] else "")
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
    regions = artefact.read(job.regions, "regions") if job.regions else None
    subsets = artefact.read(job.subsets, "subsets") if job.subsets else None
    train = select(faces, s.train_splits, labels=s.labels, subsets=subsets)
    val = select_val(faces, s, subsets)
    boxes = region_boxes(faces, regions)
    torch.manual_seed(s.seed)
    model = model_settings(job.params["model"])
    net = build_model(model, len(faces.classes), regions=boxes.shape[1])
    if not job.resume and (match := init_trunk(net, s.init)):
        console.say(f"weights from {match}")
    net = synchronise(net, fabric.device)
    _say_start(fabric, job, len(train), len(val), net)
    wanted = torch.cat([train.index, val.index]).unique()
    data = Data(train, val, Pixels(faces["images"], wanted, fabric.device, s.cache), boxes)
    out = RunFile(job.run, job.params, job.inputs, faces.classes, s.seed)
    previous = artefact.read(job.run, "run") if job.resume else None
    return fit(fabric, net, data, s, out, previous), job.run


def _say_start(fabric, job: Job, train: int, val: int, net) -> None:
    total = sum(p.numel() for p in net.parameters())
    where = f"{fabric.world_size} × {fabric.device.type}" if fabric.world_size > 1 else str(fabric.device)
    variant = f" ({job.params['variant']})" if job.params["variant"] else ""
    console.say(
        f"{job.params['model']['name']}{variant}: {total:,} parameters, {train:,} faces to train on, {val:,} in "
        f"{job.settings.val_split}, {where}, precision {job.settings.precision} → {job.run.parent}"
    )


def summary(path: Path) -> dict:
    """Facts about a run."""
    run = artefact.read(path, "run")
    history = {k: v.tolist() for k, v in run.group("history").items()}
    seconds, waited = sum(run.info["seconds"]), sum(run.info["waited"])
    return {
        "run": str(path),
        "model": run.params["model"]["name"],
        "variant": run.params["variant"],
        "recipe": run.params["recipe"],
        "epochs": int(run["state/epoch"]),
        "iterations": int(run["state/iteration"]),
        "finished": bool(run["state/finished"]),
        "best_val_accuracy": float(run["state/best"]),
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
