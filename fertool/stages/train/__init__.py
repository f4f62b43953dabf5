"""train: faces (and regions, subsets) → a run."""

import multiprocessing
import signal
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
from lightning.fabric import Fabric

from fertool import artefact, console, locks, plugins, run_folders
from fertool.errors import ArtefactError, RecipeError, Stopped, UsageError
from fertool.evaluation.summary import metric_of
from fertool.models.base import FerModel, Targets
from fertool.models.registry import build_model, model_class, model_settings
from fertool.pretrained.files import read_tensors
from fertool.pretrained.initialise import init_weights
from fertool.requirements import Inputs
from fertool.requirements.rows import fold_count
from fertool.settings import Train
from fertool.stages.train.inputs import Job, gather, tracked_rows
from fertool.training import lineage
from fertool.training.batchnorm import synchronise
from fertool.training.checkpoint import preparation
from fertool.training.data import Pixels, random_crops, region_boxes
from fertool.training.devices import Devices, start
from fertool.training.loader import Data
from fertool.training.loop import fit
from fertool.training.run_file import RunFile
from fertool.workspace import Workspace, new_run

#: settings that may differ between a run and its continuation: they change how fast or how far it goes, not where
_SPEED = {"train.cache", "train.checkpoint_minutes", "train.compile"}
_LENGTH = {"train.epochs", "train.iterations"}
_NAMING = 30.0  # seconds to wait for another training that names its run

#: LNLAttenNet reports the mean over so many last epochs
LAST_EPOCHS = 10


def run(
    faces: Path,
    *,
    settings: Train,
    devices: Devices,
    workspace: Workspace,
    regions: Path | None = None,
    subsets: Path | None = None,
    masks: Path | None = None,
    pretrained_part: Path | None = None,
    recipe: str = "",
    variant: str = "",
    out: Path | None = None,
    home: Path | None = None,
    resume: bool | None = False,
    overwrite: bool = False,
) -> Path:
    """Train a network.

    Args:
        faces: the faces file; regions, subsets and masks files are used if the network or `settings.labels` needs
            them.
        pretrained_part: folder of the finished run of the pretrained part; by default the latest in the workspace, on
            the same faces if there is one.
        variant: a named baseline or ablation of the network, applied on top of `settings.model`.
        out: folder of the run; by default the next free name in `home`.
        home: folder of runs, by default `runs` beside the faces; a sweep's takes finished runs of the dataset, too.
        resume: continue the latest unfinished run of these settings; None: if there is one.
        overwrite: train again although there is such a run.

    Returns:
        The run.h5 file.

    Raises:
        RecipeError, ArtefactError, DataError, DeviceError: before anything heavy starts.
        Stopped: Ctrl-C or SIGTERM, after the state was saved.
    """
    if not model_class(str(settings.model.get("name"))).trainable:
        raise UsageError("a network of others is evaluated as it is, not trained", "run: fertool adopt FILE")
    model = model_settings(settings.model, variant)
    variant = (
        "" if variant in (model.name, plugins.resolve("models", model.name).name) else variant
    )  # the system itself has no suffix
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
    if settings.patience and settings.val_split == "test" and settings.select_on != "test":
        raise RecipeError(
            "patience would choose the length of the training on the test split",
            "set val_split to another split, or spell it out with select_on: test",
        )
    source = artefact.read(faces, "faces")
    files = {"regions": regions, "subsets": subsets, "masks": masks}
    job = gather(source, settings, model, recipe, variant, files, pretrained_part, workspace, devices)
    with ExitStack() as held:
        alone = console.is_first_process()  # others were started together with this one, and write nothing
        if out and alone:
            held.enter_context(locks.exclusive(out))
        home = home or job.faces.parent / run_folders.RUNS
        with locks.exclusive(job.faces.parent / run_folders.RUNS, wait=_NAMING) if alone and not out else nullcontext():
            folder, go_on = _folder(job, home, out, resume, overwrite)
            if go_on is None:
                return folder / "run.h5"
            if alone:
                held.enter_context(locks.exclusive(folder))
        job = replace(job, run=folder / "run.h5", resume=go_on)
        try:
            _verify(job)
            return _start(job, devices)
        finally:
            with suppress(OSError):
                folder.rmdir()  # only works if nothing has been saved


def each_fold(settings: Train, folds: str | None, subsets: Path) -> list[Train]:
    """Return the settings of one run, or of one for each fold.

    Args:
        folds: None for no cross-validation beyond what the settings say, "all", or the number of a fold.
        subsets: the subsets file, which says how many folds there are.
    """
    if folds is None:
        return [settings]
    if folds != "all":
        if not (folds.isascii() and folds.isdecimal() and len(folds) < 10):
            raise UsageError(f"--folds {folds} is neither all nor the number of a fold", "e.g. --folds all")
        return [replace(settings, fold=int(folds))]
    if not subsets.is_file():
        raise ArtefactError(f"cross-validation needs the folds of {subsets}", "run: fertool build-subsets --folds 10")
    return [replace(settings, fold=fold) for fold in range(fold_count(artefact.read(subsets, "subsets")))]


def _folder(job: Job, home: Path, out: Path | None, resume: bool | None, overwrite: bool) -> tuple[Path, bool | None]:
    """Return the folder to train in, and whether to resume what is there; None if there is nothing to do."""
    name = plugins.resolve("models", job.params["model"]["name"]).name + (
        f"-{job.params['variant']}" if job.params["variant"] else ""
    )
    if job.settings.fold is not None:
        name += f"-fold{job.settings.fold}"
    if out is not None:
        mine = [out] if (out / "run.h5").exists() else []
    else:
        mine = [r for r in _candidates(home) if r.name.rpartition("-")[0] == name]
    ignore = set()
    if resume:  # a schedule over the whole training would have run differently from the start
        of_length = job.settings.lr_unit == "fraction" or job.settings.lr_schedule == "cosine"
        ignore = _SPEED if of_length else _SPEED | _LENGTH
    for folder in reversed(mine):
        elsewhere = out is None and folder.parent != home
        try:
            old = artefact.read(folder / "run.h5", "run")
        except ArtefactError:
            if elsewhere:
                continue
            raise
        differences = artefact.differences(old, job.params, job.inputs, ignore)
        if out is not None and differences and not overwrite:
            raise ArtefactError(
                f"{folder} holds a run with other settings: {'; '.join(differences)}", "add --overwrite"
            )
        if differences or (elsewhere and (overwrite or not old["state/finished"])):
            continue
        if overwrite and not resume:
            return folder, False
        if old["state/finished"] and not artefact.differences(old, job.params, job.inputs, _SPEED):
            console.say(f"{run_folders.name_of(folder)} is up to date ({folder})")
            for output in (folder, folder / "run.h5"):
                locks.is_free(output)  # which removes the lock file of a process that was killed at its very end
            return folder, None
        if resume is not False:
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
    return new_run(home, name), False


def _candidates(home: Path) -> list[Path]:
    """Return the runs that may be what is asked for, the best last: those in `home`, for a sweep also all others."""
    among = run_folders.beside(home / "run")
    return among if run_folders.sweep_of(home / "run") else [r for r in among if r.parent == home]


def _verify(job: Job) -> None:
    """Read the inputs whole, once, before anything heavy starts: a damaged one must not be learned from."""
    for path in (job.faces, *job.files.values()):
        artefact.read(path).verify()


def _start(job: Job, devices: Devices) -> Path:
    """Run the training processes; turn what can go wrong in them into errors for the user. Gives the run."""

    def pass_on(
        number: int, _frame: FrameType | None
    ) -> None:  # a SIGTERM reaches this process only; the workers have to hear of it
        for child in multiprocessing.active_children():
            child.terminate()

    many = devices.count > 1
    old = {s: signal.signal(s, pass_on) for s in (signal.SIGINT, signal.SIGTERM)} if many else {}
    try:
        done, made = start(devices, job.settings.precision, train_process, job)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if not done:
        raise Stopped(f"stopped; everything is saved in {made}", "the same command with --resume goes on")
    return made


def train_process(fabric: Fabric, job: Job) -> tuple[bool, Path]:
    """Open the files, build the network and train, in every process.

    Returns whether it came to the end, and the run.
    """
    s = job.settings
    faces = artefact.read(job.faces, "faces")
    used = {kind: artefact.read(path, kind) for kind, path in job.files.items()}
    inputs = Inputs(faces, s, used)
    boxes = region_boxes(faces, used.get("regions"))
    torch.manual_seed(s.seed)
    model = model_settings(job.params["model"])
    plugins.require_unchanged(plugins.resolve("models", model.name), job.params.get("plugins", {}), "model")
    net = build_model(model, len(faces.classes or ()), regions=boxes.shape[1])
    if job.pretrained_part:
        try:
            net.frozen.load_state_dict(read_tensors(job.pretrained_part))
        except RuntimeError as e:
            raise ArtefactError(
                f"{job.pretrained_part}: its weights are not those of its network", "train it again"
            ) from e
    if not job.resume and (match := init_weights(net, s.init or net.pretrained)):
        console.say(f"weights from {match}")
    net = synchronise(net, fabric.device)
    train, val = net.selection.train_rows(inputs), net.selection.val_rows(inputs)
    tracked = tracked_rows(faces, s)
    _say_start(fabric, job, len(train), len(val), net)
    wanted = torch.cat([train.index, val.index, tracked]).unique()
    given = {name: column for r in net.requires for name, column in r.targets(inputs).items()}
    pixels = Pixels(faces["images"], wanted, fabric.device, s.cache)
    constant = net.constant_score(
        *(Targets(r.labels, given={k: v[r.index] for k, v in given.items()}) for r in (train, val))
    )
    crops = random_crops(used.get("regions"))
    data = Data(train, val, pixels, boxes, given, tracked, constant, crops, len(faces.classes or ()))
    prepared = preparation(faces, used.get("regions"))
    previous = artefact.read(job.run, "run") if job.resume else None
    init = previous.info.get("lineage", {}).get("init") if previous else None
    made_from = lineage.record(s, faces, train.index.numpy(), used, job.pretrained_part, init)
    classes = () if net.verifies else faces.classes or ()  # people are counted, not named
    out = RunFile(job.run, job.params, job.inputs, classes, s.seed, prepared, made_from)
    return fit(fabric, net, data, s, out, previous), job.run


def _say_start(fabric: Fabric, job: Job, train: int, val: int, net: FerModel) -> None:
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
    """Return facts about a run."""
    run = artefact.read(path, "run")
    history = {k: v.tolist() for k, v in run.group("history").items()}
    metric = metric_of(history)
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
        **{k: v[-1] for k, v in history.items() if k.startswith("constant_") and v},
        f"last_epochs_val_{metric}": sum(lasts) / LAST_EPOCHS if len(lasts) == LAST_EPOCHS else None,
        "select_on": run.params["train"]["select_on"],
        "seconds": seconds,
        "waiting_for_data": waited / seconds if seconds else 0.0,
        "history": history,
    }


def report(facts: dict) -> None:
    """Print the end of a training in two lines."""
    line = f"{facts['epochs']} epochs, {facts['iterations']} steps, {facts['seconds']:.0f} s"
    console.say(f"{line}, {100 * facts['waiting_for_data']:.1f} % of it waiting for data")
    if facts["select_on"] == "test":
        console.say("note: the checkpoint was chosen on the test split; its accuracy there is optimistic")
