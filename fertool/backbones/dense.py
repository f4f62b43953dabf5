"""The small DenseNets of WS-LGRN: three dense blocks, two transitions, for 48×48 grey faces."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseTrunk(nn.Module):
    """A grey face (N, 1, H, W) -> features (N, `features`, H/4, W/4).

    A 3×3 stem without pooling, three dense blocks of bottleneck layers, after the first two of which a 1×1 convolution
    halves the channels and 2×2 average pooling the sides; batch normalisation and ReLU at the end.

    Args:
        blocks: layers of each block.
        growth: channels that each layer adds.
        stem: channels of the stem.
    """

    def __init__(self, blocks: tuple[int, int, int], growth: int, stem: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        channels, self.blocks, self.transitions = stem, nn.ModuleList(), nn.ModuleList()
        for i, layers in enumerate(blocks):
            self.blocks.append(nn.ModuleList(_Layer(channels + j * growth, growth) for j in range(layers)))
            channels += layers * growth
            if i < len(blocks) - 1:
                self.transitions.append(
                    nn.Sequential(
                        nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)
                    )
                )
                channels //= 2
        self.norm, self.relu = nn.BatchNorm2d(channels), nn.ReLU()
        self.features = channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            if i:
                x = F.avg_pool2d(self.transitions[i - 1](x), 2)
            for layer in cast(nn.ModuleList, block):
                x = torch.cat([x, layer(x)], dim=1)
        return self.relu(self.norm(x))


class _Layer(nn.Sequential):
    """A bottleneck of 4 × growth channels, then the 3×3 convolution whose output is added to the block."""

    def __init__(self, channels: int, growth: int):
        super().__init__(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip
