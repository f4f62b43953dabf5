"""The score of a network under training on its validation rows."""

from typing import cast

import numpy as np
import torch
from torch import Tensor

from fertool.evaluation.verification import verify
from fertool.models.base import Targets
from fertool.settings import Evaluate
from fertool.subsets.pairs import draw_pairs
from fertool.training import divergence
from fertool.training.inference import infer
from fertool.training.loader import Data
from fertool.training.state import TrainState


def validate(state: TrainState, data: Data) -> float:
    """Return the mean score of the validation rows, each counted once whatever the number of devices.

    A network that verifies is scored by pairs of these rows, the same after every epoch. The network itself is called
    and not its wrapper for several devices, whose processes must all call it equally often: here one may have no row at
    all.

    Raises:
        NotFiniteError: an output is NaN or infinite.
    """
    return _verification(state, data) if state.net.verifies else _mean_score(state, data)


def _mean_score(state: TrainState, data: Data) -> float:
    fabric, net = state.fabric, state.net
    mine = torch.arange(fabric.global_rank, len(data.val), fabric.world_size)
    counts = torch.zeros(2, device=fabric.device)  # scores, and outputs that are not finite
    size = _batch(state)
    parts = iter(mine.split(size))
    with fabric.autocast():
        for rows, output in infer(net, net, data.pixels, data.boxes, data.val.index[mine], size):
            given = {name: column[rows].to(fabric.device) for name, column in data.given.items()}
            labels = data.val.labels[next(parts)].to(fabric.device)
            counts[0] += net.score(output, Targets(labels, given=given)).sum()
            counts[1] += (~output.logits.isfinite()).any()
    right, wrong = fabric.all_reduce(counts, reduce_op="sum")
    divergence.check_outputs(state, wrong)
    return float(right) / len(data.val)


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
