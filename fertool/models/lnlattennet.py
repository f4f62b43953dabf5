"""LNLAttenNet, joint local and non-local attention (Shi et al., Machine Intelligence Research 2023).

A U-Net gives coarse features (Conv5-2) and fine ones (Conv9-2). On the coarse ones a non-local branch compares all
regions of the face with each other; from how much each is attended to follows a weight per region. The fine ones are
cut into overlapping patches; each has a small network of its own and a local attention that judges it by itself. The
patches' features, weighted by both, and the non-local vector are classified together.

The paper's Model-S, Model-Local and Model-NonLocal are the same class with other settings, see `VARIANTS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from fertool.backbones.base import InputSpec
from fertool.backbones.layers import Branches, he, xavier
from fertool.models.base import FerModel, Output, Targets, classification_loss
from fertool.regions.patches import patch_side, patch_starts
from fertool.settings import Settings

_EPS = 1e-8
_PATCH = 48  # side of a patch as the local networks see it: Tables II and III fit no other


@dataclass(frozen=True, kw_only=True)
class LnlSettings(Settings):
    """Settings of LNLAttenNet."""

    name: Literal["lnlattennet"] = "lnlattennet"
    patches: Annotated[Literal[4, 9, 16, 25, 36], "number of patches and regions, M"] = 16
    overlap: Annotated[
        Annotated[int, Ge(0)] | None, "cells of the feature map that neighbouring patches share; default: a third"
    ] = None
    alpha: Annotated[
        float,
        Ge(0),
        Le(1),
        "share of the attended vector in the non-local one (Eq. 1); the text says 0.7, but all its tables hold the "
        "results of 0.3",
    ] = 0.3
    nonlocal_weights: Annotated[bool, "weigh patches by non-local attention"] = True
    local_weights: Annotated[bool, "weigh patches by their own local attention"] = True
    share_local: Annotated[bool, "one local network for all patches instead of one each"] = False
    plain_weight: Annotated[
        Literal["mean", "sum"],
        "weight of every patch without non-local attention (Model-S, Model-Local): 1/M, so that f_en is a mean, or 1; "
        "the paper does not say",
    ] = "mean"
    local_fc_relu: Annotated[
        bool, "a ReLU after FC-64 of the local attention; Table III names no activation of its layers"
    ] = True
    l2: Annotated[float, Ge(0), "lambda of Eq. 3: weight of the sum of all squared weights"] = 1e-4
    l2_biases: Annotated[bool, "count biases in that sum, too; Eq. 3 speaks of weights"] = False
    l2_gamma: Annotated[float, Ge(0), "gamma of Eq. 3, which the paper does not give"] = 1.0
    hidden: Annotated[
        tuple[int, int], "units of the two layers before the classifier; the paper gives their number only"
    ] = (512, 128)
    dropout: Annotated[float, Ge(0), Lt(1), "after each of them; the paper names none"] = 0.5
    channels: Annotated[int, Ge(4), "of the U-Net's first level; 64 is the paper's"] = 64
    size: Annotated[int, Ge(64), "side of the input, a multiple of 16"] = 144
    initialisation: Annotated[
        Literal["xavier", "he"],
        "of all weights: Xavier's (the paper's), each local network as a network of its own, or He's for ReLU",
    ] = "xavier"
    mean: Annotated[float, "of the pixels, as a fraction of white: what is subtracted; the paper does not say"] = 0.0
    std: Annotated[float, Gt(0), "of the pixels, as a fraction of white: what they are divided by"] = 1.0


class LnlAttenNet(FerModel):
    """LNLAttenNet and its ablations. Arguments as for every network; regions are not used."""

    Settings = LnlSettings
    paper = "lnlattennet"
    gates = ("local",)
    region_weights = {"global": "global weight", "local": "local weight"}
    own_weight = "local"
    cam_layer = "unet.down.4"  # Conv5-2: everything after it uses it
    baseline = "single"
    VARIANTS = {
        "lnlattennet": {},
        "single": {"nonlocal_weights": False, "local_weights": False},
        "local": {"nonlocal_weights": False},
        "non-local": {"local_weights": False},
    }
    CATALOGUE = (
        ("LNLAttenNet", {}, 7),
        ("LNLAttenNet, one local network for all patches", {"share_local": True}, 7),
        ("LNLAttenNet, Model-S", VARIANTS["single"], 7),
    )

    def __init__(self, settings: LnlSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.input = InputSpec((s.size, s.size), 3, (s.mean,) * 3, (s.std,) * 3)
        c, m = s.channels, s.patches
        self.n = isqrt(m)
        coarse = 8 * c * m  # length of g, s and g*
        self.unet = UNet(c)
        self.g_conv = nn.Sequential(
            nn.Conv2d(16 * c, 8 * c, 3, padding=1), nn.ReLU(), nn.Conv2d(8 * c, 8 * c, 3, padding=1), nn.ReLU()
        )
        if s.nonlocal_weights:
            self.qkv = Branches(3, 16 * c, 8 * c, 1)
            self.relu = nn.ReLU()
        nets = 1 if s.share_local else m
        self.local = SimpleNet(c, nets)
        if s.local_weights:
            self.local_attention = LocalAttention(c, nets, s.local_fc_relu)
        widths = (coarse + 6 * 6 * 4 * c, *s.hidden)
        layers = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(s.dropout)]
        self.hidden = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], classes)
        self.apply(he if s.initialisation == "he" else xavier)

    def attention_maps(self, attention: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the patches' weights laid over one another, their mean where patches overlap."""
        return {name: self._laid_out(weights) for name, weights in attention.items()}

    def _laid_out(self, weights: np.ndarray) -> np.ndarray:
        side = self.settings.size
        total, times = np.zeros((len(weights), side, side), np.float32), np.zeros((side, side), np.float32)
        for i, (x0, y0, x1, y1) in enumerate(self._patch_boxes()):
            total[:, y0:y1, x0:x1] += weights[:, i, None, None]
            times[y0:y1, x0:x1] += 1
        return total / times

    def _patch_boxes(self) -> list[tuple[int, int, int, int]]:
        """Return x0, y0, x1, y1 of every patch in pixels of the input, row by row."""
        side, overlap = self.settings.size, self.settings.overlap
        starts, p = patch_starts(side, self.n, overlap), patch_side(side, self.n, overlap)
        return [(x, y, x + p, y + p) for y in starts for x in starts]

    def region_names(self, crops: Sequence[str]) -> None:
        return None

    def region_boxes(self, attention: Mapping[str, np.ndarray], crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = np.array(self._patch_boxes()) / self.settings.size
        return np.repeat(boxes[None], len(crops), 0), np.arange(len(boxes))

    def parts(self) -> dict[str, nn.Module]:
        if self.settings != LnlSettings():
            return {}
        c = self.settings.channels
        return {
            "its U-Net": self.unet,
            "a SimpleNet": SimpleNet(c, 1),
            "a local attention": LocalAttention(c, 1),
        }

    def forward(self, views: Tensor) -> Output:
        """Map (N, 1, 3, S, S) to Output with attention global w^g and local w^l, each (N, M), of patches row by row."""
        s = self.settings
        f5, f9 = self.unet(views[:, 0])
        g, w_global = self._global(f5)
        w_local = None
        patches = self._patches(f9)  # (N, M, C, 48, 48)
        features = self._each(self.local, patches)  # (N, M, 4c, 6, 6)
        if s.local_weights:
            w_local = self._each(self.local_attention, features).flatten(1).float().sigmoid()
        weight = features.new_ones(features.shape[:2])
        plain = 1 / s.patches if s.plain_weight == "mean" else 1.0
        weight = weight * (plain if w_global is None else w_global)
        weight = weight if w_local is None else weight * w_local
        fused = (weight[:, :, None] * features.flatten(2)).sum(1)  # Eq. 2
        logits = self.classifier(self.hidden(torch.cat([g, fused], dim=1)))
        found = {"global": w_global, "local": w_local}
        return Output(logits, {k: v for k, v in found.items() if v is not None})

    def _global(self, f5: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the global vector g* (N, M · 8c) and the weights w^g (N, M), None without non-local attention.

        Eq. 1 adds g and s entry by entry: both are flattened cell by cell, the channels of a cell side by side
        (TensorFlow's order), so that an entry of g meets the same cell's entry of s.
        """
        g = self._cells(self.g_conv(f5)).flatten(1)
        if not self.settings.nonlocal_weights:
            return g, None
        w_global, attended = self._nonlocal(f5)
        return (1 - self.settings.alpha) * g + self.settings.alpha * attended, w_global  # Eq. 1

    def _cells(self, x: Tensor) -> Tensor:
        """Return (N, C, h, w) pooled to M cells, row by row: (N, M, C)."""
        return self._pool(x).flatten(2).transpose(1, 2)

    def _nonlocal(self, f5: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights w^g (N, M) and the attended vector s (N, M · 8c), from Q, K, V of Table I."""
        q, k, v = (self._cells(x).float() for x in self.relu(self.qkv(f5)).chunk(3, dim=1))
        r = q @ k.transpose(1, 2)  # no entry is negative
        total = r.sum(2, keepdim=True)
        r = torch.where(total > _EPS, r / total.clamp_min(_EPS), 1 / r.shape[2])  # rows sum to 1
        return r.mean(1), (r @ v).flatten(1)

    def _pool(self, x: Tensor) -> Tensor:
        """Pool to n×n cells: 2×2 max pooling where that gives them (9×9 -> 4×4), else adaptive max pooling.

        The latter is written out, because ONNX has no operator for it.
        """
        side, n = x.shape[2], self.n
        if side // 2 == n:
            return F.max_pool2d(x, 2)
        windows = [slice(i * side // n, -(-(i + 1) * side // n)) for i in range(n)]
        x = torch.stack([x[:, :, w].amax(2) for w in windows], dim=2)
        return torch.stack([x[..., w].amax(3) for w in windows], dim=3)

    def _patches(self, f9: Tensor) -> Tensor:
        """Map (N, C, S, S) to (N, M, C, 48, 48), resampled where they are not of that size."""
        starts = patch_starts(f9.shape[2], self.n, self.settings.overlap)
        p = patch_side(f9.shape[2], self.n, self.settings.overlap)
        cut = torch.stack([f9[:, :, y : y + p, x : x + p] for y in starts for x in starts], dim=1)
        if p == _PATCH:
            return cut
        resized = F.interpolate(cut.flatten(0, 1), size=_PATCH, mode="bilinear", align_corners=False)
        return resized.unflatten(0, cut.shape[:2])

    def _each(self, net: nn.Module, x: Tensor) -> Tensor:
        """Run the local networks on all patches (N, M, C, h, w) at once.

        Own weights for each patch are grouped convolutions; shared weights take the patches in the batch.
        """
        n, m = x.shape[:2]
        if self.settings.share_local:
            return net(x.flatten(0, 1)).unflatten(0, (n, m))
        return net(x.flatten(1, 2)).unflatten(1, (m, -1))

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        s = self.settings
        counted = [p for name, p in self.named_parameters() if s.l2_biases or name.endswith("weight")]
        squares = sum(((p**2).sum() for p in counted), start=output.logits.new_zeros((), dtype=torch.float32))
        return {"ce": classification_loss(output.logits, targets), "l2": s.l2_gamma * s.l2 * squares}  # Eq. 3


class UNet(nn.Module):
    """Ronneberger's U-Net with zero padding: (N, 3, S, S) -> Conv5-2 (N, 16c, S/16, S/16), Conv9-2 (N, c, S, S)."""

    def __init__(self, c: int):
        super().__init__()
        widths = (3, c, 2 * c, 4 * c, 8 * c, 16 * c)
        self.down = nn.ModuleList(_double(a, b) for a, b in pairwise(widths))
        climb = list(zip(widths[:1:-1], widths[-2:0:-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in climb)
        self.merge = nn.ModuleList(_double(a, b) for a, b in climb)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skips = []
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        deepest = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return deepest, x


def _double(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU())


class SimpleNet(nn.Sequential):
    """Table II for `nets` patches side by side: (N, nets · c, 48, 48) -> (N, nets · 4c, 6, 6)."""

    def __init__(self, c: int, nets: int):
        layers, before = [], c
        for wide in (c, 2 * c, 4 * c):
            for _ in range(2):
                layers += [nn.Conv2d(nets * before, nets * wide, 3, padding=1, groups=nets), nn.ReLU()]
                before = wide
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers)


class LocalAttention(nn.Sequential):
    """Table III for `nets` patches side by side: (N, nets · 4c, 6, 6) -> (N, nets, 1, 1) scores.

    Fully connected layers are written as convolutions, so that they too are one operation for all patches.

    Table III names no activations: every layer but the last, whose sigmoid is the weight, has a ReLU here; that of
    FC-64 can be left out.
    """

    def __init__(self, c: int, nets: int, fc_relu: bool = True):
        layers = []
        for a, b, kernel in ((4, 4, 3), (4, 2, 1), (2, 2, 3), (2, 1, 1), (1, 1, 2)):
            layers += [nn.Conv2d(nets * a * c, nets * b * c, kernel, groups=nets), nn.ReLU()]
        if not fc_relu:
            layers[-1] = nn.Identity()
        super().__init__(*layers, nn.Conv2d(nets * c, nets, 1, groups=nets))
