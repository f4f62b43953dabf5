"""RASnet, the region attention sub-network of MAN.

Gan et al., "Multiple Attention Network for Facial Expression Recognition", IEEE Access 2020, Table 1. It is trained to
find eight facial regions that landmarks define, so that no landmarks are needed afterwards.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from fertool.backbones.layers import xavier
from fertool.backbones.registry import PIXELS
from fertool.models.base import FerModel, Output, Targets
from fertool.regions.masks import constant_masks
from fertool.requirements import Masks
from fertool.settings import Settings

REGIONS, GRID = 8, 14

#: setting of RASnet and MAN
XavierFan = Annotated[
    Literal["in", "average"],
    "fan of Xavier's initialisation: that of the inputs, as in Caffe, with which the paper's networks were trained, or "
    "the mean of inputs and outputs",
]


@dataclass(frozen=True, kw_only=True)
class RasNetSettings(Settings):
    """Settings of RASnet."""

    name: Literal["rasnet"] = "rasnet"
    fc_relu: Annotated[bool, "a ReLU after the first fully connected layer; Table 1 shows none"] = False
    pool_ceil: Annotated[bool, "round pooled sizes up, as Caffe does; Table 1 fits only so"] = True
    pixels: Annotated[
        Literal["vgg-face", "imagenet"],
        "pixels minus their mean, as for VGG-Face, or also divided by their deviation; the paper does not say. With "
        "`vgg-face` the masks begin at 0 and 1 and hardly learn",
    ] = "imagenet"
    channels: Annotated[int, Gt(0), "of the first convolution; the others have twice as many"] = 64
    xavier: XavierFan = "in"


class RasNet(FerModel):
    """RASnet. Its output, a face's masks, stands in the place of logits."""

    Settings = RasNetSettings
    paper = "man"
    VARIANTS = {"rasnet": {}}
    CATALOGUE = (("RASnet", {}, 7),)

    requires = (Masks((REGIONS, GRID, GRID)),)
    classifies = False
    finds_masks = True
    metric = "iou"
    gates = ("logits",)
    head = ()

    def __init__(self, settings: RasNetSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.input = PIXELS[s.pixels]
        c, up = s.channels, s.pool_ceil
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, c, 5, stride=3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=up),
            nn.Conv2d(c, 2 * c, 5, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=up),
            nn.Conv2d(2 * c, 2 * c, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=up),
        )  # fmt: skip
        side = 4 if up else 3
        self.fc7 = nn.Linear(2 * c * side * side, 2048)
        self.fc8 = nn.Linear(2048, REGIONS * GRID * GRID)  # the table prints 1056, which no 14×14 masks make up
        self.apply(partial(xavier, fan=s.xavier))

    def forward(self, views: Tensor) -> Output:
        """Map (N, 1, 3, 224, 224) to Output whose logits are masks (N, 8, 14, 14) between 0 and 1."""
        x = self.fc7(self.convolutions(views[:, 0]).flatten(1))
        x = self.fc8(x.relu() if self.settings.fc_relu else x)
        return Output(x.float().unflatten(1, (REGIONS, GRID, GRID)).sigmoid())

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Return the squared error, summed over all masks and cells, averaged over the batch (Eq. 2-3)."""
        return {"masks": ((output.logits - targets.given["masks"]) ** 2).sum(dim=(1, 2, 3)).mean()}

    def constant_score(self, train: Targets, val: Targets) -> float:
        masks = torch.from_numpy(constant_masks(train.given["masks"].numpy()))
        true = val.given["masks"] > 0
        return intersection_over_union(masks.expand_as(true), true).mean().item()

    def score(self, output: Output, targets: Targets) -> Tensor:
        """Return (N,) intersection over union of predicted (>= 0.5) and true masks, averaged over the regions."""
        return intersection_over_union(output.logits >= 0.5, targets.given["masks"] > 0).mean(1)


def intersection_over_union(predicted: Tensor, true: Tensor) -> Tensor:
    """Return (N, R) for boolean masks (N, R, h, w); 1 where both are empty."""
    both = (predicted & true).sum(dim=(2, 3)).float()
    either = (predicted | true).sum(dim=(2, 3)).float()
    return (both / either.clamp_min(1)).where(either > 0, both.new_ones(()))
