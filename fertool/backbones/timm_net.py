"""Any network of timm (PyTorch Image Models) as a backbone: `timm:NAME`.

timm is optional (`pip install 'fertool[timm]'`). A network is made as timm makes it, with random weights; what it gives
before its classifier is the backbone's vector.
"""

import difflib
import hashlib
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from fertool.artefact import one_line
from fertool.backbones.base import Backbone, InputSpec
from fertool.errors import DeviceError, RecipeError, UsageError

PREFIX = "timm:"


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Args:
        name: as in `timm.list_models()`, with or without the tag of its weights.
        size: side of the input in pixels, for networks that are made for one size.

    Raises:
        RecipeError: no such network, or it cannot take images of this size.
        UsageError: timm is not installed.
    """

    def __init__(self, name: str, size: int):
        super().__init__()
        timm = _timm()
        if name.partition(".")[0] not in (known := timm.list_models()):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "timm.list_models() in Python lists them"
            raise RecipeError(f"timm {timm.__version__} has no network {name!r}", hint)
        config = timm.models.get_pretrained_cfg(name)
        self.name, self.layout = name, f"{PREFIX}{name}"
        self.pixels = InputSpec(config.input_size[1:], 3, mean=config.mean, std=config.std)
        sized = {"img_size": size} if config.fixed_input_size else {}
        try:
            self.net = timm.create_model(name, pretrained=False, num_classes=0, **sized)
            vectors, maps = self._probe(size)
        except (RuntimeError, ValueError, AssertionError, TypeError, ZeroDivisionError) as e:
            raise RecipeError(
                f"{PREFIX}{name} takes no images of {size} × {size} pixels: {one_line(e)[:120]}",
                f"--set train.model.size={config.input_size[-1]}",
            ) from e
        self.features = vectors.shape[1]
        last = self.net.feature_info[-1] if getattr(self.net, "feature_info", None) else {}
        is_image = maps is not None and maps.dim() == 4 and maps.shape[1] == last.get("num_chs")
        self.last_maps = f"net.{last['module']}" if is_image else ""

    def _probe(self, size: int) -> tuple[Tensor, Tensor | None]:
        """Return the vector of one blank image and the last stage's output, None where timm names no stages."""
        stages = getattr(self.net, "feature_info", None)
        module = dict(self.net.named_modules()).get(stages[-1]["module"]) if stages else None
        outputs: list[Any] = []
        hook = module.register_forward_hook(lambda _, __, output: outputs.append(output)) if module else None
        self.net.eval()
        with torch.no_grad():
            vectors = self.net(torch.zeros(1, 3, size, size))
        self.net.train()
        if hook:
            hook.remove()
        return vectors, outputs[-1] if outputs and isinstance(outputs[-1], Tensor) else None

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def is_timm(name: str) -> bool:
    """Return whether the name of a backbone means a network of timm."""
    return name.startswith(PREFIX)


def weights(backbone: nn.Module) -> tuple[str, dict[str, Tensor], str]:
    """Return timm's pretrained weights of a backbone, downloaded if they are not in its cache.

    Returns:
        what they are called (network and tag), tensors by the names of the backbone's own, their SHA-256.

    Raises:
        DeviceError: it is no backbone of timm, timm has no weights for it, or they cannot be downloaded.
    """
    if not isinstance(backbone, TimmBackbone):
        raise DeviceError(
            "--init timm fills a backbone timm:NAME, which this network does not have",
            "choose a network of timm as the backbone, or use --init none or a weights file",
        )
    timm = _timm()
    config = timm.models.get_pretrained_cfg(backbone.name)
    if not config.has_weights:
        raise DeviceError(f"timm has no weights for {backbone.name}", "use --init none or a weights file")
    try:
        source = timm.create_model(backbone.name, pretrained=True, num_classes=0)
    except Exception as e:  # of the hub client, urllib, sockets ...
        raise DeviceError(
            f"the weights of {PREFIX}{backbone.name} could not be downloaded: {one_line(e)[:120]}",
            "download them elsewhere and give their file to --init",
        ) from e
    tensors = {f"net.{name}": tensor for name, tensor in source.state_dict().items()}
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return f"{backbone.name}.{config.tag}" if config.tag else backbone.name, tensors, digest.hexdigest()


def _timm() -> Any:
    if importlib.util.find_spec("timm") is None:
        raise UsageError("a backbone timm:NAME needs timm", "run: pip install 'fertool[timm]'")
    import timm

    return timm
