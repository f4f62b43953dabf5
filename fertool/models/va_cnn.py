"""VA-CNN, the visual-attention CNN.

Sun, Zhao & Jin, "A visual attention based ROI detection method for facial expression recognition", Neurocomputing 2018.

Ten 3×3 convolutions turn a grey face into a map of 128-d vectors. Attention gives every position of the map a weight,
from its own vector alone, and the weighted mean of the vectors is classified. Neither knows the size of the map, so
the network looks at images of any size.

The paper's baseline (all positions, flattened), global average pooling and symmetric attention are the same class with
other settings, see `VARIANTS`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from fertool.backbones.base import InputSpec
from fertool.backbones.layers import he
from fertool.models.base import FerModel, Output
from fertool.requirements import Aligned, Labels, Requirement
from fertool.settings import Settings

_BLOCKS = ((16, 3), (32, 3), (64, 2), (128, 2))  # (channels, convolutions), each followed by 2×2 pooling; Table 2
STRIDE = 16  # pixels of the input to a position of the map


@dataclass(frozen=True, kw_only=True)
class VaCnnSettings(Settings):
    """Settings of the visual-attention CNN."""

    name: Literal["va-cnn"] = "va-cnn"
    attention: Annotated[
        Literal["free", "symmetric", "gap", "none"],
        "weights of Eq. 4; of Eq. 5, for aligned frontal faces; all equal; or no pooling at all (the baseline)",
    ] = "free"
    sym_norm: Annotated[
        Literal["softmax", "paper"],
        "denominator of symmetric attention: `paper` is Eq. 5 as printed, whose weights do not sum to 1",
    ] = "softmax"
    beta: Annotated[float, Gt(0), "sharpness of the weights (Eq. 4)"] = 1.0
    hidden: Annotated[int, Gt(0), "units of the attention's first layer (C1 of Table 3)"] = 66
    activation: Annotated[Literal["relu", "elu"], "after every convolution; the paper does not say"] = "relu"
    dropout: Annotated[float, Ge(0), Lt(1), "before the classifier; the paper has the layer, but not its rate"] = 0.5
    width: Annotated[int, Ge(STRIDE), "of the network's input in pixels"] = 112
    height: Annotated[int, Ge(STRIDE), "of the network's input in pixels"] = 144
    mean: Annotated[float, "of the pixels, as a fraction of white: what is subtracted; the paper does not say"] = 0.5
    std: Annotated[float, Gt(0), "of the pixels, as a fraction of white: what they are divided by"] = 0.25
    crop: Annotated[bool, "crop the input out of the stored face; off: resize the whole face"] = True


class VaCnn(FerModel):
    """The visual-attention CNN and its baselines. Arguments as for every network; regions are not used."""

    Settings = VaCnnSettings
    paper = "va-cnn"
    cam_layer = "features.22"
    map_stride = STRIDE

    baseline = "baseline"
    VARIANTS = {
        "va-cnn": {},
        "attention-symmetric": {"attention": "symmetric"},
        "gap": {"attention": "gap"},
        "baseline": {"attention": "none"},
    }

    CATALOGUE = (
        ("VA-CNN, frontal faces", {}, 7),
        ("VA-CNN baseline, frontal faces", {"attention": "none"}, 7),
        ("VA-CNN, global average pooling", {"attention": "gap"}, 7),
        ("VA-CNN, five poses", {"width": 272, "height": 272}, 7),
        ("VA-CNN baseline, five poses", {"attention": "none", "width": 272, "height": 272}, 7),
    )

    def __init__(self, settings: VaCnnSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.input = InputSpec((s.height, s.width), 1, (s.mean,), (s.std,), crop=s.crop)
        layers: list[nn.Module] = []
        channels = 1
        for wide, convolutions in _BLOCKS:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU() if s.activation == "relu" else nn.ELU()]
                channels = wide
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        if s.attention in ("free", "symmetric"):
            self.scores = nn.Sequential(
                nn.Conv2d(channels, s.hidden, 1), nn.Tanh(), nn.Conv2d(s.hidden, 1, 1), nn.Tanh()
            )
        self.dropout = nn.Dropout(s.dropout)
        positions = (s.height // STRIDE) * (s.width // STRIDE) if s.attention == "none" else 1
        self.classifier = nn.Linear(positions * channels, classes)
        self.features.apply(he)  # the paper does not say; with torch's own start ten layers leave no signal

    @property
    def requires(self) -> tuple[Requirement, ...]:
        if self.settings.attention != "symmetric":
            return (Labels(),)
        return Labels(), Aligned("symmetric attention", "train with --set train.model.attention=free")

    @property
    def any_size(self) -> bool:
        return self.settings.attention == "free"

    def forward(self, views: Tensor) -> Output:
        """Map faces (N, 1, 1, H, W) to logits and an attention map (N, H/16, W/16), which sums to 1.

        H and W are free, except for the baseline.
        """
        a0 = self.features(views[:, 0])
        if self.settings.attention == "none":
            return Output(self.classifier(self.dropout(a0).flatten(1)))
        b = self._weights(a0)
        z = (b * a0).sum(dim=(2, 3))  # Eq. 1
        return Output(self.classifier(self.dropout(z)), {"map": b[:, 0]})

    def _weights(self, a0: Tensor) -> Tensor:
        """Return (N, 1, h, w) weights of the positions."""
        n, _, h, w = a0.shape
        if self.settings.attention == "gap":
            return a0.new_full((n, 1, h, w), 1 / (h * w))
        a2 = self.settings.beta * self.scores(a0).float()  # Eq. 2-3
        if self.settings.attention == "free":
            return _softmax(a2)  # Eq. 4
        mirrored = (a2 + a2.flip(3)) / 2
        if self.settings.sym_norm == "softmax":
            return _softmax(mirrored)
        return torch.exp(mirrored) / torch.exp(a2).sum(dim=(2, 3), keepdim=True)  # Eq. 5


def _softmax(scores: Tensor) -> Tensor:
    return scores.flatten(1).softmax(1).view_as(scores)
