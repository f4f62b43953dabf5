"""A network of your own: a small convolutional trunk whose feature map is pooled by attention over its cells."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from fertool.backbones.base import InputSpec
from fertool.models.base import FerModel, Output, Targets, classification_loss
from fertool.settings import Settings


@dataclass(frozen=True, kw_only=True)
class GridSettings(Settings):
    """Settings of the network; each is a key `train.model.NAME`."""

    name: str = "grid-attention"
    size: Annotated[int, Gt(15), "input size in pixels"] = 48
    channels: Annotated[int, Gt(0), "channels of the first convolution"] = 16
    attention: Annotated[bool, "weigh the cells; otherwise they are averaged"] = True
    spread: Annotated[float, Ge(0), "weight of the loss that keeps attention from collapsing to one cell"] = 0.01


class GridAttention(FerModel):
    """Features of every cell, weighted by a softmax over the cells."""

    name = "grid-attention"
    Settings = GridSettings
    VARIANTS = {"average": {"attention": False}}
    cam_layer = "trunk.7"

    def __init__(self, settings: GridSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings, c = settings, settings.channels
        self.input = InputSpec((settings.size, settings.size), mean=(0.5,) * 3, std=(0.25,) * 3)
        self.trunk = nn.Sequential(
            nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(4),
            nn.Conv2d(c, 2 * c, 3, padding=1), nn.BatchNorm2d(2 * c), nn.ReLU(), nn.Conv2d(2 * c, 2 * c, 3, padding=1),
        )  # fmt: skip
        self.scores = nn.Conv2d(2 * c, 1, 1)
        self.classifier = nn.Linear(2 * c, classes)

    def forward(self, views: Tensor) -> Output:
        """Map views (N, 1, 3, H, W) to logits, and to attention (N, h, w) that sums to 1."""
        features = self.trunk(views[:, 0])
        n, _, h, w = features.shape
        if not self.settings.attention:
            return Output(self.classifier(features.mean((2, 3))))
        weights = torch.softmax(self.scores(features).flatten(1), dim=1)
        pooled = (features.flatten(2) * weights[:, None]).sum(2)
        return Output(self.classifier(pooled), {"grid": weights.reshape(n, h, w)})

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Return the classification loss, and the negative entropy of the attention."""
        terms = {"ce": classification_loss(output.logits, targets)}
        if "grid" in output.attention and self.settings.spread:
            p = output.attention["grid"].flatten(1)
            terms["spread"] = self.settings.spread * (p * p.clamp_min(1e-8).log()).sum(1).mean()
        return terms
