"""Linear probe: a linear classifier on frozen features of dlib's face recognition network.

How well a linear classifier reads a property off the hidden layers of a network (Alain & Bengio, "Understanding
intermediate layers using linear classifier probes", ICLR Workshops 2017). Only the classifier is trained, so that a few
thousand faces and minutes on a CPU are enough.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from fertool.backbones.dlib_resnet import DlibResNet29
from fertool.backbones.registry import build_backbone
from fertool.models.base import FerModel, Output
from fertool.settings import Settings

_DEPTHS = (7, 10)  # residual blocks whose maps are read: the last of 64 channels and of 128
_CHANNELS = (64, 128)
_GRID = 4  # side of the maps after pooling


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(Settings):
    """Settings of the linear probe."""

    name: Literal["probe"] = "probe"
    size: Annotated[int, Ge(DlibResNet29.smallest), "side of the face at the network's input"] = 96


class Probe(FerModel):
    """Linear probe of dlib's ResNet: maps of two depths, pooled to 4×4 and standardised, and one linear layer."""

    Settings = ProbeSettings
    VARIANTS = {"probe": {}}
    CATALOGUE = (("Linear probe of dlib's ResNet", {}, 7),)

    cam_layer = f"backbone.blocks.{_DEPTHS[-1] - 1}"
    head = ("scale.", "classifier.")

    def __init__(self, settings: ProbeSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = settings
        self.backbone, self.input = build_backbone(settings.name, "dlib-resnet29", "auto", settings.size)
        self.backbone.requires_grad_(False)
        features = sum(_CHANNELS) * _GRID**2
        self.scale = nn.BatchNorm1d(features, affine=False)
        self.classifier = nn.Linear(features, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @property
    def pretrained(self) -> str:
        return self.backbone.pretrained

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, views: Tensor) -> Output:
        """Map (N, 1, 3, size, size) to Output with logits (N, classes)."""
        net = self.backbone
        x = net.maxpool(net.relu(net.affine1(net.conv1(views[:, 0]))))
        features = []
        for depth, block in enumerate(cast(Iterable[nn.Module], net.blocks), 1):
            x = block(x)
            if depth in _DEPTHS:
                features.append(F.adaptive_avg_pool2d(x, _GRID).flatten(1))
            if depth == _DEPTHS[-1]:
                break
        return Output(self.classifier(self.scale(torch.cat(features, dim=1).float())))
