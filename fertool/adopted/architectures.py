"""Architectures by name, torchvision's and timm's, and weights of others for them."""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec

from torch import Tensor, nn

from fertool.errors import DeviceError, UsageError, nearest

TIMM = "timm:"

_OTHER_WAYS = "save the whole network as TorchScript or ONNX, or call it in a function: fertool adopt FILE.py:FUNCTION"


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """Return a network with fresh weights.

    Args:
        name: of torchvision ("resnet18") or timm ("timm:resnet18").
        classes: number of its outputs.
        channels: of its input.

    Raises:
        UsageError: there is no such network, or it takes no such input.
        DeviceError: timm is not installed.
    """
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM), classes, channels)
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UsageError(f"torchvision has no network {name!r}", f"{nearest(name, known)}; timm's are called timm:NAME")
    if channels != 3:
        raise UsageError(f"{name} of torchvision takes three channels", "--colour grey-3 repeats the grey one")
    with warnings.catch_warnings(action="ignore"):  # about initial weights, which are replaced
        return torchvision.models.get_model(name, weights=None, num_classes=classes)


def _timm(name: str, classes: int, channels: int) -> nn.Module:
    if find_spec("timm") is None:
        raise DeviceError(f"the architecture {TIMM}{name} needs timm", "run: pip install timm")
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no network {name!r}", nearest(name, timm.list_models()))
    return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str, source: str) -> None:
    """Fill a network with weights whose names may have a prefix ("module.", "backbone.").

    Args:
        name: of the architecture.
        source: file of the weights.

    Raises:
        DeviceError: tensors are missing, left over or of another shape; the message names the first.
    """
    own = network.state_dict()
    first = next(iter(own))
    prefix = next((key.removesuffix(first) for key in tensors if f".{key}".endswith(f".{first}")), "")
    tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    counters = [key for key in own if key.endswith("num_batches_tracked")]  # which old checkpoints lack
    missing = [key for key in own if key not in tensors and key not in counters]
    unknown = [key for key in tensors if key not in own]
    if missing or unknown:
        problems = [f"{what} {_first(keys)}" for what, keys in (("lacks", missing), ("also has", unknown)) if keys]
        raise DeviceError(f"the weights of {source} are not those of {name}: it {' and '.join(problems)}", _OTHER_WAYS)
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            raise DeviceError(
                f"{key} is {tuple(value.shape)} in {source}, but {tuple(own[key].shape)} in {name} as --classes says",
                "name all outputs of the network with --classes, in their order",
            )
    network.load_state_dict(dict(tensors), strict=not counters)


def _first(keys: list[str]) -> str:
    return keys[0] + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
