"""The training loop.

One process per device, all running this same code. Everything random is drawn from the seed, the epoch and the
position of a face in the epoch, so the number of devices changes nothing but the speed, and a run that was stopped
goes on as if it had not been.
"""

import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor

from fertool import console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError
from fertool.models.base import FerModel, Targets
from fertool.settings import Train
from fertool.training.faces import Pixels, Rows
from fertool.training.infer import infer, network_boxes
from fertool.training.run_file import Progress, RunFile, restore
from fertool.training.sampling import device_slice, epoch_order, mixed_seed, steps_per_epoch
from fertool.training.schedule import learning_rate
from fertool.training.views import Augmentation, sample_views, view_transforms


@dataclass(frozen=True)
class Data:
    """What a run trains and validates on. `boxes` covers every row of the faces file: (rows, K, 4)."""

    train: Rows
    val: Rows
    pixels: Pixels
    boxes: Tensor


@contextmanager
def stop_signal():
    """Turns Ctrl-C and SIGTERM into a question the loop asks between steps."""
    asked = []
    old = {s: signal.signal(s, lambda *_: asked.append(True)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def make_optimizer(net: FerModel, s: Train) -> torch.optim.Optimizer:
    if s.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), lr=s.lr, weight_decay=s.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)


def set_up(fabric: Fabric, net: FerModel, s: Train):
    """The network on its device and its optimiser, each as itself and as wrapped for several devices, a number format
    and the compiler: (net, its optimiser, model to call, optimiser to step)."""
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
    """
    net, inner, model, optimizer = set_up(fabric, net, s)
    progress, best, scaling = restore(resume, net, inner) if resume else (Progress(), {}, {})
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if scaler and scaling:
        scaler.load_state_dict(scaling)

    def save() -> None:
        if fabric.is_global_zero:
            run.save(net, inner, progress, best, scaler.state_dict() if scaler else {})
        fabric.barrier()

    steps = steps_per_epoch(len(data.train), s.global_batch, fabric.world_size)
    total = s.iterations or max(1, round(s.epochs * steps))
    if resume:
        _check_length(resume, progress, steps, total)
    with stop_signal() as asked_to_stop:
        while progress.iteration < total or progress.step:  # stopped after the very last step, it has to end its epoch
            began, saved_at, waited = time.monotonic(), time.monotonic(), 0.0
            ends_at = min(steps, progress.step + total - progress.iteration)
            net.train()
            with console.progress(f"epoch {progress.epoch + 1}", ends_at - progress.step, "step") as advance:
                for step, seconds in train_steps(
                    fabric, net, model, optimizer, data, s, progress, ends_at, steps, total
                ):
                    progress.step, progress.iteration = step + 1, progress.iteration + 1
                    waited += seconds
                    advance(note=_running(progress))
                    if _any(fabric, asked_to_stop()):
                        save()
                        return False
                    if _any(fabric, time.monotonic() - saved_at > 60 * s.checkpoint_minutes):
                        save()
                        saved_at = time.monotonic()
            _end_epoch(fabric, net, data, s, progress, best, steps, total)
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


def train_steps(fabric, net, model, optimizer, data: Data, s: Train, progress: Progress, ends_at, steps, total):
    """The optimiser steps of one epoch from `progress.step` on; yields (step, seconds waited for its faces)."""
    classes = int(data.train.labels.max()) + 1
    order = epoch_order(data.train.labels, classes, s.seed, progress.epoch, oversample=s.oversample)
    augment = Augmentation(s.flip, s.rotate, s.shift, s.zoom).draw(len(order), mixed_seed(s.seed, progress.epoch, 2))
    batches = [range(b * s.global_batch, min((b + 1) * s.global_batch, len(order))) for b in range(steps)]
    first = progress.step
    mine = [device_slice(batch, fabric.global_rank, fabric.world_size) for batch in batches[first:ends_at]]
    places = [order[list(part)] for part in mine]
    faces = iter(data.pixels.batches([data.train.index[p] for p in places]))
    for step in range(first, ends_at):
        asked = time.monotonic()
        images = next(faces)
        seconds = time.monotonic() - asked
        part, place = mine[step - first], places[step - first]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(s, progress.iteration, steps, total)
        targets = _targets(data.train, place, images.device)
        boxes = network_boxes(net, data.boxes[data.train.index[place]])
        transforms = view_transforms(boxes, augment[list(part)]).to(images.device)
        # a device's mean counts by its share of the batch, so that the gradients add up to the global mean
        share = len(part) * fabric.world_size / len(batches[step])
        pieces = min(s.accumulate, len(batches[step]) // fabric.world_size)  # the same number on every device
        sums = _forward_backward(fabric, net, model, images, transforms, targets, pieces, share)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _add(progress.sums, fabric.all_reduce(sums, reduce_op="sum"), net)
        yield step, seconds


def _forward_backward(fabric, net, model, images, transforms, targets: Targets, pieces: int, share: float):
    """Gradients of one device's part of a batch, in `pieces` pieces. Returns sums over its faces: each loss term,
    correct answers, faces."""
    n = len(images)
    totals = None
    for i in range(pieces):
        piece = device_slice(range(n), i, pieces)
        take = slice(piece.start, piece.stop)
        last = i == pieces - 1
        with nullcontext() if last else fabric.no_backward_sync(model):
            output = model(sample_views(images[take], transforms[take], net.input))
            mine = Targets(targets.labels[take], None if targets.distributions is None else targets.distributions[take])
            terms = net.losses(output, mine)
            fabric.backward(sum(terms.values()) * (share * len(piece) / n))
        correct = (output.logits.argmax(1) == mine.labels).sum()
        counted = torch.stack([*(t.detach().float() * len(piece) for t in terms.values()), correct.float()])
        counted = torch.cat([counted, counted.new_tensor([len(piece)])])
        totals = counted if totals is None else totals + counted
    net.loss_terms = tuple(terms)
    return totals


def _targets(rows: Rows, place: Tensor, device: torch.device) -> Targets:
    spread = None if rows.distributions is None else rows.distributions[place].to(device)
    return Targets(rows.labels[place].to(device), spread)


def _add(sums: dict[str, float], step: Tensor, net: FerModel) -> None:
    for name, value in zip((*net.loss_terms, "correct", "seen"), step.tolist(), strict=True):
        sums[name] = sums.get(name, 0.0) + value


def _running(progress: Progress) -> str:
    seen = progress.sums["seen"]
    loss = sum(v for k, v in progress.sums.items() if k not in ("correct", "seen"))
    return f"loss {loss / seen:.3f}  accuracy {100 * progress.sums['correct'] / seen:.1f} %"


def _any(fabric: Fabric, flag: bool) -> bool:
    """Whether the answer is yes on any device: all must leave the loop at the same step."""
    if fabric.world_size == 1:
        return flag
    return bool(fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum") > 0)


def _end_epoch(fabric, net, data: Data, s: Train, progress: Progress, best: dict, steps, total) -> None:
    """Close the epoch's row of the history; keep the weights if they are the best so far."""
    seen = progress.sums["seen"]
    terms = {k: v / seen for k, v in progress.sums.items() if k not in ("correct", "seen")}
    row = {
        "epoch": progress.epoch + 1,
        "lr": learning_rate(s, progress.iteration - 1, steps, total),
        "loss": sum(terms.values()),
        **{f"loss_{k}": v for k, v in terms.items()},
        "train_accuracy": progress.sums["correct"] / seen,
        "val_accuracy": validate(fabric, net, data, s.global_batch) if len(data.val) else float("nan"),
    }
    for key, value in row.items():
        progress.history.setdefault(key, []).append(float(value))
    if row["val_accuracy"] > progress.best:
        progress.best = row["val_accuracy"]
        best.update({k: v.detach().cpu().clone() for k, v in net.state_dict().items()})


def validate(fabric: Fabric, net: FerModel, data: Data, batch: int) -> float:
    """Accuracy on the validation rows, each counted once whatever the number of devices.

    The network itself is called and not its wrapper for several devices, whose processes must all call it equally
    often: here one may have no row at all.
    """
    mine = torch.arange(fabric.global_rank, len(data.val), fabric.world_size)
    correct = torch.zeros((), device=fabric.device)
    size = max(1, batch // fabric.world_size)
    labels = dict(zip(data.val.index.tolist(), data.val.labels.tolist(), strict=True))
    with fabric.autocast():
        for rows, output in infer(net, net, data.pixels, data.boxes, data.val.index[mine], size):
            truth = torch.tensor([labels[r] for r in rows.tolist()], device=output.logits.device)
            correct += (output.logits.argmax(1) == truth).sum()
    return float(fabric.all_reduce(correct, reduce_op="sum")) / len(data.val)


def _say_epoch(fabric: Fabric, progress: Progress, s: Train) -> None:
    last = {k: v[-1] for k, v in progress.history.items()}
    terms = [k for k in last if k.startswith("loss_")]
    if progress.epoch == 1:
        names = "".join(f"{t.removeprefix('loss_'):>9}" for t in terms)
        console.say(f"{'epoch':>6}{'rate':>10}{'loss':>9}{names}{'train %':>10}{s.val_split + ' %':>10}{'time':>9}")
    values = "".join(f"{last[t]:>9.4f}" for t in terms)
    console.say(
        f"{progress.epoch:>6}{last['lr']:>10.2g}{last['loss']:>9.4f}{values}{100 * last['train_accuracy']:>10.2f}"
        f"{100 * last['val_accuracy']:>10.2f}{progress.seconds[-1]:>8.1f}s"
    )
