"""RAN against its equations, its parameter counts and its losses in closed form (Wang et al., IEEE TIP 2020)."""

import math

import pytest
import torch
from torch import nn

from fertool.backbones.base import Backbone
from fertool.backbones.registry import BACKBONES, IMAGENET
from fertool.models.base import Output, Targets, classification_loss
from fertool.models.ran import Ran, RanSettings, region_biased_loss
from fertool.models.registry import build_model, model_settings
from fertool.requirements import Regions


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def meta(classes: int, regions: int = 6, variant: str = "", **settings) -> Ran:
    with torch.device("meta"):
        return build_model(model_settings({"name": "ran", **settings}, variant), classes, regions)


class Flat(Backbone):
    """A stand-in for a trunk: the first seven numbers of a view are its features, so that they are known."""

    features = 7
    pixels = IMAGENET

    def forward(self, x):
        return x.flatten(1)[:, :7]


def ran(monkeypatch, variant: str = "", classes: int = 3, regions: int = 6, **settings) -> Ran:
    """RAN on known features."""
    monkeypatch.setitem(BACKBONES, "tiny", Flat)
    torch.manual_seed(0)
    values = {"name": "ran", "backbone": "tiny", "size": 4, **settings}
    return build_model(model_settings(values, variant), classes, regions).double()


def views(n: int = 4, k: int = 6) -> torch.Tensor:
    return torch.randn(n, k, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------------------------------- parameters


def test_parameter_counts_of_the_paper():
    assert count(meta(8)) == 11_186_248
    assert count(meta(8, attn_bias=True)) == 11_186_250
    assert count(meta(7, attn_bias=True)) == 11_185_225
    net = meta(8)
    assert (count(net.q0), count(net.q1), count(net.classifier)) == (512, 1024, 8200)
    assert count(net.backbone) == 11_176_512


def test_parameter_counts_of_vgg16():
    net = meta(8, backbone="vgg16")
    assert (count(net.q0), count(net.q1), count(net.classifier)) == (4096, 8192, 65_544)
    assert count(net.backbone) == 117_479_232


@pytest.mark.parametrize(
    ("variant", "width"),
    [
        ("", 1024),
        ("ran", 1024),
        ("relation", 1024),
        ("self", 512),
        ("baseline", 512),
        ("average", 512),
        ("concat", 6 * 512),
        ("aug", 512),
        *((f"region-{i}", 512) for i in range(6)),
    ],
)
def test_width_of_every_variants_head(variant, width):
    net = meta(7, variant=variant)
    assert net.classifier.weight.shape == (7, width)
    has = {"q0": width == 1024 or variant == "self", "q1": width == 1024}
    assert {name: hasattr(net, name) for name in has} == has


def test_no_variant_is_forgotten():
    regions = {f"region-{i}" for i in range(6)}
    assert set(Ran.VARIANTS) == {"ran", "relation", "self", "baseline", "average", "concat", "aug"} | regions


# ---------------------------------------------------------------------------------------------- equations


def by_hand(net: Ran, features: list[list[float]], softmax: bool) -> dict:
    """Eq. 2 to 5 for one face, number by number."""
    q0, q1 = net.q0.weight[0].tolist(), net.q1.weight[0].tolist()
    mu = [sigmoid(dot(f, q0)) for f in features]
    if softmax:
        mu = [math.exp(m) / math.fsum(map(math.exp, mu)) for m in mu]
    fused = [math.fsum(m * f[d] for m, f in zip(mu, features, strict=True)) / math.fsum(mu) for d in range(7)]
    nu = [sigmoid(dot(f + fused, q1)) for f in features]
    if softmax:
        nu = [math.exp(n) / math.fsum(map(math.exp, nu)) for n in nu]
    weight = [m * n for m, n in zip(mu, nu, strict=True)]
    share = [w / math.fsum(weight) for w in weight]
    p = [math.fsum(w * (f + fused)[d] for w, f in zip(share, features, strict=True)) for d in range(14)]
    bias = net.classifier.bias.tolist()
    logits = [dot(row, p) + b for row, b in zip(net.classifier.weight.tolist(), bias, strict=True)]
    return {"mu": mu, "nu": nu, "weight": share, "logits": logits}


@pytest.mark.parametrize("attn_norm", ["none", "softmax"])
@pytest.mark.parametrize("k", [6, 31])
def test_equations_2_to_5(monkeypatch, attn_norm, k):
    """Also with thirty crops at test time, as in the paper's random-crop rows."""
    net, x = ran(monkeypatch, attn_norm=attn_norm), views(k=k)
    output = net(x)
    for i, face in enumerate(x):
        expected = by_hand(net, face.flatten(1)[:, :7].tolist(), attn_norm == "softmax")
        logits = torch.tensor(expected.pop("logits"), dtype=torch.float64)
        assert torch.allclose(output.logits[i], logits, atol=1e-6)
        for name, values in expected.items():
            assert torch.allclose(output.attention[name][i].double(), torch.tensor(values).double(), atol=1e-6)


def test_self_attention_alone_is_equations_2_and_3(monkeypatch):
    net, x = ran(monkeypatch, "self"), views()
    features = x.flatten(2)[..., :7]
    mu = torch.sigmoid(features @ net.q0.weight[0])
    fused = (mu[..., None] * features).sum(1) / mu.sum(1, keepdim=True)
    output = net(x)
    assert torch.allclose(output.logits, net.classifier(fused), atol=1e-6)
    assert set(output.attention) == {"mu", "weight"}


def test_weights_are_shares(monkeypatch):
    """The fused vector is a convex combination of the regions': shares that sum to one, inside their range."""
    for attn_norm in ("none", "softmax"):
        attention = ran(monkeypatch, attn_norm=attn_norm)(views()).attention
        share = attention["weight"]
        assert (share > 0).all()
        assert torch.allclose(share.sum(1), torch.ones(4, dtype=share.dtype))
        gates = (attention["mu"].sum(1), attention["nu"].sum(1))
        one = torch.ones(4, dtype=share.dtype)
        assert all(torch.allclose(g, one) == (attn_norm == "softmax") for g in gates)
    net, x = ran(monkeypatch, "self", classes=7), views()
    nn.init.eye_(net.classifier.weight)
    nn.init.zeros_(net.classifier.bias)
    fused, features = net(x).logits, x.flatten(2)[..., :7]
    assert (fused >= features.amin(1)).all()
    assert (fused <= features.amax(1)).all()


def test_the_order_of_crops_does_not_matter(monkeypatch):
    net, x = ran(monkeypatch), views()
    assert torch.allclose(net(x).logits, net(x[:, [0, 3, 5, 1, 4, 2]]).logits, atol=1e-6)


def test_biases_reach_the_gates(monkeypatch):
    net, x = ran(monkeypatch, attn_bias=True), views()
    nn.init.zeros_(net.q0.weight)
    nn.init.constant_(net.q0.bias, 2.0)
    assert net(x).attention["mu"].flatten().tolist() == pytest.approx([sigmoid(2.0)] * 24, rel=1e-6)


# ---------------------------------------------------------------------------------- baselines and ablations


def test_baselines_classify_what_they_say(monkeypatch):
    x = views()
    features = x.flatten(2)[..., :7]
    expected = {
        "baseline": features[:, 0],
        "region-3": features[:, 3],
        "average": features.mean(1),
        "concat": features.flatten(1),
    }
    for variant, vector in expected.items():
        net = ran(monkeypatch, variant)
        output = net(x if net.regions_used is None else x[:, list(net.regions_used)])
        assert torch.allclose(output.logits, net.classifier(vector)), variant
        assert output.attention == {}


@pytest.mark.parametrize(
    ("variant", "training", "used", "crops"),
    [
        ("ran", True, None, True),
        ("baseline", True, (0,), False),
        ("region-3", True, (3,), True),
        ("concat", False, None, True),
        ("aug", True, None, True),
        ("aug", False, (0,), True),
    ],
)
def test_regions_that_are_used(monkeypatch, variant, training, used, crops):
    net = ran(monkeypatch, variant).train(training)
    assert net.regions_used == used
    assert (Regions() in net.requires) == crops


def test_augmented_training_learns_every_region_as_a_picture(monkeypatch):
    net, x, labels = ran(monkeypatch, "aug"), views(), torch.tensor([0, 2, 1, 1])
    output = net(x)
    logits = net.classifier(x.flatten(2)[..., :7])
    assert torch.equal(output.logits, logits[:, 0])
    losses = net.losses(output, Targets(labels))
    expected = sum(nn.functional.cross_entropy(logits[:, i], labels) for i in range(6)) / 6
    assert losses.keys() == {"ce"}
    assert torch.allclose(losses["ce"], expected)
    spread = torch.softmax(torch.randn(4, 3, dtype=torch.float64), 1)
    kl = sum(classification_loss(logits[:, i], Targets(labels, spread)) for i in range(6)) / 6
    assert torch.allclose(net.losses(output, Targets(labels, spread))["ce"], kl)


# ------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("mu", "loss"),
    [
        ([0.5, 0.6, 0.1], 0.0),  # a crop is ahead by more than the margin
        ([0.5, 0.51, 0.1], 0.01),
        ([0.5, 0.5, 0.5], 0.02),
        ([0.9, 0.2, 0.4], 0.52),  # the whole face is no crop: its own weight must not count as the maximum
        ([0.0, 1.0, 1.0], 0.0),
    ],
)
def test_region_biased_loss(mu, loss):
    assert region_biased_loss(torch.tensor([mu], dtype=torch.float64), 0.02).item() == pytest.approx(loss, abs=1e-12)


def test_region_biased_loss_is_the_mean_over_faces():
    mu = torch.tensor([[0.5, 0.6, 0.1], [0.5, 0.51, 0.1], [0.9, 0.2, 0.4]], dtype=torch.float64)
    assert region_biased_loss(mu, 0.02).item() == pytest.approx((0 + 0.01 + 0.52) / 3)


def test_losses_are_cross_entropy_and_weighted_region_biased_loss(monkeypatch):
    labels = torch.tensor([0, 2, 1, 1])
    net, x = ran(monkeypatch, rank_weight=0.5, rank_margin=0.3), views()
    output = net(x)
    losses = net.losses(output, Targets(labels))
    log_p = output.logits.double().log_softmax(1)
    assert losses["ce"].item() == pytest.approx(-log_p[range(4), labels].mean().item(), rel=1e-6)
    mu = output.attention["mu"].double()
    expected = 0.5 * sum(max(0.0, 0.3 - (max(m[1:]) - m[0])) for m in mu.tolist()) / 4
    assert expected > 0
    assert losses["rank"].item() == pytest.approx(expected, rel=1e-6)
    for variant in ("relation", "self", "baseline", "average", "concat"):
        net = ran(monkeypatch, variant)
        assert net.losses(net(x), Targets(labels)).keys() == {"ce"}


def test_distribution_loss_is_the_divergence_from_the_labels():
    """KL(p || softmax(logits)), mean over faces; 0 · log 0 is 0."""
    p = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.1, 0.9]], dtype=torch.float64)
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]], dtype=torch.float64)
    loss = classification_loss(logits, Targets(torch.tensor([0, 2]), p))
    q = logits.softmax(1)
    expected = sum(a * math.log(a / b) for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True) if a)
    assert loss.item() == pytest.approx(expected / 2)
    assert classification_loss(p.clamp_min(1e-300).log(), Targets(torch.tensor([0, 2]), p)).item() == pytest.approx(0)


# ---------------------------------------------------------------------------------------------- whole networks


@pytest.mark.parametrize(("backbone", "size"), [("resnet18", 40), ("tiny", 32)])
def test_forward_and_backward(backbone, size):
    torch.manual_seed(0)
    net = Ran(RanSettings(backbone=backbone, size=size), classes=7)
    output = net(torch.randn(2, 3, 3, size, size))
    assert isinstance(output, Output)
    assert output.logits.shape == (2, 7)
    assert {k: v.shape for k, v in output.attention.items()} == dict.fromkeys(("mu", "nu", "weight"), (2, 3))
    sum(net.losses(output, Targets(torch.tensor([0, 6]))).values()).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_trunks_keep_torchvisions_names():
    from torchvision.models import resnet18, vgg16

    with torch.device("meta"):
        trunk, vgg = BACKBONES["resnet18"](), BACKBONES["vgg16"]()
        there, vgg_there = resnet18().state_dict(), vgg16().state_dict()
    assert trunk.state_dict().keys() == {k for k in there if not k.startswith("fc.")}
    convolutions = {k.replace("features.", "features_.") for k in vgg_there if k.startswith("features.")}
    assert vgg.state_dict().keys() == convolutions | {"fc6.weight", "fc6.bias"}


def test_inputs_are_normalised_as_the_trunks_were_trained():
    spec = meta(7).input
    assert (spec.size, spec.channels) == ((224, 224), 3)
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    face = meta(7, backbone="vgg16").input  # VGG-Face: bytes minus the mean face, no scaling
    red, green, blue = (255 * m for m in face.mean)
    assert (red, green, blue) == pytest.approx((129.18, 104.76, 93.59), abs=0.02)
    assert face.std == (1 / 255,) * 3
