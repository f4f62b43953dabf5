"""Feature extractors shared by the papers' networks: images (N, 3, H, W) in, one vector (N, D) per image out.

Parameter names of ResNet-18 and VGG-16 follow torchvision, so that published weights load by name.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

from torch import Tensor, nn

from fertool.backbones.base import Backbone, InputSpec
from fertool.backbones.dlib_resnet import DLIB, DlibResNet29
from fertool.backbones.timm_net import PREFIX, TimmBackbone, is_timm
from fertool.errors import RecipeError, nearest

#: what published weights for these trunks were trained to see
IMAGENET = InputSpec((224, 224), 3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
VGG_FACE = InputSpec((224, 224), 3, mean=(0.5066, 0.4108, 0.3670), std=(1 / 255,) * 3)
#: pixels as they are, from 0 to 1
UNIT = InputSpec((224, 224), 3, mean=(0.0,) * 3, std=(1.0,) * 3)
PIXELS = {"imagenet": IMAGENET, "vgg-face": VGG_FACE, "dlib": DLIB, "unit": UNIT}


class ResNet18(Backbone):
    """ResNet-18 up to its global average pooling: D = 512, 11,176,512 parameters."""

    features = 512
    layout = "resnet18"
    last_maps = "layer4"
    pixels = IMAGENET

    def __init__(self) -> None:
        from torchvision.models import resnet18  # takes as long to import as torch itself

        super().__init__()
        net = resnet18(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


class Vgg16(Backbone):
    """VGG-16 up to fc6 and its ReLU: D = 4096, 117,479,232 parameters. Input 224×224."""

    features = 4096
    layout = "vgg16"
    last_maps = "features_.29"  # conv5_3 and its ReLU
    pixels = VGG_FACE

    def __init__(self) -> None:
        from torchvision.models import vgg16

        super().__init__()
        net = vgg16(weights=None)
        self.features_ = net.features
        self.avgpool = net.avgpool
        self.fc6 = net.classifier[0]
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features_(x)).flatten(1)
        return self.relu(self.fc6(x))


class VggBlocks(nn.Module):
    """VGG-16's convolutions in two halves, before and after the fourth pooling.

    `lower` (N, 3, 224, 224) -> (N, 8c, 14, 14), `upper` -> (N, 8c, 7, 7), where c is the number of channels of the
    first block, 64 in VGG-16.
    """

    layout = "vgg16"
    last_maps = "features_.29"  # conv5_3 and its ReLU
    _SPLIT = 24

    def __init__(self, channels: int = 64):
        super().__init__()
        layers, before = [], 3
        for factor, convolutions in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, factor * channels, 3, padding=1), nn.ReLU(inplace=True)]
                before = factor * channels
            layers.append(nn.MaxPool2d(2))
        self.features_ = nn.Sequential(*layers)

    def lower(self, x: Tensor) -> Tensor:
        return self.features_[: self._SPLIT](x)

    def upper(self, x: Tensor) -> Tensor:
        return self.features_[self._SPLIT :](x)


class Tiny(Backbone):
    """Five small convolutions for two CPU cores: D = 128. In no paper; for trying a pipeline out."""

    features = 128
    last_maps = "blocks.18"
    pixels = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 96, 128)
        blocks = []
        for i, (a, b) in enumerate(pairwise(widths)):
            blocks += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
            if i < 4:
                blocks.append(nn.MaxPool2d(2))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x).mean(dim=(2, 3))


BACKBONES: dict[str, type[Backbone]] = {
    "resnet18": ResNet18,
    "vgg16": Vgg16,
    "dlib-resnet29": DlibResNet29,
    "tiny": Tiny,
}

#: `check_backbone` checks the names of timm's
BackboneName = Annotated[
    Literal["resnet18", "vgg16", "dlib-resnet29", "tiny"] | str,
    "feature extractor: `resnet18`, `vgg16`, `dlib-resnet29`, `tiny`, or any network of timm, `timm:NAME`",
]
Pixels = Annotated[
    Literal["auto", "imagenet", "vgg-face", "dlib", "unit"],
    "how pixels are normalised; `auto` as for the backbone's pretrained weights, `unit` from 0 to 1, no further, "
    "as in the authors' released code",
]


def check_backbone(model: str, name: str) -> None:
    """Refuse a name that is no backbone's; for the `__post_init__` of settings, before anything is built.

    Raises:
        RecipeError: it is neither one of `BACKBONES` nor "timm:NAME".
    """
    if name not in BACKBONES and not is_timm(name):
        known = [*BACKBONES, f"{PREFIX}NAME"]
        raise RecipeError(f"model {model}: there is no backbone {name!r}", nearest(name, known))


def build_backbone(model: str, name: str, pixels: str, size: int) -> tuple[Backbone, InputSpec]:
    """Return a backbone and what it wants to see.

    Args:
        model: whose backbone it is, for the message.
        name: one of `BACKBONES`, or "timm:NAME".
        pixels: "auto", or one of `PIXELS`.
        size: side of its input.

    Raises:
        RecipeError: there is no such backbone, or it takes no images of this size.
        UsageError: timm is not installed.
    """
    check_backbone(model, name)  # settings of other networks than ours may not have
    backbone = TimmBackbone(name.removeprefix(PREFIX), size) if is_timm(name) else BACKBONES[name]()
    if size < backbone.smallest:
        raise RecipeError(
            f"model {model}: size {size} is too small for the backbone {name}, whose images have at least "
            f"{backbone.smallest} pixels a side",
            f"--set train.model.size={backbone.pixels.size[0]}",
        )
    return backbone, replace(backbone.pixels if pixels == "auto" else PIXELS[pixels], size=(size, size))
