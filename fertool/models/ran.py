"""Region Attention Networks (Wang et al., IEEE TIP 2020).

The face I0 and crops of it I1..Ik go through one shared backbone. Self-attention gives every region a weight mu and
a fused vector F_m; relation-attention compares every region with F_m, gives it a weight nu and fuses again; one
linear layer classifies. The region-biased loss asks that some crop weighs more than the whole face.

The paper's baselines and ablations are the same class with other settings, see `VARIANTS`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from fertool.backbones.registry import BackboneName, Pixels, build_backbone, check_backbone
from fertool.models.base import FerModel, Output, Targets, classification_loss
from fertool.requirements import Labels, Regions, Requirement
from fertool.settings import Settings


@dataclass(frozen=True, kw_only=True)
class RanSettings(Settings):
    """Settings of RAN."""

    name: Literal["ran"] = "ran"
    backbone: BackboneName = "resnet18"
    pixels: Pixels = "auto"
    batch_stats: Annotated[
        Literal["shared", "region"],
        "what batch normalisation takes together in training: all regions of a batch, or the batch of every region by "
        "itself, as in the released code, which goes over the regions one after the other",
    ] = "shared"
    fusion: Annotated[
        Literal["attention", "concat", "average", "none", "augment"],
        "how regions become one vector; `none` classifies one region, `augment` learns all regions as single pictures",
    ] = "attention"
    relation: Annotated[bool, "relation-attention on top of self-attention (Eq. 4-5)"] = True
    attn_norm: Annotated[
        Literal["none", "softmax"],
        "`none` as in the equations; `softmax` over regions after the sigmoid, as in the authors' released code",
    ] = "none"
    attn_bias: Annotated[bool, "a bias in the attention layers; the equations have none"] = False
    rank_weight: Annotated[float, Ge(0), "weight of the region-biased loss beside cross-entropy; 0 is off"] = 1.0
    rank_margin: Annotated[
        float,
        Ge(0),
        "alpha of Eq. 6; the released code uses 0.1 on FERPlus, 0.03 on AffectNet, 0.02 there with oversampling, all "
        "with `attn_norm: softmax`",
    ] = 0.02
    region: Annotated[int, Ge(0), "with `fusion: none`, the region that is classified; 0 is the whole face"] = 0
    size: Annotated[int, Gt(0), "side of every region at the network's input"] = 224

    def __post_init__(self) -> None:
        check_backbone(self.name, self.backbone)


class Ran(FerModel):
    """RAN and its baselines.

    Args:
        settings: see `RanSettings`.
        classes: number of classes.
        regions: number of regions per face, the whole face included. Only `fusion: concat` fixes it; all others
            take any number at test time.
    """

    Settings = RanSettings
    paper = "ran"
    region_weights = {"weight": "share µν / Σµν", "mu": "mu weight", "nu": "nu weight"}
    own_weight = "mu"
    region_factors = {"mu": "µ", "nu": "ν"}
    released = {"alpha.0.": "q0.", "beta.0.": "q1.", "fc.": "classifier."}

    baseline = "baseline"
    VARIANTS = {
        "ran": {},
        "relation": {"rank_weight": 0.0},
        "self": {"relation": False, "rank_weight": 0.0},
        "baseline": {"fusion": "none", "rank_weight": 0.0},
        "average": {"fusion": "average", "rank_weight": 0.0},
        "concat": {"fusion": "concat", "rank_weight": 0.0},
        "aug": {"fusion": "augment", "rank_weight": 0.0},
        **{f"region-{i}": {"fusion": "none", "region": i, "rank_weight": 0.0} for i in range(6)},
    }

    CATALOGUE = (
        ("RAN, ResNet-18", {}, 8),
        ("RAN, ResNet-18, with attention biases", {"attn_bias": True}, 7),
        ("RAN, VGG-16", {"backbone": "vgg16"}, 8),
        ("RAN, dlib's ResNet-29", {"backbone": "dlib-resnet29", "size": 150}, 8),
        ("ResNet-18 baseline", VARIANTS["baseline"], 8),
        ("RAN, tiny backbone (no paper's)", {"backbone": "tiny", "size": 64}, 7),
    )

    def __init__(self, settings: RanSettings, classes: int, regions: int = 6):
        super().__init__()
        self.settings = s = settings
        self.backbone, self.input = build_backbone(s.name, s.backbone, s.pixels, s.size)
        d = self.backbone.features
        width = d
        if s.fusion == "attention":
            self.q0 = nn.Linear(d, 1, bias=s.attn_bias)
            if s.relation:
                self.q1 = nn.Linear(2 * d, 1, bias=s.attn_bias)
                width = 2 * d
        elif s.fusion == "concat":
            width = regions * d
        self.classifier = nn.Linear(width, classes)

    @property
    def cam_layer(self) -> str:
        return f"backbone.{self.backbone.last_maps}"

    @property
    def pretrained(self) -> str:
        return self.backbone.pretrained

    @property
    def requires(self) -> tuple[Requirement, ...]:
        whole_face = self.settings.fusion == "none" and self.settings.region == 0
        return (Labels(),) if whole_face else (Labels(), Regions())

    @property
    def regions_used(self) -> tuple[int, ...] | None:
        if self.settings.fusion == "none":
            return (self.settings.region,)
        if self.settings.fusion == "augment" and not self.training:
            return (0,)
        return None

    def forward(self, views: Tensor) -> Output:
        """Map regions (N, K, 3, S, S), the whole face first, to Output with attention mu, nu, weight, each (N, K)."""
        features = self._features(views)
        match self.settings.fusion:
            case "attention":
                return self._attend(features)
            case "concat":
                return Output(self.classifier(features.flatten(1)))
            case "average":
                return Output(self.classifier(features.mean(1)))
            case "augment":
                logits = self.classifier(features)
                return Output(logits[:, 0], extras={"every_view": logits})
            case _:
                return Output(self.classifier(features[:, 0]))

    def _features(self, views: Tensor) -> Tensor:
        """Return the backbone's vector of every region, (N, K, D)."""
        n, k = views.shape[:2]
        if self.settings.batch_stats == "shared" or not self.training:
            return self.backbone(views.flatten(0, 1)).unflatten(0, (n, k))
        # the released code has the whole face last, and running statistics depend on the order
        crops = [self.backbone(views[:, i]) for i in range(1, k)]
        return torch.stack([self.backbone(views[:, 0]), *crops], dim=1)

    def _attend(self, features: Tensor) -> Output:
        mu = self._gate(self.q0(features))  # (N, K, 1), Eq. 2
        fused = _weighted_mean(mu, features)  # F_m, Eq. 3
        if not self.settings.relation:
            return Output(self.classifier(fused), _attention(mu=mu, weight=mu))
        pairs = torch.cat([features, fused[:, None].expand_as(features)], dim=2)  # [F_i : F_m]
        nu = self._gate(self.q1(pairs))  # Eq. 4
        return Output(self.classifier(_weighted_mean(mu * nu, pairs)), _attention(mu=mu, nu=nu, weight=mu * nu))

    def _gate(self, scores: Tensor) -> Tensor:
        gate = scores.float().sigmoid()
        return gate.softmax(dim=1) if self.settings.attn_norm == "softmax" else gate

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        if "every_view" in output.extras:
            logits = output.extras["every_view"]
            k = logits.shape[1]
            spread = None if targets.distributions is None else targets.distributions.repeat_interleave(k, 0)
            weights = None if targets.weights is None else targets.weights.repeat_interleave(k)
            many = Targets(targets.labels.repeat_interleave(k), spread, weights=weights)
            return {"ce": classification_loss(logits.flatten(0, 1), many)}
        terms = {"ce": classification_loss(output.logits, targets)}
        if self.settings.fusion == "attention" and self.settings.rank_weight:
            terms["rank"] = self.settings.rank_weight * region_biased_loss(
                output.attention["mu"], self.settings.rank_margin
            )
        return terms


def region_biased_loss(mu: Tensor, margin: float) -> Tensor:
    """Return RB-Loss (Eq. 6), averaged over the batch: max(0, margin - (max over crops of mu - mu of the whole face)).

    Args:
        mu: (N, K) self-attention weights, the whole face first.
    """
    return (margin - (mu[:, 1:].amax(dim=1) - mu[:, 0])).clamp_min(0).mean()


def _weighted_mean(weights: Tensor, vectors: Tensor) -> Tensor:
    """Map (N, K, 1) and (N, K, D) to (N, D); a convex combination of the vectors (Eq. 3 and 5)."""
    return (weights * vectors).sum(1) / weights.sum(1)


def _attention(weight: Tensor, **gates: Tensor) -> dict[str, Tensor]:
    """Return the gates as (N, K), and the share of each region in the fused vector, which sums to 1 over regions."""
    share = weight / weight.sum(1, keepdim=True)
    return {name: g.squeeze(2) for name, g in {**gates, "weight": share}.items()}
