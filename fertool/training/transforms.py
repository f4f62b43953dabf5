"""From stored faces to the views a network sees: crop, mirror, turn, shift, scale and resize in one sampling step.

Every view is one affine transform per face. A box picks a part of the augmented face, so a mirrored face has its
top-left crop at its top left. All views of a batch are one `grid_sample` call on the device; nothing is enlarged or
cut beforehand.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fertool.backbones.base import InputSpec


@dataclass(frozen=True)
class Augmentation:
    """Geometric augmentation of training faces.

    Probability of a mirror image, and the largest rotation (degrees), shift (fraction of the side) and change of scale
    (fraction). With `rotation_angles`, the rotation is one of these angles instead.
    """

    flip: float = 0.0
    rotate: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    rotation_angles: tuple[float, ...] = ()

    @property
    def versions(self) -> int:
        """How many versions of a face there are when each turn, and its mirror image, is shown in its own right."""
        return max(1, len(self.rotation_angles)) * (2 if self.flip else 1)

    def draw(self, n: int, seed: int, versions: Tensor | None = None, aspect: float = 1.0) -> Tensor:
        """Return (n, 2, 3) transforms of normalised coordinates [-1, 1], output → source.

        Row i depends on seed and i only, so the same faces are varied the same way on any number of devices.

        Args:
            versions: (n,) which version of each face, instead of a turn and a mirror image at random.
            aspect: width of the faces over their height.
        """
        random = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))
        mirrored, angle = random[:, 0] < self.flip, self.rotate * (2 * random[:, 1] - 1)
        if versions is not None:
            mirrored = versions >= max(1, len(self.rotation_angles))
        if self.rotation_angles:
            turns, k = torch.tensor(self.rotation_angles), len(self.rotation_angles)
            angle = turns[(random[:, 1] * k).long().clamp_max(k - 1) if versions is None else versions % k]
        mirror, angle = torch.where(mirrored, -1.0, 1.0), torch.deg2rad(angle)
        scale = 1 + self.scale * (2 * random[:, 2] - 1)
        shift = 2 * self.shift * (2 * random[:, 3:] - 1)
        cos, sin = scale * angle.cos(), scale * angle.sin()
        first = torch.stack([mirror * cos, -mirror * sin / aspect, shift[:, 0]], dim=1)
        second = torch.stack([sin * aspect, cos, shift[:, 1]], dim=1)
        return torch.stack([first, second], dim=1)


def cut_boxes(n: int, face: tuple[int, int], size: tuple[int, int], seed: int | None = None) -> Tensor:
    """Return boxes (n, 1, 4) of `size` (height, width) pixels of a stored face, at random places or in the middle."""
    free = torch.tensor([face[1] - size[1], face[0] - size[0]])
    if seed is None:
        start = (free // 2).expand(n, 2)
    else:
        start = (torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * (free + 1)).long()
    low, side = start.float(), torch.tensor([face[1], face[0]]).float()
    return (torch.cat([low, low + torch.tensor([size[1], size[0]])], dim=1) / side.repeat(2))[:, None]


@dataclass(frozen=True)
class RandomCrops:
    """Square crops of a face, sampled anew in every iteration (RAN, III-C and IV-D).

    Their number, and the range of their side as a fraction of the face.
    """

    count: int
    ratio: tuple[float, float]

    def draw(self, n: int, seed: int) -> Tensor:
        """Return the whole face and the crops of n faces as boxes (n, 1 + count, 4).

        Row i depends on seed and i only, so they are the same on any number of devices and after any interruption.
        """
        random = torch.rand(n, self.count, 3, generator=torch.Generator().manual_seed(seed))
        low, high = self.ratio
        side = low + (high - low) * random[..., :1]
        corner = random[..., 1:] * (1 - side)
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(n, 1, 4)
        return torch.cat([whole, torch.cat([corner, corner + side], dim=-1)], dim=1)


def view_transforms(boxes: Tensor, augment: Tensor | None) -> Tensor:
    """Return boxes (N, K, 4) as fractions and face transforms (N, 2, 3) -> (N, K, 2, 3), output → source."""
    low, high = boxes[..., :2], boxes[..., 2:]
    scale, centre = high - low, low + high - 1
    if augment is None:
        linear = torch.diag_embed(scale)
        return torch.cat([linear, centre[..., None]], dim=-1)
    linear, offset = augment[:, None, :, :2], augment[:, None, :, 2:]
    return torch.cat([linear * scale[..., None, :], linear @ centre[..., None] + offset], dim=-1)


def sample_views(images: Tensor, transforms: Tensor, spec: InputSpec) -> Tensor:
    """Cut all views of a batch.

    Args:
        images: (N, C, H, W) uint8, C 1 or 3.
        transforms: (N, K, 2, 3) from `view_transforms`.
        spec: size, channels and normalisation the network wants.

    Returns:
        (N, K, spec.channels, h, w) float32. Beyond the image the border is repeated.
    """
    n, k = transforms.shape[:2]
    h, w = spec.size
    pixels = images.float()
    shrink = min(images.shape[2] // h, images.shape[3] // w)
    if shrink >= 2 and not spec.crop:  # bilinear sampling alone would skip pixels
        pixels = F.adaptive_avg_pool2d(pixels, (images.shape[2] // shrink, images.shape[3] // shrink))
    if pixels.shape[1] == 3 and spec.channels == 1:
        pixels = (pixels * pixels.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    grid = F.affine_grid(transforms.flatten(0, 1).to(pixels), [n * k, 1, h, w], align_corners=False)
    views = F.grid_sample(pixels, grid.view(n, k * h, w, 2), padding_mode="border", align_corners=False)
    views = views.view(n, -1, k, h, w).transpose(1, 2)
    mean, std = (views.new_tensor(v)[:, None, None] for v in (spec.mean, spec.std))
    return (views.expand(-1, -1, spec.channels, -1, -1) / 255 - mean) / std
