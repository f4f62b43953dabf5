"""What a model is to the training loop: views in, an `Output` out, named loss terms.

A model knows nothing of files. What it needs beside the views (masks, pairs, region boxes) it declares.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class InputSpec:
    """What a network wants to see: (height, width), channels (1 or 3), and the normalisation (x/255 - mean) / std."""

    size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass
class Output:
    """What a forward pass gives.

    Attributes:
        logits: (N, classes).
        attention: named weights or maps to keep and to draw, first axis N; empty for models without attention.
        extras: whatever else the losses need, first axis N.
    """

    logits: Tensor
    attention: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Targets:
    """What the losses compare with.

    Attributes:
        labels: (N,) int64 class indices.
        distributions: (N, classes) float label distributions, or None when training on one label per face.
        given: further per-sample tensors the model asked for in `FerModel.needs`, e.g. masks.
    """

    labels: Tensor
    distributions: Tensor | None = None
    given: dict[str, Tensor] = field(default_factory=dict)


class FerModel(nn.Module):
    """Base class of the networks that `train` and `eval` run.

    Attributes:
        input: what one view looks like.
        needs: names of what the model wants beside faces: "regions" (boxes from crop-regions: forward gets
            one view per box), "masks" (given["masks"] from make-masks). Without "regions", forward gets one view,
            the whole face.
        regions_used: which of the boxes forward wants, in order; None for all. May depend on `training`.
    """

    input: InputSpec
    needs: tuple[str, ...] = ()
    regions_used: tuple[int, ...] | None = None

    def forward(self, views: Tensor) -> Output:
        """Views (N, K, C, H, W), normalised, -> Output. K is 1 unless the model needs regions."""
        raise NotImplementedError

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Named scalar terms, already weighted and averaged over the batch; their sum is what is minimised."""
        return {"ce": classification_loss(output.logits, targets)}


def classification_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Cross-entropy with the labels, or KL divergence from the label distribution where one is given."""
    if targets.distributions is None:
        return nn.functional.cross_entropy(logits, targets.labels)
    log_p = torch.log_softmax(logits, dim=1)
    return nn.functional.kl_div(log_p, targets.distributions, reduction="batchmean")
