"""The Attention Map Generator of WS-LGRN.

Zhang et al., "Weakly supervised local-global relation network for facial expression recognition", IJCAI 2020, Fig. 3.

Two networks learn from CelebA whether a face has any of a group of attributes, one of the eyes, one of the mouth. No
one tells them where eyes and mouth are; their class-activation maps do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from fertool.backbones.base import InputSpec
from fertool.backbones.dense import DenseTrunk
from fertool.models.base import FerModel, Output, Targets
from fertool.requirements import AttributeGroups
from fertool.settings import Settings

_FLAT = 1e-6  # a map that varies less than this says nothing about where
POSITIVE = 1


@dataclass(frozen=True, kw_only=True)
class AmgSettings(Settings):
    """Settings of the Attention Map Generator."""

    name: Literal["amg"] = "amg"
    blocks: Annotated[tuple[int, int, int], "layers of the three dense blocks"] = (6, 12, 24)
    growth: Annotated[int, Gt(0), "channels that each layer adds; the paper does not say, 32 is DenseNet-121's"] = 32
    stem: Annotated[
        int, Gt(0), "channels of the first convolution, of stride 1 and without pooling; the paper does not say"
    ] = 64
    size: Annotated[int, Gt(0), "side of the input"] = 48
    mean: Annotated[float, "of the training pixels, as a fraction of white"] = 0.5
    std: Annotated[float, Gt(0), "of the training pixels, as a fraction of white"] = 0.25


class Branch(nn.Module):
    """One branch: does the face have any attribute of the group, and where is the evidence."""

    def __init__(self, s: AmgSettings):
        super().__init__()
        self.trunk = DenseTrunk(s.blocks, s.growth, s.stem)
        self.classifier = nn.Linear(self.trunk.features, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 1, H, W) to logits (N, 2) and attention map (N, H/4, W/4) between 0 and 1."""
        features = self.trunk(x)
        return self.classifier(features.mean(dim=(2, 3))), activation_map(features, self.classifier.weight[POSITIVE])


def activation_map(features: Tensor, weight: Tensor) -> Tensor:
    """Return class-activation maps (N, h, w) of features (N, C, h, w) under a classifier's row (C,).

    Each is stretched to [0, 1]; a flat one is all ones.
    """
    found = torch.einsum("nchw,c->nhw", features.float(), weight.float())
    low, high = found.amin(dim=(1, 2), keepdim=True), found.amax(dim=(1, 2), keepdim=True)
    span = high - low
    return torch.where(span < _FLAT, 1.0, (found - low) / span.clamp_min(_FLAT))


class Amg(FerModel):
    """Both branches. In training, face 2i is for the eyes and face 2i + 1 for the mouth; otherwise both see all."""

    Settings = AmgSettings
    paper = "ws-lgrn"
    VARIANTS = {"amg": {}}
    CATALOGUE = (("AMG, both branches", {}, 2),)

    requires = (AttributeGroups(),)
    classifies = False
    has_val_loss = False  # each branch trains on other faces
    head = ()

    def __init__(self, settings: AmgSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.input = InputSpec((s.size, s.size), 1, (s.mean,), (s.std,))
        self.eyes, self.mouth = Branch(s), Branch(s)

    def parts(self) -> dict[str, nn.Module]:
        return {"one branch": self.eyes}

    def forward(self, views: Tensor) -> Output:
        """Map faces (N, 1, 1, S, S) to logits (N, 2 branches, 2) and attention eyes, mouth (N, S/4, S/4).

        In training N is the number of pairs of faces.
        """
        x = views[:, 0]
        for_eyes, for_mouth = (x[0::2], x[1::2]) if self.training else (x, x)
        (eyes, eyes_map), (mouth, mouth_map) = self.eyes(for_eyes), self.mouth(for_mouth)
        return Output(torch.stack([eyes, mouth], dim=1), {"eyes": eyes_map, "mouth": mouth_map})

    def branches(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(torch.nonzero(column >= 0)[:, 0] for column in given["groups"].T)

    def _groups(self, targets: Targets) -> Tensor:
        """Return (N, 2) what each branch should say of its face, -1 where it was not drawn for the branch."""
        groups = targets.given["groups"].long()
        return torch.stack([groups[0::2, 0], groups[1::2, 1]], dim=1) if self.training else groups

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        groups = self._groups(targets)
        return {
            name: F.cross_entropy(output.logits[:, i], groups[:, i], ignore_index=-1)
            for i, name in enumerate(("eyes", "mouth"))
        }

    def score(self, output: Output, targets: Targets) -> Tensor:
        """Return (N,) share of the branches a face was drawn for that are right about it."""
        groups = self._groups(targets)
        known = groups >= 0
        right = (output.logits.argmax(2) == groups) & known
        return right.sum(1) / known.sum(1).clamp_min(1)
