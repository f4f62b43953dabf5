"""A network or function of others, run as it is: preprocessing, outputs and classes as the user declares them.

An ONNX graph, a TorchScript program or the source of a function is a tensor of bytes among the weights; an architecture
is a network of layers with its weights. So a run holds all of it, and is checked like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from fertool.adopted import architectures, predictors
from fertool.backbones.base import InputSpec
from fertool.backbones.registry import IMAGENET
from fertool.errors import UsageError
from fertool.models.base import FerModel, Output
from fertool.settings import Adopt

Kind = Literal["onnx", "torchscript", "architecture", "function"]

_SMALLEST = 1e-30  # probability whose logarithm is taken
_BELOW = 200.0  # logits below all others: float32 has no probability for them


@dataclass(frozen=True, kw_only=True)
class AdoptedSettings(Adopt):
    """Settings of a network of others: those of adopt, all decided, and what it is."""

    name: Literal["adopted"] = "adopted"
    kind: Annotated[Kind, "what the file is"] = "function"
    source: Annotated[str, "name of the file, or FILE.py:FUNCTION"] = ""
    bytes: Annotated[int, "size of the file; 0 for an architecture, whose tensors are kept"] = 0
    columns: Annotated[tuple[int, ...], "for each class the index of the output, -1 where there is none"] = ()
    missing: Annotated[tuple[str, ...], "classes of the faces that it has no output for"] = ()
    foreign: Annotated[tuple[str, ...], "outputs that the faces have no class for"] = ()


class Adopted(FerModel):
    """A network or function of others. `classes` and `regions` are not used: the settings name the classes."""

    Settings = AdoptedSettings
    trainable = False
    network: nn.Module
    file: Tensor

    def __init__(self, settings: AdoptedSettings, classes: int = 0, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        channels = 1 if s.colour.startswith("grey") else 3
        self.input = InputSpec((s.height or s.size or 1, s.size or 1), channels)
        self._predictor: predictors.Predictor | None = None
        if s.kind == "architecture":
            self.network = architectures.build(s.architecture, len(s.classes), 1 if s.colour == "grey" else 3)
        else:
            self.register_buffer("file", torch.empty(s.bytes, dtype=torch.uint8))

    @classmethod
    def remarks(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        found = [f"{settings['source']} was trained elsewhere, perhaps on faces that are scored here"]
        if missing := settings["missing"]:
            found.append(f"{settings['source']} has no output for {', '.join(missing)}: always wrong")
        if extra := settings["foreign"]:
            how = "is wrong" if settings["extra"] == "wrong" else "is left out, and the others are renormalised"
            found.append(f"{settings['source']} also predicts {', '.join(extra)}, which no face here is: this {how}")
        return tuple(found)

    @property
    def opaque(self) -> str:
        what = {"onnx": "an ONNX graph", "torchscript": "a TorchScript program", "function": "a function"}
        return f"{self.settings.source} is {what[self.settings.kind]}" if self.settings.kind in what else ""

    @property
    def cam_layer(self) -> str:
        """Return the last part with several convolutions: behind it lie pooling and classifier."""
        parts = [] if self.opaque else list(self.network.named_children())
        found = [
            f"network.{name}"
            for name, part in parts
            if sum(isinstance(m, nn.Conv2d) for m in part.modules()) > 1 and not name.lower().startswith("aux")
        ]
        return found[-1] if found else ""

    def forward(self, views: Tensor) -> Output:
        """Map faces (N, 1, C, H, W) from 0 to 1 to logits (N, classes); of probabilities their logarithms.

        A class without an output has the lowest logit, and probability 0.
        """
        outputs = self.raw(views)
        if self.settings.outputs == "probabilities":
            outputs = outputs.clamp_min(_SMALLEST).log()
        lowest = outputs.amin(1, keepdim=True) - _BELOW
        return Output(torch.cat([outputs, lowest], 1)[:, list(self.settings.columns)])

    def raw(self, views: Tensor) -> Tensor:
        """Return what it gives itself for views (N, 1, C, H, W): (N, outputs).

        Raises:
            DeviceError: it fails, or gives something else.
        """
        s = self.settings
        pixels = 255 * views[:, 0]
        pixels = pixels + (pixels.round() - pixels).detach()  # whole levels, as an image has; gradients pass
        if s.kind == "function":
            batch = pixels.permute(0, 2, 3, 1).contiguous()
        else:
            batch = self._prepared(pixels)
        if s.kind == "architecture":
            with predictors.one_line_errors(s.architecture, batch):
                return self.network(batch)
        if torch.is_autocast_enabled(views.device.type):
            raise UsageError(f"{self.opaque}, which has its own precision", "leave out --precision")
        if self._predictor is None:
            self._predictor = predictors.KINDS[s.kind](self.file.cpu().numpy().tobytes(), s.source, s.output)
        with predictors.one_line_errors(s.source, batch):
            values = self._predictor(batch)
        return predictors.as_outputs(values, s.source, len(views), len(s.classes)).to(views.device)

    def _prepared(self, pixels: Tensor) -> Tensor:
        """Return pixels (N, C, H, W) from 0 to 255 as the network wants them."""
        s = self.settings
        if s.colour == "bgr":
            pixels = pixels.flip(1)
        elif s.colour == "grey-3":
            pixels = pixels.expand(-1, 3, -1, -1)
        values = pixels if s.pixels == "0-255" else pixels / 255
        if s.pixels == "-1-1":
            values = 2 * values - 1
        mean, std = (IMAGENET.mean, IMAGENET.std) if s.pixels == "imagenet" else (s.mean or (0.0,), s.std or (1.0,))
        mean, std = (values.new_tensor(v)[:, None, None] for v in (mean, std))
        values = (values - mean) / std
        return values.permute(0, 2, 3, 1).contiguous() if s.layout == "nhwc" else values.contiguous()
