"""Which faces an epoch shows, in which order, and which of them a device gets. All of it follows from the seed.

An epoch is a list of samples. A sample is one face; for networks that learn from pairs, two; for the two branches of
the Attention Map Generator, one face for each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def mixed_seed(*parts: int) -> int:
    """Return one seed out of several numbers, well apart for neighbouring ones."""
    h = 0x9E3779B97F4A7C15
    for part in parts:
        h = ((h ^ part) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
        h ^= h >> 29
    return h


@dataclass(frozen=True)
class Epochs:
    """The samples of every epoch.

    Attributes:
        labels: (N,) class of every training face.
        seed: decides everything.
        oversample: draws with replacement, weight 1/class count, instead of every face once.
        versions: an epoch shows every face in so many versions (see `views.Augmentation`).
        pairs: None, or the share of pairs of one class: every face comes with a partner, drawn uniformly from its
            own class or from all others.
        branches: None, or for every branch the positions (n_b,) of the faces it learns from.
    """

    labels: Tensor
    seed: int
    oversample: bool = False
    versions: int = 1
    pairs: float | None = None
    branches: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        """Return samples of an epoch."""
        faces = max(map(len, self.branches)) if self.branches else len(self.labels)
        return faces * self.versions

    @property
    def faces(self) -> int:
        """Faces of a sample."""
        return len(self.branches) if self.branches else 1 if self.pairs is None else 2

    def draw(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Return positions (samples, faces) of the training faces in the order of an epoch, and the version of each."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch, 1))
        if self.branches:
            columns = [self._once(len(b), generator) for b in self.branches]
            places = torch.stack([b[c % len(b)] for b, c in zip(self.branches, columns, strict=True)], dim=1)
            return places, torch.stack([c // len(b) for b, c in zip(self.branches, columns, strict=True)], dim=1)
        n = len(self.labels)
        if self.oversample:
            count = torch.bincount(self.labels).clamp_min(1)
            weight = 1.0 / count[self.labels].double()
            order = torch.multinomial(weight, n * self.versions, replacement=True, generator=generator)
            version = torch.randint(self.versions, (len(order),), generator=generator)
        else:
            shown = torch.randperm(n * self.versions, generator=generator)
            order, version = shown % n, shown // n
        if self.pairs is None:
            return order[:, None], version[:, None]
        partner = draw_partners(self.labels, order, self.pairs, generator)
        other = torch.randint(self.versions, (len(order),), generator=generator)
        return torch.stack([order, partner], dim=1), torch.stack([version, other], dim=1)

    def _once(self, n: int, generator: torch.Generator) -> Tensor:
        """Return len(self) numbers below n * versions: each once, then again in another order, until enough."""
        rounds = -(-len(self) // (n * self.versions))
        return torch.cat([torch.randperm(n * self.versions, generator=generator) for _ in range(rounds)])[: len(self)]


def draw_partners(labels: Tensor, order: Tensor, same: float, generator: torch.Generator) -> Tensor:
    """Return a partner for each position: with probability `same` one of its own class, else one of another class.

    Partners are uniform among the others of the class, or among the faces of all other classes. The only face of a
    class is its own partner.
    """
    by_class = labels.argsort(stable=True)
    count = torch.bincount(labels)
    first = count.cumsum(0) - count
    rank = torch.empty_like(by_class)
    rank[by_class] = torch.arange(len(labels))  # where in by_class a face stands
    mine = labels[order]
    random = torch.rand(2, len(order), generator=generator, dtype=torch.float64)
    others = count[mine] - 1
    step = 1 + (random[1] * others).long()
    alike = first[mine] + (rank[order] - first[mine] + torch.where(others > 0, step, 0)) % count[mine]
    outside = len(labels) - count[mine]
    unlike = (random[1] * outside).long()
    unlike = unlike + torch.where(unlike >= first[mine], count[mine], 0)
    return by_class[torch.where(random[0] < same, alike, unlike)]


def balanced_weights(labels: Tensor) -> Tensor:
    """Return a weight per class, N / (classes that occur · faces of the class); its mean over the N faces is 1."""
    count = torch.bincount(labels)
    return len(labels) / ((count > 0).sum() * count.clamp_min(1)).float()


def steps_per_epoch(n: int, batch: int, devices: int) -> int:
    """Return the batches of an epoch. The last one may be smaller, but not smaller than two samples per device."""
    full, rest = divmod(n, batch)
    return full + (rest >= 2 * devices)


def device_slice(positions: range, rank: int, devices: int) -> range:
    """Return the part of a global batch that one device computes: contiguous, sizes differing by at most one."""
    n = len(positions)
    return positions[n * rank // devices : n * (rank + 1) // devices]
