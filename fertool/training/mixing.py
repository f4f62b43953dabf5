"""What is done to the views of training faces on the device: colour jitter, random erasing, mixup and cutmix.

Every face has its own numbers, sampled from the seed, the epoch and its position in the epoch. Rectangles lie in the
frame of the augmented face, so that all regions of a face lose, or get from another face, the same part of it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fertool.models.base import Targets
from fertool.settings import Train
from fertool.training.sampling import mixed_seed

_ERASED = (0.02, 0.2), (0.3, 3.3)  # range of the area and of height over width (Zhong et al., AAAI 2020)
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Variation:
    """How each of n faces is varied; what is off is None.

    Attributes:
        jitter: (n, 3) factors of brightness, contrast and saturation.
        erased: (n, 4) rectangles x0, y0, x1, y1 that are erased, as fractions of the face; empty for most faces.
        mixed: (n, 4) rectangles that another face shows through; the whole face for mixup.
        keep: (n,) share of the face's own pixels in that rectangle, 0 for cutmix.
        partner: (n,) in [0, 1), which other face of the global batch it is.
    """

    jitter: Tensor | None = None
    erased: Tensor | None = None
    mixed: Tensor | None = None
    keep: Tensor | None = None
    partner: Tensor | None = None

    @classmethod
    def draw(cls, n: int, s: Train, epoch: int) -> "Variation":
        """Draw the numbers of a whole epoch. Row i depends on seed, epoch, n and i only."""
        mixing = np.random.default_rng(mixed_seed(s.seed, epoch, 5))
        erasing = np.random.default_rng(mixed_seed(s.seed, epoch, 6))
        colours = np.random.default_rng(mixed_seed(s.seed, epoch, 7))
        found = {}
        if s.jitter:
            found["jitter"] = 1 + s.jitter * (2 * colours.random((n, 3)) - 1)
        if s.erase:
            found["erased"] = _erased(erasing, n, s.erase)
        if s.mixup or s.cutmix:
            found |= _mixed(mixing, n, s.mixup, s.cutmix)
        return cls(**{name: torch.from_numpy(values).float() for name, values in found.items()})

    def part(self, rows: Tensor | slice) -> "Variation":
        """Return those of some of the faces."""
        values = (self.jitter, self.erased, self.mixed, self.keep, self.partner)
        return Variation(*(None if v is None else v[rows] for v in values))

    def to(self, device: torch.device) -> "Variation":
        values = (self.jitter, self.erased, self.mixed, self.keep, self.partner)
        return Variation(*(None if v is None else v.to(device) for v in values))

    def apply(
        self, views: Tensor, targets: Targets, boxes: Tensor, others: tuple[Tensor, Targets] | None
    ) -> tuple[Tensor, Targets]:
        """Mix views (n, K, C, h, w) with those of other faces, and erase parts of them.

        The label share of a face is that of its pixels among all its views: for RAN, in the whole face and the crops.
        RAN's region-biased loss, which knows no labels, is that of the mixed face.

        Args:
            boxes: (n, K, 4) of the views, as fractions of the augmented face.
            others: views and targets of the faces that these are mixed with.
        """
        size = (views.shape[-2], views.shape[-1])
        if self.mixed is not None and self.keep is not None and others:
            own = 1 - (1 - self.keep.view(-1, 1, 1, 1, 1)) * inside(self.mixed, boxes, size)
            views = own * views + (1 - own) * others[0]
            targets = mix_targets(targets, others[1], own.mean(dim=(1, 2, 3, 4)))
        if self.erased is not None:
            views = views * (1 - inside(self.erased, boxes, size))  # 0 is the mean of the network's input
        return views, targets

    def partners(self, positions: Tensor, batch: range) -> Tensor:
        """Return the positions of the faces that these are mixed with: others of the same global batch."""
        if self.partner is None:
            return positions[:0]
        others = max(1, len(batch) - 1)
        step = 1 + (self.partner[positions] * others).long().clamp_max(others - 1)
        return batch.start + (positions - batch.start + step) % len(batch)


def _erased(random: np.random.Generator, n: int, probability: float) -> np.ndarray:
    (low, high), (narrow, wide) = _ERASED
    area, ratio = random.uniform(low, high, n), np.exp(random.uniform(np.log(narrow), np.log(wide), n))
    side = np.minimum(1, np.sqrt(np.stack([area / ratio, area * ratio], axis=1)))
    corner = random.random((n, 2)) * (1 - side)
    rectangle = np.concatenate([corner, corner + side], axis=1)
    return np.where(random.random((n, 1)) < probability, rectangle, 0.0)


def _mixed(random: np.random.Generator, n: int, mixup: float, cutmix: float) -> dict[str, np.ndarray]:
    """Draw mixup or cutmix for each face, where both are on with equal chances."""
    cut = random.random(n) < (0.5 if mixup and cutmix else float(cutmix > 0))
    own = np.where(cut, random.beta(cutmix or 1, cutmix or 1, n), random.beta(mixup or 1, mixup or 1, n))
    side, centre = np.sqrt(1 - own)[:, None], random.random((n, 2))
    rectangle = np.concatenate([centre - side / 2, centre + side / 2], axis=1).clip(0, 1)
    return {
        "mixed": np.where(cut[:, None], rectangle, np.array([0.0, 0.0, 1.0, 1.0])),
        "keep": np.where(cut, 0.0, own),
        "partner": random.random(n),
    }


def jittered(images: Tensor, factors: Tensor | None) -> Tensor:
    """Vary brightness, contrast and saturation of images (n, C, H, W), 0 to 255; grey ones have no saturation."""
    if factors is None:
        return images
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    pixels = images.float() * brightness
    grey = pixels
    if pixels.shape[1] == 3:
        grey = (pixels * pixels.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
        pixels = grey + saturation * (pixels - grey)
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + contrast * (pixels - mean)).clamp(0, 255)


def inside(rectangles: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return 1 where a pixel of a view lies in its face's rectangle, else 0.

    Args:
        rectangles: (n, 4) as fractions of the face. boxes: (n, K, 4) of its views, likewise.
        size: height and width of a view.

    Returns:
        (n, K, 1, h, w) float32.
    """
    axes = []
    for axis, pixels in ((1, size[0]), (0, size[1])):
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        at = low + (high - low) * (torch.arange(pixels, device=boxes.device) + 0.5) / pixels  # (n, K, pixels)
        axes.append((at >= rectangles[:, None, axis, None]) & (at < rectangles[:, None, axis + 2, None]))
    return (axes[0][..., :, None] & axes[1][..., None, :]).float()[:, :, None]


def mix_targets(targets: Targets, others: Targets, share: Tensor) -> Targets:
    """Return soft targets: distributions and weights mixed by the share (n,) of the pixels that are the face's own.

    The label is that of the face with more of them.
    """
    assert targets.distributions is not None
    assert others.distributions is not None
    by = share[:, None]
    weights = None
    if targets.weights is not None and others.weights is not None:
        weights = share * targets.weights + (1 - share) * others.weights
    return Targets(
        labels=torch.where(share >= 0.5, targets.labels, others.labels),
        distributions=by * targets.distributions + (1 - by) * others.distributions,
        given=targets.given,
        weights=weights,
    )
