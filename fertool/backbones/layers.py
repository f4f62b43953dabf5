"""Layers computed side by side, and their initialisation."""

from typing import Literal

from torch import nn

_INITIALISED = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


class Branches(nn.Conv2d):
    """`branches` convolutions of one input computed as one: (N, in, H, W) -> (N, branches · out, H', W')."""

    def __init__(self, branches: int, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__(in_channels, branches * out_channels, kernel_size)
        self.branches = branches


def fans(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> tuple[int, int]:
    """Return (fan-in, fan-out) of one of the networks that a layer computes side by side.

    torch's own count takes the outputs of all groups for the fan-out of each, so that networks computed by one grouped
    convolution would begin smaller than the same networks one by one.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    outputs = layer.out_channels // (layer.groups * getattr(layer, "branches", 1))
    return taps * layer.in_channels // layer.groups, taps * outputs


def xavier(module: nn.Module, fan: Literal["average", "in"] = "average") -> None:
    """Initialise a layer with zero biases and weights uniform in ±√(3 / n), for `nn.Module.apply`.

    Every group of a grouped convolution and every branch of `Branches` is initialised as a network of its own.

    Args:
        fan: what n is: Glorot & Bengio's mean of fan-in and fan-out (as in TensorFlow and torch), or the fan-in alone
            (Caffe's `xavier` filler).
    """
    if isinstance(module, _INITIALISED):
        fan_in, fan_out = fans(module)
        bound = (3 / (fan_in if fan == "in" else (fan_in + fan_out) / 2)) ** 0.5
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def he(module: nn.Module) -> None:
    """Initialise a layer with He-normal weights for ReLU and zero biases, for `nn.Module.apply`.

    The fan-in is that of one group.
    """
    if isinstance(module, _INITIALISED):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
