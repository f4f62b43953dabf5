"""Base class of feature extractors, and the input that a network expects."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class InputSpec:
    """What a network wants to see.

    Attributes:
        size: (height, width) of a view.
        channels: 1 or 3.
        mean, std: the normalisation (x/255 - mean) / std, per channel.
        crop: a view is `size` pixels cropped out of the stored face: at a random place in training, from the
            middle otherwise. Without it the whole face is resized to `size`.
    """

    size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop: bool = False


class Backbone(nn.Module):
    """Base class of feature extractors: images (N, 3, H, W) -> one vector (N, D) per image.

    Attributes:
        features: D.
        layout: whose parameter names these are: weights of that layout load by name. "" for nobody's.
        last_maps: name of the layer that gives the last feature maps.
        pixels: how the images are normalised that its pretrained weights were trained on, and their size.
        pretrained: value of `init` that loads them by default; "none" where fertool comes with none.
        smallest: side of the smallest image in pixels.
    """

    features: int
    layout: str = ""
    last_maps: str
    pixels: InputSpec
    pretrained: str = "none"
    smallest: int = 1


def renormalise(views: Tensor, mine: InputSpec, other: InputSpec) -> Tensor:
    """Return views (..., C, H, W) that were normalised as one network wants, as another wants them."""
    if (mine.mean, mine.std) == (other.mean, other.std):
        return views
    (m, s), (n, t) = ([views.new_tensor(v)[:, None, None] for v in (spec.mean, spec.std)] for spec in (mine, other))
    return (views * s + m - n) / t
