"""Identity pretraining: a backbone learns to tell people apart, and hands its weights on.

The papers' networks start from weights trained for face recognition. This one makes such weights: the backbone's
vector of a face, batch-normalised (Luo et al., "Bag of tricks and a strong baseline for deep person re-identification",
CVPR Workshops 2019), is classified by person, with the plain softmax or ArcFace's additive angular margin (Deng et al.,
CVPR 2019). Outside training it gives that normalised vector, by whose cosine faces of unseen people are verified.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from fertool.backbones.registry import BackboneName, Pixels, build_backbone, check_backbone
from fertool.models.base import FerModel, Output, Targets
from fertool.requirements import Requirement, Subjects
from fertool.settings import LARGEST, Settings


@dataclass(frozen=True, kw_only=True)
class IdentitySettings(Settings):
    """Settings of identity pretraining."""

    name: Literal["identity"] = "identity"
    backbone: BackboneName = "resnet18"
    pixels: Pixels = "auto"
    size: Annotated[int, Gt(0), "side of the face at the network's input"] = 224
    loss: Annotated[Literal["softmax", "arcface"], "plain softmax, or ArcFace's additive angular margin"] = "softmax"
    scale: Annotated[float, Gt(0), Lt(LARGEST), "arcface: s, the factor of the cosines"] = 64.0
    margin: Annotated[float, Ge(0), Lt(math.pi / 2), "arcface: m, the angle added to the right person's, radians"] = 0.5
    held_out: Annotated[
        float,
        Gt(0),
        Lt(1),
        "share of the people that are left out for testing, where the faces have no splits",
    ] = 0.1
    subjects: Annotated[int, Ge(2), "number of people trained on; counted from the faces"] = 2

    def __post_init__(self) -> None:
        check_backbone(self.name, self.backbone)


class Identity(FerModel):
    """A backbone with a classifier of people. `classes` and `regions` are not used."""

    Settings = IdentitySettings
    paper = ""
    VARIANTS = {"identity": {}, "arcface": {"loss": "arcface"}}
    CATALOGUE = (
        ("Identity, ResNet-18, 8,631 people", {"subjects": 8631}, None),
        ("Identity, VGG-16, 8,631 people", {"backbone": "vgg16", "subjects": 8631}, None),
    )

    classifies = False
    verifies = True
    has_val_loss = False  # the people are others
    head = ("neck.", "classifier.")

    def __init__(self, settings: IdentitySettings, classes: int = 0, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.backbone, self.input = build_backbone(s.name, s.backbone, s.pixels, s.size)
        self.neck = nn.BatchNorm1d(self.backbone.features)
        self.classifier = nn.Linear(self.backbone.features, s.subjects, bias=False)

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Subjects(self.settings.held_out),)

    @property
    def pretrained(self) -> str:
        return self.backbone.pretrained

    @property
    def cam_layer(self) -> str:
        return f"backbone.{self.backbone.last_maps}"

    def parts(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone}

    def forward(self, views: Tensor) -> Output:
        """Map faces (N, 1, 3, S, S) to logits (N, subjects) in training, else to embeddings (N, D).

        ArcFace's logits are s·cos θ.
        """
        embedding = self.neck(self.backbone(views[:, 0]))
        if not self.training:
            return Output(embedding)
        if self.settings.loss == "softmax":
            return Output(self.classifier(embedding))
        cosine = F.linear(F.normalize(embedding.float()), F.normalize(self.classifier.weight.float()))
        return Output(self.settings.scale * cosine)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        logits, s = output.logits, self.settings
        if s.loss == "arcface":
            logits = s.scale * add_margin(logits / s.scale, targets.labels, s.margin)
        return {"ce": F.cross_entropy(logits, targets.labels)}

    def constant_score(self, train: Targets, val: Targets) -> float:
        """Return 0.5: half of the verified pairs show one person."""
        return 0.5


def add_margin(cosine: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return ArcFace's logits (Deng et al., Eq. 3): cos(θ + m) in place of cos θ for the right person.

    Beyond π - m, where that would rise again, cos θ - m·sin m, as in the authors' code.

    Args:
        cosine: (N, C) cosines between embeddings and the classifier's rows.
        labels: (N,) the right person of each.
        margin: m in radians.
    """
    own = cosine.gather(1, labels[:, None]).float()
    sine = (1 - own.square()).clamp_min(1e-12).sqrt()  # at 0, the gradient of the root would be infinite
    shifted = own * math.cos(margin) - sine * math.sin(margin)
    shifted = torch.where(own > -math.cos(margin), shifted, own - margin * math.sin(margin))
    return cosine.scatter(1, labels[:, None], shifted.to(cosine.dtype))
