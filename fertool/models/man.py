"""MAN, Multiple Attention Network (Gan et al., IEEE Access 2020).

A VGG-16 whose fourth block is followed by a multiple-attention block: a trained RASnet says where eight regions of the
face lie; each region, cut out of the features softly, goes through its own convolution and channel attention; a small
branch decides how much each of the eight counts in their sum.

The paper's baselines, the plain VGG-16 and VGG-16 with one channel attention, are the same class with other settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from fertool.backbones.base import renormalise
from fertool.backbones.layers import Branches, he, xavier
from fertool.backbones.registry import PIXELS, VggBlocks
from fertool.models.base import FerModel, Output
from fertool.models.rasnet import GRID, REGIONS, RasNet, RasNetSettings, XavierFan
from fertool.regions.masks import REGIONS as NAMES
from fertool.regions.masks import boxes_around
from fertool.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ManSettings(Settings):
    """Settings of MAN."""

    name: Literal["man"] = "man"
    block: Annotated[
        Literal["ma", "se", "none"], "after VGG's fourth block: multiple attention, one channel attention, or nothing"
    ] = "ma"
    mask_binarize: Annotated[bool, "RASnet's masks as 0 or 1 instead of in between"] = False
    weight_head: Annotated[
        Literal["softmax", "sigmoid_l1"], "how the weights of the eight regions are made to sum to 1"
    ] = "softmax"
    weight_channels: Annotated[
        int, Gt(0), "channels of the branch that weighs the regions; not in the paper's text"
    ] = 64
    se_reduction: Annotated[
        int, Gt(0), "channel attention squeezes to one in so many channels; not in the paper's text"
    ] = 16
    dropout: Annotated[float, Ge(0), Lt(1), "after both fully connected layers"] = 0.5
    channels: Annotated[int, Ge(4), "of VGG's first block; 64 is VGG-16, smaller is for trying out"] = 64
    pixels: Annotated[
        Literal["vgg-face", "imagenet"],
        "how pixels are normalised: as the starting weights saw them; `imagenet`, for all other starting weights, also "
        "initialises the convolutions by He's rule instead of Xavier's",
    ] = "vgg-face"
    xavier: XavierFan = "in"
    pretrained_part: Annotated[dict, "settings of the pretrained RASnet; taken from its run"] = field(
        default_factory=dict
    )


class Man(FerModel):
    """MAN's ERSnet with its frozen RASnet, and its baselines. Arguments as for every network; regions are not used."""

    Settings = ManSettings
    paper = "man"
    baseline = "vgg"
    VARIANTS = {"man": {}, "vgg-se": {"block": "se"}, "vgg": {"block": "none"}}
    CATALOGUE = (
        ("MAN (ERSnet)", {}, 7),
        ("VGG-16 with channel attention", {"block": "se"}, 7),
        ("VGG-16", {"block": "none"}, 7),
    )

    head = ("fc8.",)
    gates = ("regions",)
    region_weights = {"regions": "regions weight"}
    cam_layer = f"backbone.{VggBlocks.last_maps}"

    def __init__(self, settings: ManSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.input = PIXELS[s.pixels]
        self.backbone = VggBlocks(s.channels)
        wide = 8 * s.channels
        if s.block == "ma":
            self.attention: Any = MultipleAttention(wide, s)
        elif s.block == "se":
            self.attention = ChannelAttention(wide, s.se_reduction)
        self.dropout, self.relu = nn.Dropout(s.dropout), nn.ReLU()
        self.fc6 = nn.Linear(wide * 7 * 7, 64 * s.channels)
        self.fc7 = nn.Linear(64 * s.channels, 64 * s.channels)
        self.fc8 = nn.Linear(64 * s.channels, classes)
        self.apply(partial(xavier, fan=s.xavier))
        if s.pixels == "imagenet":  # with Xavier's weights, inputs of this size would die away in thirteen layers
            self.backbone.apply(he)
        if s.block == "ma":
            self.rasnet = RasNet(RasNetSettings(**s.pretrained_part), classes)
        self.train()

    @property
    def pretrained_part(self) -> str:
        return "rasnet" if self.settings.block == "ma" else ""

    @property
    def finds_masks(self) -> bool:
        return self.settings.block == "ma"

    def attention_maps(self, attention: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the sum of the masks, each weighted by how much its region counts."""
        if "masks" not in attention:
            return {}
        return {"regions": np.einsum("nr,nrhw->nhw", attention["regions"], attention["masks"])}

    def region_names(self, crops: Sequence[str]) -> list[str]:
        return list(NAMES)

    def region_boxes(self, attention: Mapping[str, np.ndarray], crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes around the masks; the first region, the whole face, cannot be covered."""
        return boxes_around(attention["masks"][:, 1:] >= 0.5), np.arange(1, REGIONS)

    def parts(self) -> dict[str, nn.Module]:
        return {"its MA block": self.attention} if self.settings.block == "ma" else {}

    def forward(self, views: Tensor) -> Output:
        """Map (N, 1, 3, 224, 224) to Output with attention regions (N, 8), which sum to 1, and masks (N, 8, 14, 14)."""
        x, attention = self.backbone.lower(views[:, 0]), {}
        if self.settings.block == "ma":
            masks = self.rasnet(renormalise(views, self.input, self.rasnet.input)).logits.detach()
            if self.settings.mask_binarize:
                masks = (masks >= 0.5).to(masks.dtype)
            x, weights = self.attention(x, masks)
            attention = {"regions": weights, "masks": masks}
        elif self.settings.block == "se":
            x = self.attention(x)
        x = self.backbone.upper(x).flatten(1)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        return Output(self.fc8(x), attention)


class ChannelAttention(nn.Module):
    """Squeeze and excitation of channels, for `groups` groups of channels side by side, each with its own weights."""

    def __init__(self, channels: int, reduction: int, groups: int = 1):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(groups * channels, groups * hidden, 1, groups=groups)
        self.excite = nn.Conv2d(groups * hidden, groups * channels, 1, groups=groups)
        self.relu = nn.ReLU()

    def scale(self, means: Tensor) -> Tensor:
        """Map means of the channels (N, groups · channels, 1, 1) to their factors, between 0 and 1."""
        return self.excite(self.relu(self.squeeze(means))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x.mean(dim=(2, 3), keepdim=True))


class MultipleAttention(nn.Module):
    """MAN's multiple-attention block (Fig. 2, Eq. 5-6), its eight branches computed together.

    A 1×1 convolution commutes with a mask, conv(V ⊗ M) = M ⊗ (W V) + b, so all eight are one convolution of V.
    """

    def __init__(self, channels: int, s: ManSettings):
        super().__init__()
        self.buffer = Branches(REGIONS, channels, channels, 1)
        self.channel_attention = ChannelAttention(channels, s.se_reduction, groups=REGIONS)
        self.weigh_conv = nn.Conv2d(channels, s.weight_channels, 1)
        self.weigh_fc = nn.Linear(s.weight_channels * (GRID // 2) ** 2, REGIONS)
        self.head = s.weight_head

    def forward(self, v: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Map features V (N, C, 14, 14) and masks (N, 8, 14, 14) to fused features (N, C, 14, 14), weights q (N, 8)."""
        n, c = v.shape[:2]
        shared = F.conv2d(v, self.buffer.weight).unflatten(1, (REGIONS, c))
        bias = cast(Tensor, self.buffer.bias)  # nn.Conv2d may have none
        regions = shared * masks[:, :, None].to(shared.dtype) + bias.view(REGIONS, c, 1, 1)
        means = regions.mean(dim=(3, 4)).view(n, REGIONS * c, 1, 1)
        q = self.weigh(v)
        factors = self.channel_attention.scale(means).view(n, REGIONS, c, 1, 1) * q[:, :, None, None, None]
        return (factors * regions).sum(1), q

    def weigh(self, v: Tensor) -> Tensor:
        """Return (N, 8) weights of the regions."""
        scores = self.weigh_fc(self.weigh_conv(F.max_pool2d(v, 2)).flatten(1)).float()
        if self.head == "softmax":
            return scores.softmax(1)
        gates = scores.sigmoid()
        return gates / gates.sum(1, keepdim=True)
