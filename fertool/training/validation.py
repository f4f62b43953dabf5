"""The score and the loss of a network under training on its validation rows."""

from typing import cast

import numpy as np
import torch
from torch import Tensor

from fertool.evaluation.verification import verify
from fertool.settings import Evaluate
from fertool.subsets.pairs import draw_pairs
from fertool.training import divergence
from fertool.training.inference import infer
from fertool.training.loader import Data, Loader
from fertool.training.run_file import COUNTS
from fertool.training.sampling import Epochs
from fertool.training.state import TrainState


def validate(state: TrainState, loader: Loader) -> dict[str, float]:
    """Return the mean score of the validation rows, each counted once whatever the number of devices, and their loss.

    A network that verifies is scored by pairs of these rows, the same after every epoch. The network itself is called
    and not its wrapper for several devices, whose processes must all call it equally often: here one may have no row at
    all.

    Returns:
        {"val_<metric>": ..., "val_loss": ..., "val_loss_<term>": ...}; without losses for networks whose training loss
        is not one of single faces or pairs: it compares with people who are not among these rows, or takes other faces
        for each branch.

    Raises:
        NotFiniteError: an output or a loss is NaN or infinite.
    """
    if state.net.verifies:
        return {f"val_{state.net.metric}": _verification(state, loader.data)}
    return _mean(state, loader)


def _mean(state: TrainState, loader: Loader) -> dict[str, float]:
    fabric, net, data = state.fabric, state.net, loader.data
    samples = torch.arange(len(data.val))[:, None]
    if net.pairs is not None:  # every face once as the first of a pair, its partner the same after every epoch
        samples, _ = Epochs(data.val.labels, state.settings.seed, pairs=net.pairs).draw(0)
    mine = samples[fabric.global_rank :: fabric.world_size]
    faces = mine.shape[1]
    terms = tuple(name for name in state.progress.sums if name not in COUNTS) if net.has_val_loss else ()
    counts = torch.zeros(2 + len(terms), device=fabric.device)  # scores, values that are not finite, loss terms
    size = _batch(state)
    parts = iter(mine.split(size))
    with fabric.autocast():
        for _, output in infer(net, net, data.pixels, data.boxes, data.val.index[mine.flatten()], size * faces):
            part = next(parts)
            targets = loader.targets(data.val, part.flatten(), fabric.device)
            counts[0] += net.score(output, targets)[::faces].sum()
            counts[1] += (~output.logits.isfinite()).any()
            found = net.losses(output, targets) if terms else {}
            for i, name in enumerate(terms, 2):
                counts[i] += found[name] * len(part)
    totals = cast(Tensor, fabric.all_reduce(counts, reduce_op="sum"))
    divergence.check_outputs(state, totals[1] + (~totals.isfinite()).any())
    right, _, *means = (totals / len(data.val)).tolist()
    losses = {f"val_loss_{name}": mean for name, mean in zip(terms, means, strict=True)}
    return {f"val_{net.metric}": right} | ({"val_loss": sum(means), **losses} if terms else {})


def _verification(state: TrainState, data: Data) -> float:
    """Return the accuracy of verifying pairs by their embeddings, each computed by one device."""
    fabric, net = state.fabric, state.net
    pairs, same = draw_pairs(data.val.labels.numpy(), Evaluate.pairs)
    used, places = np.unique(pairs, return_inverse=True)
    mine = torch.arange(fabric.global_rank, len(used), fabric.world_size)
    size = _batch(state)
    embeddings = torch.zeros(len(used), net.backbone.features, device=fabric.device)
    parts = iter(mine.split(size))
    with fabric.autocast():
        for _, output in infer(net, net, data.pixels, data.boxes, data.val.index[used][mine], size):
            embeddings[next(parts)] = output.logits.float()
    embeddings = cast(Tensor, fabric.all_reduce(embeddings, reduce_op="sum"))
    divergence.check_outputs(state, (~embeddings.isfinite()).any())
    return verify(embeddings.cpu().numpy(), places.reshape(pairs.shape), same).accuracy


def _batch(state: TrainState) -> int:
    return max(1, state.settings.global_batch // state.fabric.world_size)
