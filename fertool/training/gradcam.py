"""Grad-CAM (Selvaraju et al., ICCV 2017) and guided Grad-CAM: which parts of a face speak for a class.

Both come from captum. What is added here: networks whose input are views of a face and whose answer is an `Output`;
maps of views are laid back over the face; gradients go down to the pixels of the stored face, whatever was cut out of
it and however often.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, LayerGradCam
from torch import Tensor, nn

from fertool.errors import UsageError, nearest
from fertool.models.base import FerModel
from fertool.training.inference import network_boxes
from fertool.training.transforms import sample_views, view_transforms


@dataclass(frozen=True)
class Explained:
    """What speaks for a class in some faces.

    Attributes:
        cam: (N, H, W) Grad-CAM over the stored faces, not negative, not scaled. Over a network with several views of a
            face it is the sum of the views' maps, each laid where the view was cut out; 0 outside of all views.
        gradient: (N, C, H, W) the class's logit by the pixels (0..255) of the stored faces, by guided backpropagation:
            every ReLU passes back only what is positive, where its input was.
        logits: (N, classes).
        layer: whose maps are weighed.
    """

    cam: Tensor
    gradient: Tensor
    logits: Tensor
    layer: str

    @property
    def guided(self) -> Tensor:
        """(N, C, H, W) guided Grad-CAM: the product of both."""
        return self.gradient * self.cam[:, None]


def explain(
    net: FerModel, images: Tensor, boxes: Tensor, classes: Tensor | None, layer: str = "", batch: int = 8
) -> Explained:
    """Return Grad-CAM and guided backpropagation of a network in eval mode, which is left as it was.

    Args:
        images: (N, C, H, W) uint8 faces, on the network's device.
        boxes: (N, K, 4) region boxes; without regions the whole face.
        classes: (N,) the classes asked about; None takes what the network predicts.
        layer: whose maps are weighed; by default the network's `cam_layer`.

    Raises:
        UsageError: there is no such layer, or it gives no maps of the face.
    """
    net.eval()
    layer = layer or net.cam_layer
    if not layer:
        raise UsageError(f"{net.name} has no layer of feature maps to explain", "name a layer: --layer NAME")
    module = dict(net.named_modules()).get(layer)
    if module is None:
        known = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.ReLU)]
        raise UsageError(f"the network has no layer {layer!r}", nearest(layer, known))
    parts = []
    with _not_in_place(net):
        for rows in torch.arange(len(images)).split(batch):
            asked = None if classes is None else classes[rows]
            parts.append(_part(net, module, layer, images[rows], boxes[rows], asked))
    cam, gradient, logits = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Explained(cam, gradient, logits, layer)


def _part(
    net: FerModel, module: nn.Module, layer: str, images: Tensor, boxes: Tensor, classes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    face = images.shape[2], images.shape[3]
    wanted = network_boxes(net, boxes, face)
    seen = _FromPixels(net, view_transforms(wanted, None).to(images.device))
    pixels = images.float()
    with torch.no_grad():
        logits = seen(pixels)
    classes = logits.argmax(1) if classes is None else classes.to(logits.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks; they are gone when it returns
        maps = _maps(seen, module, layer, pixels, classes, (wanted.shape[0], wanted.shape[1]))
        gradient = GuidedBackprop(seen).attribute(pixels, target=classes)
    return lay_back(maps, wanted.to(maps), face), gradient.detach(), logits


def _maps(
    seen: nn.Module, module: nn.Module, layer: str, pixels: Tensor, classes: Tensor, views: tuple[int, int]
) -> Tensor:
    """Return (N, K, h, w) Grad-CAM of every view."""
    try:
        maps = LayerGradCam(seen, module).attribute(pixels, target=classes, relu_attributions=True)
    except (RuntimeError, AssertionError, IndexError, AttributeError):  # captum's own words help nobody here
        maps = None
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[0] != views[0] * views[1]:
        raise UsageError(f"the layer {layer!r} gives no maps of the face that the classes depend on", "name another")
    return maps.detach()[:, 0].unflatten(0, views)


class _FromPixels(nn.Module):
    """Stored faces (N, C, H, W) → logits, through the views that the network sees."""

    def __init__(self, net: FerModel, transforms: Tensor):
        super().__init__()
        self.net, self.transforms = net, transforms

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(sample_views(pixels, self.transforms, self.net.input)).logits


def lay_back(maps: Tensor, boxes: Tensor, face: tuple[int, int]) -> Tensor:
    """Add up maps (N, K, h, w) of views where their boxes (N, K, 4) lie in a face (height, width): (N, H, W)."""
    n, k = maps.shape[:2]
    low, high = boxes[..., :2].flatten(0, 1), boxes[..., 2:].flatten(0, 1)
    scale, centre = high - low, low + high - 1
    inverse = torch.cat([torch.diag_embed(1 / scale), (-centre / scale)[..., None]], dim=-1)
    grid = F.affine_grid(inverse, [n * k, 1, *face], align_corners=False)
    inside = (grid.abs() <= 1).all(dim=-1)
    laid = F.grid_sample(maps.flatten(0, 1)[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    return (laid * inside).unflatten(0, (n, k)).sum(1)


@contextmanager
def _not_in_place(net: nn.Module) -> Iterator[None]:
    """Keep ReLUs from overwriting their input, of which nothing would be left to explain."""
    overwriting: list[Any] = [m for m in net.modules() if getattr(m, "inplace", False)]
    for module in overwriting:
        module.inplace = False
    try:
        yield
    finally:
        for module in overwriting:
            module.inplace = True
