"""What a model is to the training loop: views in, an `Output` out, named loss terms.

A model knows nothing of files. What it requires beside the faces (region boxes, masks, pairs, another trained network)
it declares, and the stages check it before anything heavy starts. How its attention is shown it declares, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from fertool.models.attention import ShowsAttention
from fertool.requirements import Labels, Requirement, Selection
from fertool.settings import Settings

_STEEP = 0.01  # slope of a sigmoid or softmax, at most 0.25, from which on it can still learn


@dataclass
class Output:
    """What a forward pass gives.

    Attributes:
        logits: (N, classes); for networks that predict something else, that.
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
        weights: (N,) float weights of the faces in the classification loss, or None where all count the same.
        given: further columns, by name: the targets of the requirements in `FerModel.requires`.
    """

    labels: Tensor
    distributions: Tensor | None = None
    given: dict[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None

    def part(self, rows: slice) -> "Targets":
        """Return those of some of the faces."""
        spread = None if self.distributions is None else self.distributions[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Targets(self.labels[rows], spread, {k: v[rows] for k, v in self.given.items()}, weights)


class FerModel(ShowsAttention, nn.Module, ABC):
    """Base class of the networks that `train` and `eval` run. How attention is shown: `ShowsAttention`.

    Properties may depend on the settings; a network whose answer is always the same may give a class attribute instead.

    Attributes:
        name: short name, for built-in networks the one that `fertool train` takes.
        Settings: settings class of the network; its field `name` holds the reference to the class.
        VARIANTS: baselines and ablations, name -> settings that differ.
        baseline: the variant that the others are compared with, "" for none.
        CATALOGUE: (label, settings, number of classes or None) of the forms that `fertool models` sizes; empty: as is.
        paper: name of a file of published numbers, "" for none.
        input: what one view looks like.
        settings: an instance of `Settings`.
        backbone: feature extractor that takes initial weights of other networks; only some networks have one.
        requires: what the network requires beside the pixels, see `fertool.requirements`: one selection, which decides
            what the faces' labels are (`Labels`, `Masks`, `AttributeGroups`, `Subjects`), and any others. Without
            `Regions`, forward gets one view, the whole face.
        regions_used: which of the boxes forward wants, in order; None for all. May depend on `training`.
        pairs: None, or the share of pairs of one class: in training, faces then come in pairs, 2i and 2i + 1.
        pretrained_part: the network that has to be trained before this one, which holds it, frozen, as an attribute of
            that name; "" for none. The settings of its run are passed in as the setting `pretrained_part`.
        classifies: whether the logits are expressions, which `eval` can score.
        verifies: whether the logits are embeddings (N, backbone.features) outside training, by which `eval` verifies
            pairs of unseen people.
        trainable: whether `train` takes it; networks of others are evaluated as they are.
        opaque: why nothing inside it can be exported or explained by gradients, "" for networks of layers.
        has_val_loss: whether `losses` is defined for faces that it is not trained on.
        metric: what `score` measures.
        gates: which outputs come out of a sigmoid or softmax and can saturate: names of attention, or "logits".
        head: how the names of the parameters begin that never come from another run: what depends on the classes.
        cam_layer: name of the layer whose feature maps Grad-CAM weighs: the last convolution, after its ReLU.
        pretrained: value of the setting `init` where none is set.
        released: how the names of its layers beside the backbone begin in the checkpoints that its authors' code
            writes -> how they begin here. The head comes along where it has as many classes.
    """

    name: str = ""
    Settings: type[Settings]
    VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    CATALOGUE: tuple[tuple[str, Mapping[str, Any], int | None], ...] = ()
    baseline: str = ""
    paper: str = ""
    pairs: float | None = None
    classifies: bool = True
    verifies: bool = False
    trainable: bool = True
    has_val_loss: bool = True
    metric: str = "accuracy"
    gates: tuple[str, ...] = ()
    head: tuple[str, ...] = ("classifier.",)
    released: Mapping[str, str] = MappingProxyType({})
    settings: Any
    backbone: Any

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Labels(),)

    @property
    def regions_used(self) -> tuple[int, ...] | None:
        return None

    @property
    def pretrained_part(self) -> str:
        return ""

    @property
    def cam_layer(self) -> str:
        return ""

    @property
    def opaque(self) -> str:
        return ""

    @property
    def pretrained(self) -> str:
        return "none"

    @classmethod
    def remarks(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what a reader of its scores has to know, one sentence each; `settings` as a run stores them."""
        return ()

    @abstractmethod
    def forward(self, views: Tensor) -> Output:
        """Map normalised views (N, K, C, H, W) to an Output. K is 1 unless the model requires regions."""

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Return named scalar terms, already weighted and averaged over the batch; their sum is what is minimised."""
        return {"ce": classification_loss(output.logits, targets)}

    def score(self, output: Output, targets: Targets) -> Tensor:
        """Return (N,) float, how right the output is for each face, from 0 to 1."""
        return (output.logits.argmax(1) == targets.labels).float()

    def constant_score(self, train: Targets, val: Targets) -> float | None:
        """Return the score on `val` of the best output that is the same for every face, chosen on `train`.

        None where there is no such output to compare with.
        """
        return None

    def saturation(self, output: Output) -> Tensor | None:
        """Return the share (N,) of each face's gates that are saturated: their slope p (1 - p) is below 0.01.

        None for networks without gates.
        """
        found = [output.logits if name == "logits" else output.attention.get(name) for name in self.gates]
        gates = [gate.detach().flatten(1) for gate in found if gate is not None]
        if not gates:
            return None
        p = torch.cat(gates, dim=1)
        return (p * (1 - p) < _STEEP).float().mean(1)

    def parts(self) -> dict[str, nn.Module]:
        """Return parts of the network that the paper sizes by name, for `fertool models`."""
        return {}

    @property
    def frozen(self) -> nn.Module | None:
        """Return the pretrained part."""
        return getattr(self, self.pretrained_part) if self.pretrained_part else None

    @property
    def selection(self) -> Selection:
        """Return the requirement that decides which faces are trained on, and their labels."""
        return next(r for r in self.requires if isinstance(r, Selection))

    def branches(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        """Return the positions of the training faces that each branch of the network is trained on.

        None where all branches are trained on every face.

        Args:
            given: as in `Targets`, of the training faces.
        """
        return None

    def train(self, mode: bool = True) -> "FerModel":
        """Set the mode as in torch; the pretrained part stays as it was trained, batch statistics included."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval().requires_grad_(False)
        return self


def classification_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Return the cross-entropy with the labels, or the KL divergence from the label distributions where there are any.

    It is the mean over the batch of the faces' losses times their weights.
    """
    weights = targets.weights
    if targets.distributions is None:
        if weights is None:
            return nn.functional.cross_entropy(logits, targets.labels)
        return (weights * nn.functional.cross_entropy(logits, targets.labels, reduction="none")).mean()
    log_p = torch.log_softmax(logits, dim=1)
    if weights is None:
        return nn.functional.kl_div(log_p, targets.distributions, reduction="batchmean")
    return (weights * nn.functional.kl_div(log_p, targets.distributions, reduction="none").sum(1)).mean()
