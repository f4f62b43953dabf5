"""WS-LGRN, weakly supervised local-global relation network (Zhang et al., IJCAI 2020).

A frozen Attention Map Generator says where eyes and mouth are. Features of the face are pooled under these two maps;
features of a second trunk describe the whole face. A relational reasoning unit weighs the three against their sum and
adds them up. Pairs of faces train it: besides being classified, faces of one expression should have similar features,
in each of the three.

The paper's ablations are the same class with other settings, see `VARIANTS`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from fertool.backbones.base import InputSpec, renormalise
from fertool.backbones.dense import DenseTrunk
from fertool.models.amg import Amg, AmgSettings
from fertool.models.base import FerModel, Output, Targets, classification_loss
from fertool.settings import Settings

_ROOT_EPS = 1e-12  # inside the square root, whose slope at 0 is infinite


@dataclass(frozen=True, kw_only=True)
class WsLgrnSettings(Settings):
    """Settings of WS-LGRN."""

    name: Literal["ws-lgrn"] = "ws-lgrn"
    use_local: Annotated[bool, "features under the attention maps of eyes and mouth"] = True
    use_global: Annotated[bool, "features of the whole face"] = True
    fusion: Annotated[
        Literal["rru", "sum", "concat"], "relational reasoning, or the plain sum or concatenation of the features"
    ] = "rru"
    rru_shared: Annotated[bool, "one layer judges all three features; off: one each"] = True
    margins: Annotated[
        tuple[float, float, float], "how far apart features of different expressions should be: eyes, mouth, face"
    ] = (10.0, 10.0, 10.0)
    loss_weights: Annotated[
        tuple[float, float, float, float, float],
        "lambda 1 to 5 of Eq. 9: contrastive losses of eyes, mouth and face, cross-entropy of either face of a pair",
    ] = (3.0, 1.0, 1.0, 1.0, 1.0)
    same_class: Annotated[
        float,
        Ge(0),
        Le(1),
        "share of training pairs that show one expression; the paper does not say how pairs are drawn",
    ] = 0.5
    embedding: Annotated[int, Gt(0), "length of the features that are compared; the paper does not say"] = 128
    blocks: Annotated[tuple[int, int, int], "layers of the three dense blocks of either trunk"] = (6, 6, 6)
    growth: Annotated[int, Gt(0), "channels that each layer adds; the paper does not say, 32 is DenseNet-121's"] = 32
    stem: Annotated[
        int, Gt(0), "channels of the first convolution, of stride 1 and without pooling; the paper does not say"
    ] = 64
    size: Annotated[int, Gt(0), "side of the input"] = 48
    mean: Annotated[float, "of the training pixels, as a fraction of white"] = 0.5
    std: Annotated[float, Gt(0), "of the training pixels, as a fraction of white"] = 0.25
    pretrained_part: Annotated[dict, "settings of the pretrained AMG; taken from its run"] = field(default_factory=dict)


class WsLgrn(FerModel):
    """WS-LGRN and its ablations. Arguments as for every network; regions are not used."""

    Settings = WsLgrnSettings
    paper = "ws-lgrn"
    baseline = "gfnet"
    VARIANTS = {
        "ws-lgrn": {},
        "gfnet": {"use_local": False, "fusion": "sum"},
        "lfnet": {"use_global": False},
        "sum": {"fusion": "sum"},
        "concat": {"fusion": "concat"},
        "wcl": {"loss_weights": (0.0, 0.0, 0.0, 1.0, 1.0)},
    }
    CATALOGUE = (
        ("WS-LGRN, with its AMG", {}, 7),
        ("WS-LGRN, one RRU layer per feature", {"rru_shared": False}, 7),
        ("GFNet", VARIANTS["gfnet"], 7),
    )

    head = ("classifier.",)

    def __init__(self, settings: WsLgrnSettings, classes: int, regions: int = 1):
        super().__init__()
        self.settings = s = settings
        self.input = InputSpec((s.size, s.size), 1, (s.mean,), (s.std,))
        self.pairs = s.same_class
        trunks = []
        if s.use_local:
            self.lfe = DenseTrunk(s.blocks, s.growth, s.stem)
            trunks.append(self.lfe)
        if s.use_global:
            self.gfe = DenseTrunk(s.blocks, s.growth, s.stem)
            trunks.append(self.gfe)
        self.names = ("eyes", "mouth") * s.use_local + ("face",) * s.use_global
        c, k = trunks[0].features, len(self.names)
        self.embed = nn.ModuleDict({name: nn.Linear(c, s.embedding) for name in self.names if self._compares(name)})
        if s.fusion == "rru":
            self.rru = nn.ModuleList(nn.Linear(2 * c, 1) for _ in range(1 if s.rru_shared else k))
        self.classifier = nn.Linear({"rru": 2 * c, "sum": c, "concat": k * c}[s.fusion], classes)
        if s.use_local:
            self.amg = Amg(AmgSettings(**s.pretrained_part), 2)
        self.train()

    @property
    def cam_layer(self) -> str:
        return "gfe.relu" if self.settings.use_global else "lfe.relu"

    @property
    def pretrained_part(self) -> str:
        return "amg" if self.settings.use_local else ""

    def parts(self) -> dict[str, nn.Module]:
        if self.settings.fusion != "rru" or not self.settings.use_local:
            return {}
        sized: dict[str, nn.Module] = {"its RRU": self.rru}
        return {"its LFE (as GFE)": self.lfe, **sized} if self.settings.rru_shared else sized

    def _weight(self, name: str) -> float:
        return self.settings.loss_weights[("eyes", "mouth", "face").index(name)]

    def _compares(self, name: str) -> bool:
        return self._weight(name) > 0

    def forward(self, views: Tensor) -> Output:
        """Map faces (N, 1, 1, S, S) to logits and attention: eyes, mouth (N, S/4, S/4) and branches (N, 3).

        Branches are the weights of eyes, mouth and face. Faces 2i and 2i + 1 of a training are a pair; extras hold the
        features that the losses compare.
        """
        x = views[:, 0]
        vectors, attention = {}, {}
        if self.settings.use_local:
            attention = self._maps(x)
            local = self.lfe(x)
            for name in ("eyes", "mouth"):  # bilinear attention pooling, Eq. 1, then averaged over positions
                vectors[name] = (
                    torch.einsum("nchw,nhw->nc", local, attention[name].to(local.dtype)) / local[0, 0].numel()
                )
        if self.settings.use_global:
            vectors["face"] = self.gfe(x).mean(dim=(2, 3))
        fused = self._fuse(torch.stack([vectors[name] for name in self.names], dim=1), attention)
        extras = {name: layer(vectors[name]) for name, layer in self.embed.items()}
        return Output(self.classifier(fused), attention, extras)

    def _maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return attention maps, from the face as AMG was trained to see it."""
        found = self.amg(renormalise(x, self.input, self.amg.input)[:, None]).attention
        return {name: weights.detach() for name, weights in found.items()}

    def _fuse(self, v: Tensor, attention: dict[str, Tensor]) -> Tensor:
        """Map features (N, K, C) to the vector that is classified (Eq. 4-8).

        The paper writes Eq. 4-8 for "spatial descriptors", and its fully connected layers need vectors: features are
        averaged over positions first. As w_b is one number per feature, the sums of Eq. 4 and 8 are the same whether
        they are taken before or after averaging.
        """
        if self.settings.fusion == "concat":
            return v.flatten(1)
        hybrid = v.sum(1, keepdim=True)
        if self.settings.fusion == "sum":
            return hybrid[:, 0]
        pairs = torch.cat([hybrid.expand_as(v), v], dim=2)  # [F : F_b]
        scores = [self.rru[i % len(self.rru)](pairs[:, i]) for i in range(v.shape[1])]
        weights = torch.cat(scores, dim=1).float().sigmoid()
        attention["branches"] = weights
        return (weights[:, :, None] * pairs).sum(1)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Return Eq. 9: contrastive losses of the pairs, and cross-entropy of both faces."""
        first, second = slice(0, None, 2), slice(1, None, 2)
        *_, of_first, of_second = self.settings.loss_weights
        terms = {
            "ce": of_first * classification_loss(output.logits[first], targets.part(first))
            + of_second * classification_loss(output.logits[second], targets.part(second))
        }
        same = targets.labels[first] == targets.labels[second]
        for name, f in output.extras.items():
            margin = self.settings.margins[("eyes", "mouth", "face").index(name)]
            terms[name] = self._weight(name) * contrastive_loss(f[first], f[second], same, margin)
        return terms


def contrastive_loss(f: Tensor, g: Tensor, same: Tensor, margin: float) -> Tensor:
    """Return the contrastive loss of Eq. 2-3, averaged over pairs.

    Half the squared distance of a pair of one class, half the squared shortfall from the margin of any other.

    Args:
        f, g: (N, D) features of either side.
        same: (N,) bool.
    """
    squared = ((f.float() - g.float()) ** 2).sum(1)
    short = (margin - torch.sqrt(squared + _ROOT_EPS)).clamp_min(0)
    return (0.5 * torch.where(same, squared, short**2)).mean()
