"""Which faces an epoch shows, in which order, and which of them a device gets. All of it follows from the seed."""

import torch
from torch import Tensor


def mixed_seed(*parts: int) -> int:
    """One seed out of several numbers, well apart for neighbouring ones."""
    h = 0x9E3779B97F4A7C15
    for part in parts:
        h = ((h ^ part) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
        h ^= h >> 29
    return h


def epoch_order(labels: Tensor, classes: int, seed: int, epoch: int, *, oversample: bool) -> Tensor:
    """Positions of the training faces in the order of one epoch.

    Args:
        labels: (N,) class of every training face.
        oversample: N draws with replacement, weight 1/class count, instead of a permutation.
    """
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch, 1))
    if not oversample:
        return torch.randperm(len(labels), generator=generator)
    count = torch.bincount(labels, minlength=classes).clamp_min(1)
    return torch.multinomial(1.0 / count[labels].double(), len(labels), replacement=True, generator=generator)


def steps_per_epoch(n: int, batch: int, devices: int) -> int:
    """Batches of an epoch. The last one may be smaller, but not smaller than two faces per device."""
    full, rest = divmod(n, batch)
    return full + (rest >= 2 * devices)


def device_slice(positions: range, rank: int, devices: int) -> range:
    """The part of a global batch that one device computes: contiguous, sizes differing by at most one."""
    n = len(positions)
    return positions[n * rank // devices : n * (rank + 1) // devices]
