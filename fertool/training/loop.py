"""The training loop.

One process per device, all running this same code. Everything random is drawn from the seed, the epoch and the
position of a face in the epoch, so the number of devices changes nothing but the speed, and a run that was stopped
goes on as if it had not been.
"""

import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from fertool import console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError
from fertool.evaluation.verification import verify
from fertool.models.base import FerModel, Targets
from fertool.pretrained.files import require_finite
from fertool.requirements.rows import Rows
from fertool.settings import Evaluate, Train
from fertool.subsets.pairs import draw_pairs
from fertool.training.data import Pixels
from fertool.training.devices import on_any
from fertool.training.divergence import Watch
from fertool.training.inference import infer, network_boxes
from fertool.training.run_file import COUNTS, Progress, RunFile, restore
from fertool.training.sampling import Epochs, device_slice, mixed_seed, steps_per_epoch
from fertool.training.schedule import learning_rate
from fertool.training.transforms import Augmentation, RandomCrops, cut_boxes, sample_views, view_transforms

#: how many steps' losses are left on the device before they are read, because reading waits for the device
_READ_EVERY = 20
#: share of saturated gates from which on a network that is no better than a constant is warned of
_SATURATED = 0.9


@dataclass(frozen=True)
class Data:
    """What a run trains and validates on.

    Attributes:
        boxes: (rows, K, 4) region boxes of every row of the faces file.
        crops: how regions are drawn anew in every iteration; None: those of `boxes`, which serve for validation in any
            case.
        given: the targets of `FerModel.requires`, for every row.
        tracked: rows whose attention is kept as training goes on.
        constant: score on `val` of the best output that is the same for every face, if there is one to compare with.
    """

    train: Rows
    val: Rows
    pixels: Pixels
    boxes: Tensor
    given: dict[str, Tensor] = field(default_factory=dict)
    tracked: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    constant: float | None = None
    crops: RandomCrops | None = None


@contextmanager
def stop_signal():
    """Turn Ctrl-C and SIGTERM into a question that the loop asks between steps."""
    asked = []
    old = {s: signal.signal(s, lambda *_: asked.append(True)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def make_optimizer(net: FerModel, s: Train) -> torch.optim.Optimizer:
    learnt = [p for p in net.parameters() if p.requires_grad]
    if s.optimizer == "adam":
        return torch.optim.Adam(learnt, lr=s.lr, weight_decay=s.weight_decay)
    return torch.optim.SGD(learnt, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)


def make_augmentation(s: Train) -> Augmentation:
    return Augmentation(s.flip, s.rotate, s.shift, s.scale, s.rotation_angles)


def make_epochs(net: FerModel, data: Data, s: Train) -> Epochs:
    """Return the samples of this network's epochs."""
    branches = net.branches({name: column[data.train.index] for name, column in data.given.items()})
    versions = make_augmentation(s).versions if s.expand else 1
    return Epochs(data.train.labels, s.seed, s.oversample, versions, net.pairs, branches)


def set_up(fabric: Fabric, net: FerModel, s: Train):
    """Set up network and optimiser on the device, and wrap both for several devices, precision and the compiler.

    Returns:
        The network, its optimiser, the model to call, the optimiser to step.
    """
    net = net.to(fabric.device, memory_format=torch.channels_last if s.channels_last else torch.contiguous_format)
    inner = make_optimizer(net, s)
    return net, inner, *fabric.setup(torch.compile(net) if s.compile else net, inner)


def fit(fabric: Fabric, net: FerModel, data: Data, s: Train, run: RunFile, resume: Artefact | None) -> bool:
    """Train to the end, saving as it goes.

    Args:
        net: the network, on the CPU, with its starting weights.
        resume: a saved state of the same run to go on from.

    Returns:
        True if all epochs are done, False if it was asked to stop; the state is saved either way.

    Raises:
        DataError: there are too few faces for a single step.
        NotFiniteError: the loss, or the state that would be saved, is NaN or infinite. What was saved before stays.
    """
    net, inner, model, optimizer = set_up(fabric, net, s)
    progress, best, scaling = restore(resume, net, inner) if resume else (Progress(), {}, {})
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if scaler and scaling:
        scaler.load_state_dict(scaling)

    def save() -> None:
        watch.check(progress)
        if fabric.is_global_zero:
            run.save(net, inner, progress, best, scaler.state_dict() if scaler else {})
        fabric.barrier()

    epochs = make_epochs(net, data, s)
    steps = steps_per_epoch(len(epochs), s.global_batch, fabric.world_size)
    if not steps:
        raise DataError(
            f"an epoch of {len(epochs)} samples is too short: batch statistics need two for each process",
            "train on more faces, or in fewer processes",
        )
    total = s.iterations or max(1, round(s.epochs * steps))
    watch = Watch(fabric, net, inner, s, steps, total, run.path)
    if resume:
        _check_length(resume, progress, steps, total)
        require_finite(net.state_dict(), str(resume.path))
    if not progress.iteration:
        _track(fabric, net, data, s, progress)
    with stop_signal() as asked_to_stop:
        while progress.iteration < total or progress.step:  # stopped after the very last step, it has to end its epoch
            began, saved_at, waited = time.monotonic(), time.monotonic(), 0.0
            ends_at = min(steps, progress.step + total - progress.iteration)
            net.train()
            with console.progress(f"epoch {progress.epoch + 1}", ends_at - progress.step, "step") as advance:
                for step, seconds in train_steps(
                    fabric, net, model, optimizer, data, epochs, s, progress, ends_at, steps, total
                ):
                    progress.step, progress.iteration = step + 1, progress.iteration + 1
                    waited += seconds
                    if len(progress.unread) >= _READ_EVERY or fabric.device.type == "cpu":
                        watch.read(progress)
                    advance(note=_running(progress))
                    if progress.iteration % s.track_every == 0:
                        _track(fabric, net, data, s, progress)
                    if on_any(fabric, asked_to_stop()):
                        save()
                        return False
                    if on_any(fabric, time.monotonic() - saved_at > 60 * s.checkpoint_minutes):
                        save()
                        saved_at = time.monotonic()
            watch.check(progress)
            _end_epoch(fabric, net, data, s, progress, best, watch)
            progress.seconds.append(time.monotonic() - began)
            progress.waited.append(waited)
            progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
            progress.finished = progress.iteration >= total
            save()
            _say_epoch(fabric, progress, s)
    return True


def _check_length(run: Artefact, progress: Progress, steps: int, total: int) -> None:
    """Refuse to go on where an uninterrupted run would have come by another way."""
    if progress.iteration > total or (progress.finished and progress.iteration == total):
        raise ArtefactError(
            f"{run.path} has done {progress.iteration} steps already, and these settings ask for {total}",
            "ask for more epochs or iterations, or start again without --resume",
        )
    if progress.finished and progress.iteration % steps:
        raise ArtefactError(
            f"{run.path} ended inside an epoch ({progress.iteration % steps} of {steps} steps), which is closed now",
            "start again without --resume",
        )


def _track(fabric: Fabric, net: FerModel, data: Data, s: Train, progress: Progress) -> None:
    """Keep the attention that the tracked faces get at this moment."""
    if not len(data.tracked):
        return
    found: dict[str, list[Tensor]] = {}
    with fabric.autocast():
        for _, output in infer(net, net, data.pixels, data.boxes, data.tracked, s.global_batch):
            for name, values in output.attention.items():
                found.setdefault(name, []).append(values.float().cpu())
    net.train()
    progress.trace.setdefault("iteration", []).append(np.int64(progress.iteration))
    for name, values in found.items():
        progress.trace.setdefault(name, []).append(torch.cat(values).numpy())


def train_steps(
    fabric, net, model, optimizer, data: Data, epochs: Epochs, s: Train, progress: Progress, ends_at, steps, total
):
    """Yield the optimiser steps of one epoch from `progress.step` on; yields (step, seconds waited for its faces)."""
    order, versions = epochs.draw(progress.epoch)
    seeds = [mixed_seed(s.seed, progress.epoch, i) for i in (2, 3, 4)]
    height, width = data.pixels.size
    version = versions.flatten() if s.expand else None
    augment = make_augmentation(s).draw(order.numel(), seeds[0], version, width / height)
    cuts = cut_boxes(order.numel(), data.pixels.size, net.input.size, seeds[1]) if net.input.cut else None
    crops = data.crops.draw(order.numel(), seeds[2]) if data.crops else None
    batches = [range(b * s.global_batch, min((b + 1) * s.global_batch, len(order))) for b in range(steps)]
    first = progress.step
    mine = [device_slice(batch, fabric.global_rank, fabric.world_size) for batch in batches[first:ends_at]]
    places = [order[list(part)].flatten() for part in mine]
    faces = iter(data.pixels.batches([data.train.index[p] for p in places]))
    for step in range(first, ends_at):
        asked = time.monotonic()
        images = next(faces)
        seconds = time.monotonic() - asked
        part, place = mine[step - first], places[step - first]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(s, progress.iteration, steps, total)
        targets = _targets(data, place, images.device)
        flat = torch.arange(part.start * epochs.faces, part.stop * epochs.faces)
        boxes = data.boxes[data.train.index[place]] if crops is None else crops[flat]
        boxes = network_boxes(net, boxes, data.pixels.size) if cuts is None else cuts[flat]
        transforms = view_transforms(boxes, augment[flat]).to(images.device)
        # a device's mean counts by its share of the batch, so that the gradients add up to the global mean
        share = len(part) * fabric.world_size / len(batches[step])
        pieces = min(s.accumulate, len(batches[step]) // fabric.world_size)  # the same number on every device
        names, sums = _forward_backward(fabric, net, model, images, transforms, targets, pieces, share, epochs.faces)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.unread.append((names, fabric.all_reduce(sums, reduce_op="sum")))
        yield step, seconds


def _forward_backward(fabric, net, model, images, transforms, targets: Targets, pieces: int, share: float, faces: int):
    """Gradients of one device's part of a batch, in `pieces` pieces of whole samples of `faces` faces.

    Returns:
        (names, sums over its faces): each loss term, "score", for networks with gates "saturated", and "seen".
    """
    samples = len(images) // faces
    totals = None
    for i in range(pieces):
        piece = device_slice(range(samples), i, pieces)
        take = slice(piece.start * faces, piece.stop * faces)
        last = i == pieces - 1
        with nullcontext() if last else fabric.no_backward_sync(model):
            output = model(sample_views(images[take], transforms[take], net.input))
            mine = targets.part(take)
            terms = net.losses(output, mine)
            fabric.backward(sum(terms.values()) * (share * len(piece) / samples))
        score, saturated = net.score(output, mine).detach().float(), net.saturation(output)
        n = len(score)
        sums = {k: t.detach().float() * n for k, t in terms.items()} | {"score": score.sum()}
        sums |= {} if saturated is None else {"saturated": saturated.sum()}
        sums["seen"] = score.new_tensor(n)
        counted = torch.stack(list(sums.values()))
        totals = counted if totals is None else totals + counted
    return tuple(sums), totals


def _targets(data: Data, place: Tensor, device: torch.device) -> Targets:
    rows = data.train
    spread = None if rows.distributions is None else rows.distributions[place].to(device)
    given = {name: column[rows.index[place]].to(device) for name, column in data.given.items()}
    return Targets(rows.labels[place].to(device), spread, given)


def _running(progress: Progress) -> str:
    seen = progress.sums.get("seen")
    if not seen:
        return ""
    loss = sum(v for k, v in progress.sums.items() if k not in COUNTS)
    return f"loss {loss / seen:.3f}  training {100 * progress.sums['score'] / seen:.1f} %"


def _end_epoch(fabric, net, data: Data, s: Train, progress: Progress, best: dict, watch: Watch) -> None:
    """Close the epoch's row of the history; keep the weights if they are the best so far."""
    seen = progress.sums["seen"]
    terms = {k: v / seen for k, v in progress.sums.items() if k not in COUNTS}
    val = f"val_{net.metric}"
    row = {
        "epoch": progress.epoch + 1,
        "lr": learning_rate(s, progress.iteration - 1, watch.steps, watch.total),
        "loss": sum(terms.values()),
        **{f"loss_{k}": v for k, v in terms.items()},
        f"train_{net.metric}": progress.sums["score"] / seen,
        val: validate(fabric, net, data, s.global_batch, progress, watch) if len(data.val) else float("nan"),
    }
    if data.constant is not None:
        row[f"constant_{net.metric}"] = data.constant
    if "saturated" in progress.sums:
        row["saturated"] = progress.sums["saturated"] / seen
    for key, value in row.items():
        progress.history.setdefault(key, []).append(float(value))
    if row[val] > progress.best:
        progress.best = row[val]
        best.update({k: v.detach().cpu().clone() for k, v in net.state_dict().items()})


def validate(fabric: Fabric, net: FerModel, data: Data, batch: int, progress: Progress, watch: Watch) -> float:
    """Mean score of the validation rows, each counted once whatever the number of devices.

    A network that verifies is scored by verifying pairs of these rows, the same after every epoch.

    The network itself is called and not its wrapper for several devices, whose processes must all call it equally
    often: here one may have no row at all.

    Raises:
        NotFiniteError: an output is NaN or infinite.
    """
    if net.verifies:
        return _verification(fabric, net, data, batch, progress, watch)
    mine = torch.arange(fabric.global_rank, len(data.val), fabric.world_size)
    counts = torch.zeros(2, device=fabric.device)  # scores, and outputs that are not finite
    size = max(1, batch // fabric.world_size)
    parts = iter(mine.split(size))
    with fabric.autocast():
        for rows, output in infer(net, net, data.pixels, data.boxes, data.val.index[mine], size):
            given = {name: column[rows].to(fabric.device) for name, column in data.given.items()}
            labels = data.val.labels[next(parts)].to(fabric.device)
            counts[0] += net.score(output, Targets(labels, given=given)).sum()
            counts[1] += (~output.logits.isfinite()).any()
    right, wrong = fabric.all_reduce(counts, reduce_op="sum")
    watch.check_outputs(wrong, progress)
    return float(right) / len(data.val)


def _verification(fabric: Fabric, net: FerModel, data: Data, batch: int, progress: Progress, watch: Watch) -> float:
    """Accuracy of verifying pairs of the validation rows by their embeddings, each computed by one device."""
    pairs, same = draw_pairs(data.val.labels.numpy(), Evaluate.pairs)
    used, places = np.unique(pairs, return_inverse=True)
    mine = torch.arange(fabric.global_rank, len(used), fabric.world_size)
    size = max(1, batch // fabric.world_size)
    embeddings = torch.zeros(len(used), net.backbone.features, device=fabric.device)
    parts = iter(mine.split(size))
    with fabric.autocast():
        for _, output in infer(net, net, data.pixels, data.boxes, data.val.index[used][mine], size):
            embeddings[next(parts)] = output.logits.float()
    embeddings = fabric.all_reduce(embeddings, reduce_op="sum")
    watch.check_outputs((~embeddings.isfinite()).any(), progress)
    return verify(embeddings.cpu().numpy(), places.reshape(pairs.shape), same).accuracy


def _say_epoch(fabric: Fabric, progress: Progress, s: Train) -> None:
    last = {k: v[-1] for k, v in progress.history.items()}
    train, val = (next(v for k, v in last.items() if k.startswith(part)) for part in ("train_", "val_"))
    terms = [k for k in last if k.startswith("loss_")]
    constant = next((v for k, v in last.items() if k.startswith("constant_")), None)
    if progress.epoch == 1:
        names = "".join(f"{t.removeprefix('loss_'):>9}" for t in terms)
        beside = "" if constant is None else f"{'constant %':>12}"
        console.say(
            f"{'epoch':>6}{'rate':>10}{'loss':>9}{names}{'train %':>10}{s.val_split + ' %':>10}{beside}{'time':>9}"
        )
    values = "".join(f"{last[t]:>9.4f}" for t in terms)
    beside = "" if constant is None else f"{100 * constant:>12.2f}"
    console.say(
        f"{progress.epoch:>6}{last['lr']:>10.2g}{last['loss']:>9.4f}{values}{100 * train:>10.2f}"
        f"{100 * val:>10.2f}{beside}{progress.seconds[-1]:>8.1f}s"
    )
    score = train if np.isnan(val) else val
    if last.get("saturated", 0) > _SATURATED and (constant is None or not score > constant):
        console.say(
            f"warning: {100 * last['saturated']:.1f} % of the sigmoid or softmax outputs have saturated: near 0 or 1, "
            "they hardly learn any more. Try a lower --lr or pixels of a smaller scale"
        )
