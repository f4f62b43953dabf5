"""What a process trains on, batch by batch: order, augmentation, crops, and pixels fetched ahead.

All of it is sampled from the seed, the epoch and the position of a face in the epoch, so the number of processes
changes nothing, and an epoch can be entered anywhere.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fertool.backbones.base import InputSpec
from fertool.errors import DataError
from fertool.models.base import FerModel, Targets
from fertool.requirements.rows import Rows
from fertool.settings import Train
from fertool.training.data import Pixels
from fertool.training.inference import network_boxes
from fertool.training.mixing import Variation, jittered
from fertool.training.sampling import Epochs, balanced_weights, device_slice, mixed_seed, steps_per_epoch
from fertool.training.transforms import Augmentation, RandomCrops, cut_boxes, sample_views, view_transforms


@dataclass(frozen=True)
class Data:
    """What a run trains and validates on.

    Attributes:
        boxes: (rows, K, 4) region boxes of every row of the faces file.
        crops: how regions are sampled anew in every iteration; None: those of `boxes`, which serve for validation
            in any case.
        classes: number of classes.
        given: the targets of `FerModel.requires`, for every row.
        tracked: rows whose attention is kept during the training.
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
    classes: int = 0


@dataclass(frozen=True)
class Batch:
    """One process's part of a global batch, on its device.

    Attributes:
        images: (n, C, H, W) uint8.
        transforms: (n, K, 2, 3) of every view, see `view_transforms`.
        boxes: (n, K, 4) of every view, as fractions of the augmented face.
        targets: of the n faces.
        variation: how each face is varied.
        others: the faces that these are mixed with, if they are.
        faces: faces of a sample, which must not be separated: two for networks that learn from pairs.
        share: what the mean over this part counts for, so that the gradients of all processes add up to the mean over
            the global batch.
        pieces: in how many pieces the gradients are accumulated; the same in every process.
        waited: seconds that the process waited for the images.
    """

    images: Tensor
    transforms: Tensor
    boxes: Tensor
    targets: Targets
    variation: Variation
    faces: int = 1
    share: float = 1.0
    pieces: int = 1
    waited: float = 0.0
    others: "Batch | None" = None

    def views(self, net: FerModel) -> Iterator[tuple[Tensor, Targets, float]]:
        """Yield the network's views (n, K, C, H, W) of each piece, its targets, and its part of the share."""
        samples = len(self.images) // self.faces
        for i in range(self.pieces):
            piece = device_slice(range(samples), i, self.pieces)
            take = slice(piece.start * self.faces, piece.stop * self.faces)
            others = None if self.others is None else self.others._cut(take, net.input)
            views, targets = self._cut(take, net.input)
            varied = self.variation.part(take).apply(views, targets, self.boxes[take], others)
            yield *varied, self.share * len(piece) / samples

    def _cut(self, rows: slice, spec: InputSpec) -> tuple[Tensor, Targets]:
        images = jittered(self.images[rows], self.variation.part(rows).jitter)
        return sample_views(images, self.transforms[rows], spec), self.targets.part(rows)


class Loader:
    """The training batches of one of several processes.

    Attributes:
        steps: optimiser steps of an epoch.

    Raises:
        DataError: there are too few faces for a single step.
    """

    def __init__(self, net: FerModel, data: Data, settings: Train, rank: int = 0, processes: int = 1):
        self.net, self.data, self.settings = net, data, settings
        self.rank, self.processes = rank, processes
        s = settings
        self.augmentation = Augmentation(s.flip, s.rotate, s.shift, s.scale, s.rotation_angles)
        self.class_weights = balanced_weights(data.train.labels) if s.class_weights == "balanced" else None
        branches = net.branches({name: column[data.train.index] for name, column in data.given.items()})
        versions = self.augmentation.versions if s.expand else 1
        self.epochs = Epochs(data.train.labels, s.seed, s.oversample, versions, net.pairs, branches)
        self.steps = steps_per_epoch(len(self.epochs), s.global_batch, processes)
        if not self.steps:
            raise DataError(
                f"an epoch of {len(self.epochs)} samples is too short: batch statistics need two for each process",
                "train on more faces, or in fewer processes",
            )

    def batches(self, epoch: int, first: int, end: int) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `first` until before step `end`."""
        s, data = self.settings, self.data
        order, versions = self.epochs.draw(epoch)
        augment, boxes = self._draw(epoch, order, versions)
        wholes = [range(b * s.global_batch, min((b + 1) * s.global_batch, len(order))) for b in range(first, end)]
        mine = [device_slice(whole, self.rank, self.processes) for whole in wholes]
        variation, k = Variation.draw(order.numel(), s, epoch), self.epochs.faces
        shown = [torch.arange(part.start * k, part.stop * k) for part in mine]  # positions of faces in the epoch
        mixed = [variation.partners(at, whole) for at, whole in zip(shown, wholes, strict=True)]
        needed = [order.flatten()[torch.cat(both)] for both in zip(shown, mixed, strict=True)]
        pixels = iter(data.pixels.batches([data.train.index[place] for place in needed]))

        def batch(at: Tensor, images: Tensor, **more: Any) -> Batch:
            place, device = order.flatten()[at], images.device
            cut = boxes(at, place)
            return Batch(
                images=images,
                transforms=view_transforms(cut, augment[at]).to(device),
                boxes=cut.to(device),
                targets=self.targets(data.train, place, device),
                variation=variation.part(at).to(device),
                **more,
            )

        for whole, part, at, others in zip(wholes, mine, shown, mixed, strict=True):
            asked = time.monotonic()
            images = next(pixels)
            waited = time.monotonic() - asked
            yield batch(
                at,
                images[: len(at)],
                faces=k,
                share=len(part) * self.processes / len(whole),
                pieces=min(s.accumulate, len(whole) // self.processes),
                waited=waited,
                others=batch(others, images[len(at) :]) if len(others) else None,
            )

    def _draw(self, epoch: int, order: Tensor, versions: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """Sample what is random in an epoch: transforms of every face shown, and a function that gives region boxes.

        The boxes are (n, K, 4), of the faces at positions of the epoch, which are at `place` among the training faces.
        """
        data, size = self.data, self.data.pixels.size
        seeds = [mixed_seed(self.settings.seed, epoch, i) for i in (2, 3, 4)]
        version = versions.flatten() if self.settings.expand else None
        augment = self.augmentation.draw(order.numel(), seeds[0], version, size[1] / size[0])
        if self.net.input.crop:
            cuts = cut_boxes(order.numel(), size, self.net.input.size, seeds[1])
            return augment, lambda flat, place: cuts[flat]
        if data.crops:
            crops = data.crops.draw(order.numel(), seeds[2])
            return augment, lambda flat, place: network_boxes(self.net, crops[flat], size)
        return augment, lambda flat, place: network_boxes(self.net, data.boxes[data.train.index[place]], size)

    def targets(self, rows: Rows, place: Tensor, device: torch.device) -> Targets:
        """Return the targets of the faces at `place` (n,) among the training or validation rows."""
        labels, smoothing = rows.labels[place], self.settings.label_smoothing
        distributions = None if rows.distributions is None else rows.distributions[place]
        weights = None if self.class_weights is None else self.class_weights[labels].to(device)
        if smoothing or self.settings.mixup or self.settings.cutmix:
            hard = F.one_hot(labels, self.data.classes).float() if distributions is None else distributions
            distributions = (1 - smoothing) * hard + smoothing / self.data.classes
        spread = None if distributions is None else distributions.to(device)
        given = {name: column[rows.index[place]].to(device) for name, column in self.data.given.items()}
        return Targets(labels.to(device), spread, given, weights)
