"""The networks of LNLAttenNet, WS-LGRN, VA-CNN and MAN: sizes the papers print, invariants, losses in closed form."""

import hashlib
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fertool.backbones.layers import he, xavier
from fertool.models.amg import activation_map
from fertool.models.base import Targets
from fertool.models.lnlattennet import LocalAttention, SimpleNet
from fertool.models.man import MultipleAttention
from fertool.models.rasnet import intersection_over_union
from fertool.models.registry import build_model, model_settings
from fertool.models.ws_lgrn import contrastive_loss
from fertool.regions.attributes import GROUPS, attribute_groups, draw
from fertool.regions.patches import patch_side, patch_starts
from fertool.requirements import Aligned
from fertool.stages.list_models import count, every_network

SMALL = {
    "lnlattennet": {"channels": 4},
    "ws-lgrn": {
        "blocks": (2, 2, 2),
        "growth": 4,
        "stem": 8,
        "pretrained_part": {"blocks": (2, 2, 2), "growth": 4, "stem": 8},
    },
    "amg": {"blocks": (2, 2, 2), "growth": 4, "stem": 8},
    "va-cnn": {},
    "man": {"channels": 4, "pretrained_part": {"channels": 4}},
    "rasnet": {"channels": 4},
}


def network(name: str, variant: str | None = None, **values):
    torch.manual_seed(0)
    return build_model(model_settings({"name": name, **SMALL[name], **values}, variant), 7)


def views(net, n: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(n, 1, net.input.channels, *net.input.size)


def targets(n: int = 2) -> Targets:
    generator = torch.Generator().manual_seed(2)
    given = {
        "masks": torch.randint(0, 2, (n, 8, 14, 14), generator=generator, dtype=torch.uint8),
        "groups": torch.randint(0, 2, (n, 2), generator=generator, dtype=torch.int8),
    }
    return Targets(torch.arange(n) % 7, given=given)


def digest(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in module.state_dict().values())).hexdigest()


# -------------------------------------------------------------------------------------------------- sizes


def test_sizes_the_papers_state():
    found = {m["network"].strip(): (m["parameters"], m["weights"]) for m in every_network()}
    parameters = {
        "LNLAttenNet": 80_278_935,
        "its U-Net": 31_031_680,
        "a SimpleNet": 1_180_544,
        "a local attention": 795_329,
        "WS-LGRN, with its AMG": 2_574_088,
        "its LFE (as GFE)": 1_216_448,
        "AMG, both branches": 8_525_316,
        "one branch": 4_262_658,
        "RASnet": 7_766_560,
        "MAN (ERSnet)": 136_714_895,
        "its MA block": 2_425_672,
        "VGG-16 with channel attention": 134_322_535,
        "VGG-16": 134_289_223,
        "VA-CNN, frontal faces": 314_284,
        "VA-CNN, global average pooling": 305_703,
    }
    assert {name: found[name][0] for name in parameters} == parameters
    weights = {  # as VA-CNN's paper counts: without biases
        "VA-CNN, frontal faces": 313_682,
        "VA-CNN baseline, frontal faces": 360_720,
        "VA-CNN, global average pooling": 305_168,
        "VA-CNN baseline, five poses": 563_216,
    }
    assert {name: found[name][1] for name in weights} == weights


@pytest.mark.parametrize(("shared", "size"), [(True, 705), (False, 2_115)])
def test_size_of_the_relational_reasoning_unit(shared, size):
    with torch.device("meta"):
        net = build_model(model_settings({"name": "ws-lgrn", "rru_shared": shared}), 7)
    assert count(net.rru)["parameters"] == size


def test_rasnet_fits_its_table_only_when_pooling_rounds_up():
    with torch.device("meta"):
        sizes = [count(build_model(model_settings({"name": "rasnet", "pool_ceil": up}), 7)) for up in (True, False)]
    assert [s["parameters"] for s in sizes] == [7_766_560, 5_931_552]


EVERY = [
    *(("va-cnn", v) for v in ("va-cnn", "attention-symmetric", "gap", "baseline")),
    *(("lnlattennet", v) for v in ("lnlattennet", "single", "local", "non-local")),
    *(("ws-lgrn", v) for v in ("ws-lgrn", "gfnet", "lfnet", "sum", "concat", "wcl")),
    *(("man", v) for v in ("man", "vgg", "vgg-se")),
    ("amg", "amg"),
    ("rasnet", "rasnet"),
]


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_every_learnt_parameter_learns(name, variant):
    net = network(name, variant)
    net.train()
    sum(net.losses(net(views(net)), targets()).values()).backward()
    trainable = {k: p for k, p in net.named_parameters() if p.requires_grad}
    assert trainable
    assert all(p.grad is not None for p in trainable.values())
    held = [k for k, p in net.named_parameters() if not p.requires_grad]
    assert bool(held) == bool(net.pretrained_part)
    assert all(k.startswith(net.pretrained_part + ".") for k in held)


#: losses of networks with fresh weights, as they were when their equations were checked
GOLDEN = {
    ("va-cnn", "va-cnn"): 1.7594,
    ("va-cnn", "attention-symmetric"): 1.7551,
    ("va-cnn", "gap"): 1.4784,
    ("va-cnn", "baseline"): 2.4573,
    ("lnlattennet", "lnlattennet"): 2.2458,
    ("lnlattennet", "single"): 2.1677,
    ("lnlattennet", "local"): 2.2490,
    ("lnlattennet", "non-local"): 2.1809,
    ("ws-lgrn", "ws-lgrn"): 230.5579,
    ("ws-lgrn", "gfnet"): 46.7038,
    ("ws-lgrn", "lfnet"): 191.2034,
    ("ws-lgrn", "sum"): 233.1665,
    ("ws-lgrn", "concat"): 233.8311,
    ("ws-lgrn", "wcl"): 2.6939,
    ("man", "man"): 1.9483,
    ("man", "vgg"): 1.9434,
    ("man", "vgg-se"): 1.9458,
    ("amg", "amg"): 1.3539,
    ("rasnet", "rasnet"): 428.5213,
}


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_the_loss_is_what_it_was(name, variant):
    net = network(name, variant)
    net.train(name in ("amg", "ws-lgrn"))  # these take pairs in training; the others have dropout
    loss = sum(net.losses(net(views(net)), targets()).values())
    assert loss.item() == pytest.approx(GOLDEN[name, variant], rel=1e-3)


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_a_face_is_judged_alone(name, variant):
    """In eval mode a face's output does not depend on its neighbours in the batch."""
    net = network(name, variant).eval()
    x = views(net, 3)
    with torch.inference_mode():
        together, alone = net(x), net(x[1:2])
    assert torch.allclose(together.logits[1:2], alone.logits, atol=1e-5)
    for key, value in together.attention.items():
        assert torch.allclose(value[1:2], alone.attention[key], atol=1e-5)


@pytest.mark.parametrize(("name", "part"), [("man", "rasnet"), ("ws-lgrn", "amg")])
def test_the_pretrained_part_never_changes(name, part):
    net = network(name)
    net.train()
    frozen, before = getattr(net, part), digest(getattr(net, part))
    assert not any(m.training for m in frozen.modules())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        sum(net.losses(net(views(net)), targets()).values()).backward()
        optimizer.step()
    assert digest(frozen) == before, "neither weights nor batch statistics"
    assert digest(net) != digest(network(name))


# ----------------------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize("initialise", [xavier, partial(xavier, fan="in"), he])
@pytest.mark.parametrize("make", [SimpleNet, LocalAttention])
def test_grouped_networks_are_initialised_like_separate_ones(make, initialise):
    torch.manual_seed(0)
    together, alone = make(8, 16).apply(initialise), [make(8, 1).apply(initialise) for _ in range(16)]
    for i, layer in enumerate(together):
        if isinstance(layer, nn.Conv2d):
            theirs = torch.cat([net[i].weight for net in alone])
            assert layer.weight.shape == theirs.shape
            assert layer.weight.std().item() == pytest.approx(
                theirs.std().item(), rel=0.15 if i == len(together) - 1 else 0.03
            )


@pytest.mark.parametrize(
    ("name", "layer", "deviation"),  # of uniform weights: the bound over the root of 3
    [
        ("lnlattennet", "local.0", (2 / (9 * (16 + 16))) ** 0.5),  # Table II's first layer, for one patch of 16
        ("lnlattennet", "local.2", (2 / (9 * (16 + 16))) ** 0.5),
        ("lnlattennet", "local_attention.0", (2 / (9 * (64 + 64))) ** 0.5),
        ("lnlattennet", "qkv", (2 / (256 + 128)) ** 0.5),  # Q, K and V of Table I are layers of their own
        ("lnlattennet", "unet.down.1.0", (2 / (9 * (16 + 32))) ** 0.5),
        ("man", "attention.buffer", (1 / 128) ** 0.5),  # one of eight; Caffe counts the inputs alone
        ("man", "attention.channel_attention.squeeze", (1 / 128) ** 0.5),
        ("man", "attention.channel_attention.excite", (1 / 8) ** 0.5),
        ("man", "fc8", (1 / 1024) ** 0.5),
        ("rasnet", "fc8", (1 / 2048) ** 0.5),
    ],
)
def test_deviation_of_fresh_weights(name, layer, deviation):
    net = network(name, **{**SMALL[name], "channels": 16})
    assert net.get_submodule(layer).weight.std().item() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("name", ["man", "rasnet"])
def test_glorots_mean_of_both_fans_can_be_asked_for(name):
    net = network(name, xavier="average")
    fan_in, fan_out = net.fc8.in_features, net.fc8.out_features
    assert net.fc8.weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.03)


def test_fresh_local_networks_pass_as_much_on_as_a_single_one():
    torch.manual_seed(0)
    x = torch.randn(2, 8 * 16, 48, 48)
    together, alone = SimpleNet(8, 16).apply(xavier), SimpleNet(8, 1).apply(xavier)
    sizes = [y.square().mean().sqrt().item() for y in (together(x), alone(x.reshape(32, 8, 48, 48)))]
    assert 0.5 < sizes[0] / sizes[1] < 2, "counting the outputs of all groups makes it a thousandth"


# ------------------------------------------------------------------------------------------------- VA-CNN


def test_attention_sums_to_one_and_beta_sharpens():
    maps = [network("va-cnn", beta=beta).eval()(views(network("va-cnn"))).attention["map"] for beta in (1.0, 20.0)]
    assert maps[0].shape == (2, 9, 7)
    for b in maps:
        assert torch.allclose(b.sum(dim=(1, 2)), torch.ones(2))
    assert maps[0].max() < 0.1065, "tanh scores bound a weight on 63 positions by e / (e + 62 / e)"
    assert maps[1].max() > maps[0].max()


def test_symmetric_attention():
    net = network("va-cnn", "attention-symmetric").eval()
    b = net(views(net)).attention["map"]
    assert torch.allclose(b, b.flip(2))
    assert torch.allclose(b.sum(dim=(1, 2)), torch.ones(2))
    assert any(isinstance(r, Aligned) for r in net.requires)
    literal = network("va-cnn", "attention-symmetric", sym_norm="paper").eval()
    total = literal._weights(5 * torch.randn(2, 128, 9, 7)).sum(dim=(1, 2, 3))
    assert (total < 0.99).all(), "Eq. 5 as printed does not sum to 1"


def test_global_average_pooling_is_attention_that_does_not_care():
    net, pooled = network("va-cnn").eval(), network("va-cnn", "gap").eval()
    pooled.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("scores")})
    nn.init.zeros_(net.scores[2].weight)
    x = views(net)
    assert torch.allclose(net(x).logits, pooled(x).logits, atol=1e-6)


@pytest.mark.parametrize("variant", ["va-cnn", "attention-symmetric", "gap"])
def test_any_size_of_picture(variant):
    net, other = network("va-cnn", variant).eval(), network("va-cnn", variant, width=272, height=272).eval()
    other.load_state_dict(net.state_dict())
    native, large = views(net), torch.randn(1, 1, 1, 333, 500)
    assert torch.equal(other(native).logits, net(native).logits)
    b = net(large).attention["map"]
    assert b.shape == (1, 20, 31)
    assert torch.allclose(b.sum(), torch.ones(()))


# -------------------------------------------------------------------------------------------- LNLAttenNet


@pytest.mark.parametrize(
    ("n", "overlap", "side", "starts"),
    [
        (2, None, 86, [0, 58]),
        (3, None, 62, [0, 41, 82]),
        (4, None, 48, [0, 32, 64, 96]),
        (5, None, 39, [0, 26, 52, 79, 105]),
        (6, None, 33, [0, 22, 44, 67, 89, 111]),
        (4, 4, 39, [0, 35, 70, 105]),
        (4, 8, 42, [0, 34, 68, 102]),
        (4, 12, 45, [0, 33, 66, 99]),
        (4, 16, 48, [0, 32, 64, 96]),
        (4, 20, 51, [0, 31, 62, 93]),
        (4, 24, 54, [0, 30, 60, 90]),
    ],
)
def test_patches(n, overlap, side, starts):
    assert patch_side(144, n, overlap) == side
    assert patch_starts(144, n, overlap) == starts


@pytest.mark.parametrize("patches", [4, 9, 16, 25, 36])
def test_weights_of_the_regions(patches):
    net = network("lnlattennet", patches=patches).eval()
    attention = net(views(net)).attention
    assert attention["global"].shape == attention["local"].shape == (2, patches)
    assert torch.allclose(attention["global"].sum(1), torch.ones(2))
    assert ((attention["local"] > 0) & (attention["local"] < 1)).all()
    if patches == 16:
        assert (attention["global"] - 1 / 16).abs().max() < 0.03, "all alike before training"


def test_regions_that_nothing_speaks_for_weigh_the_same():
    net = network("lnlattennet").eval()
    nn.init.zeros_(net.qkv.weight)
    attention = net(views(net)).attention["global"]
    assert torch.allclose(attention, torch.full((2, 16), 1 / 16))


def test_the_non_local_branch_by_hand():
    """Table I with loops."""
    net = network("lnlattennet").eval()
    f5, _ = net.unet(views(net)[:, 0])
    w, s = net._nonlocal(f5)
    q, k, v = (F.max_pool2d(x.relu(), 2).flatten(2) for x in net.qkv(f5).chunk(3, 1))  # (N, 8c, 16)
    for b in range(2):
        r = torch.tensor([[(q[b, :, i] @ k[b, :, j]).item() for j in range(16)] for i in range(16)])
        r = r / r.sum(1, keepdim=True)
        assert torch.allclose(w[b], r.mean(0), atol=1e-6)
        assert torch.allclose(s[b].view(16, -1), r @ v[b].T, atol=1e-5)


@pytest.mark.parametrize(("alpha", "same"), [(0.0, False), (1.0, True)])
def test_alpha_blends_the_global_vectors(alpha, same):
    net = network("lnlattennet", alpha=alpha, dropout=0.0).eval()
    x = views(net)
    before = net(x).logits
    nn.init.zeros_(net.g_conv[2].weight)
    nn.init.zeros_(net.g_conv[2].bias)
    assert torch.equal(net(x).logits, before) == same, "with alpha = 1 the vector g has no say"


def test_alpha_mixes_equal_cells():
    """Where every cell attends to itself alone and g is computed as V is, g and s are the same vector: Eq. 1 then gives
    that vector whatever alpha is."""
    net = network("lnlattennet").eval()
    f5 = torch.zeros(1, 64, 9, 9)
    for cell in range(16):
        f5[0, cell, 2 * (cell // 4) + 1, 2 * (cell % 4)] = 1 + cell
    v_weight = torch.rand(32, 64, 1, 1)
    select = torch.eye(32, 64)[:, :, None, None]  # Q and K: channel i is of cell i
    net.qkv.weight.data, net.qkv.bias.data = torch.cat([select, select, v_weight]), torch.zeros(96)
    net.g_conv = nn.Conv2d(64, 32, 1, bias=False)
    net.g_conv.weight.data = v_weight
    expected = [v_weight[:, i, 0, 0] * (1 + i) for i in range(16)]  # position first
    for alpha in (0.0, 0.3, 1.0):
        net.settings = replace(net.settings, alpha=alpha)
        g, weights = net._global(f5)
        assert torch.allclose(g[0], torch.cat(expected), atol=1e-5)
        assert torch.allclose(weights, torch.full((1, 16), 1 / 16))


def test_all_local_networks_at_once_are_the_networks_one_by_one():
    torch.manual_seed(0)
    for make, shape in ((SimpleNet, (4, 48)), (LocalAttention, (16, 6))):
        together, alone = make(4, 16), [make(4, 1) for _ in range(16)]
        ours = [m for m in together if isinstance(m, nn.Conv2d)]
        for i, layer in enumerate(ours):
            theirs = [[m for m in net if isinstance(m, nn.Conv2d)][i] for net in alone]
            layer.weight.data = torch.cat([m.weight.data for m in theirs])
            layer.bias.data = torch.cat([m.bias.data for m in theirs])
        x = torch.randn(2, 16, shape[0], shape[1], shape[1])
        expected = torch.stack([net(x[:, i]) for i, net in enumerate(alone)], dim=1).flatten(1, 2)
        assert torch.allclose(together(x.flatten(1, 2)), expected, atol=1e-5)


def test_patches_see_their_own_part_of_the_face():
    net = network("lnlattennet")
    f9 = torch.arange(144.0 * 144).view(1, 1, 144, 144)
    cut = net._patches(f9)
    assert cut.shape == (1, 16, 1, 48, 48)
    assert torch.equal(cut[0, 4 * 2 + 1, 0], f9[0, 0, 64:112, 32:80]), "row 2, column 1"


def test_squared_weights_are_a_term_of_the_loss():
    net = network("lnlattennet", l2=0.01, l2_gamma=0.5)
    terms = net.losses(net(views(net)), targets())
    by_hand = sum((m.weight**2).sum() for m in net.modules() if hasattr(m, "weight"))
    assert torch.allclose(terms["l2"], 0.005 * by_hand)
    assert set(terms) == {"ce", "l2"}


def test_choices_that_the_paper_leaves_open():
    x = views(network("lnlattennet"))
    mean, total = (network("lnlattennet", "local", plain_weight=k).eval() for k in ("mean", "sum"))
    total.load_state_dict(mean.state_dict())
    seen = []  # what enters the first hidden layer, behind g*
    for net in (mean, total):
        net.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 8 * 4 * 16 :]))
        net(x)
    assert torch.allclose(16 * seen[0], seen[1], atol=1e-6), "f_en is the mean of patches, or their sum"

    plain = network("lnlattennet", local_fc_relu=False).local_attention
    assert [type(m).__name__ for m in plain][-3:] == ["Conv2d", "Identity", "Conv2d"]
    assert [type(m).__name__ for m in network("lnlattennet").local_attention][-3:] == ["Conv2d", "ReLU", "Conv2d"]
    assert plain.state_dict().keys() == network("lnlattennet").local_attention.state_dict().keys()

    net = network("lnlattennet", l2_biases=True)
    net.classifier.bias.data += 3
    assert torch.allclose(net.losses(net(x), targets())["l2"], 1e-4 * sum((p**2).sum() for p in net.parameters()))


# ------------------------------------------------------------------------------------------------ WS-LGRN


def test_contrastive_loss_in_closed_form():
    f, g = torch.zeros(2, 5), torch.zeros(2, 5)
    g[:, 0] = torch.tensor([3.0, 3.0])
    same = torch.tensor([True, False])
    assert torch.isclose(contrastive_loss(f[:1], f[:1], same[:1], 10), torch.tensor(0.0))
    assert torch.isclose(contrastive_loss(f[:1], g[:1], same[:1], 10), torch.tensor(4.5))
    assert torch.isclose(contrastive_loss(f[1:], g[1:], same[1:], 10), torch.tensor(24.5))
    assert torch.isclose(contrastive_loss(f, g, same, 10), torch.tensor(14.5)), "mean over pairs"
    assert contrastive_loss(f[1:], 9 * g[1:], same[1:], 10) == 0, "far enough apart"
    equal = torch.ones(1, 5, requires_grad=True)
    contrastive_loss(equal, torch.ones(1, 5), torch.tensor([False]), 10).backward()
    assert torch.isfinite(equal.grad).all()


def test_loss_weights_of_a_pair():
    net = network("ws-lgrn", loss_weights=(3, 1, 1, 2, 5))
    net.train()
    output = net(views(net, 4))
    t = Targets(torch.tensor([0, 0, 1, 2]))
    terms = net.losses(output, t)
    first, second = (F.cross_entropy(output.logits[i::2], t.labels[i::2]) for i in (0, 1))
    assert torch.allclose(terms["ce"], 2 * first + 5 * second)
    e = output.extras["eyes"]
    by_hand = (0.5 * (e[0] - e[1]).square().sum() + 0.5 * (10 - (e[2] - e[3]).norm()).clamp_min(0) ** 2) / 2
    assert torch.allclose(terms["eyes"], 3 * by_hand, rtol=1e-4)
    assert list(terms) == ["ce", "eyes", "mouth", "face"]
    assert list(network("ws-lgrn", "wcl").embed) == []


def test_activation_maps():
    features = torch.rand(3, 5, 12, 12)
    weight = torch.randn(5)
    maps = activation_map(features, weight)
    by_hand = sum(weight[c] * features[:, c] for c in range(5))
    assert torch.allclose(maps[1], (by_hand[1] - by_hand[1].min()) / (by_hand[1].max() - by_hand[1].min()), atol=1e-5)
    assert (maps.amin(dim=(1, 2)) == 0).all()
    assert torch.allclose(maps.amax(dim=(1, 2)), torch.ones(3))
    assert (activation_map(torch.ones(1, 5, 12, 12), weight) == 1).all(), "a flat map says nothing"


def test_maps_weigh_the_local_features():
    net = network("ws-lgrn").eval()
    x = views(net)
    attention = net(x).attention
    assert attention["eyes"].shape == (2, 12, 12)
    assert attention["branches"].shape == (2, 3)
    local, face = net.lfe(x[:, 0]), net.gfe(x[:, 0]).mean(dim=(2, 3))
    pooled = [(local * attention[k][:, None]).mean(dim=(2, 3)) for k in ("eyes", "mouth")]
    hybrid = pooled[0] + pooled[1] + face
    fused = 0
    for v in (*pooled, face):  # Eq. 4-8
        pair = torch.cat([hybrid, v], dim=1)
        fused = fused + net.rru[0](pair).sigmoid() * pair
    assert torch.allclose(net(x).logits, net.classifier(fused), atol=1e-5)


def test_attention_sees_the_face_as_it_was_trained_to():
    part = {**SMALL["amg"], "mean": 0.3, "std": 0.1}
    net = network("ws-lgrn", mean=0.6, std=0.2, pretrained_part=part).eval()
    pixels = torch.rand(2, 1, 1, 48, 48)
    expected = net.amg((pixels - 0.3) / 0.1).attention["eyes"]
    assert torch.allclose(net((pixels - 0.6) / 0.2).attention["eyes"], expected, atol=1e-4)


def test_attribute_groups_and_their_draw():
    names = [name for group in GROUPS.values() for name in group]
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(4000, len(names), generator=generator) < 0.1
    columns = {name: (2 * present[:, i].int() - 1).numpy() for i, name in enumerate(names)}
    groups = attribute_groups(columns)
    assert (groups[:, 0] == present[:, :4].any(1).numpy()).all()
    assert (groups[:, 1] == present[:, 4:].any(1).numpy()).all()
    import numpy as np

    eligible = np.arange(4000) % 2 == 0
    drawn = draw(groups, eligible, 300, np.random.default_rng(1))
    assert drawn.sum(0).tolist() == [300, 300]
    assert not drawn[~eligible].any()
    assert [groups[drawn[:, g], g].sum() for g in (0, 1)] == [150, 150]
    few = draw(groups, np.arange(4000) < 40, 300, np.random.default_rng(1))
    rarer = min((groups[:40, 0] == 0).sum(), (groups[:40, 0] == 1).sum())
    assert few[:, 0].sum() == 2 * rarer, "as many of each kind as there are of the rarer"


def test_each_branch_learns_from_its_own_faces():
    net = network("amg")
    net.train()
    x, t = views(net, 4), targets(4)
    terms = net.losses(net(x), t)
    eyes = F.cross_entropy(net.eyes(x[0::2, 0])[0], t.given["groups"][0::2, 0].long())
    assert torch.allclose(terms["eyes"], eyes, atol=1e-5)
    net.eval()
    t.given["groups"] = torch.tensor([[1, -1], [-1, -1], [0, 1], [-1, 0]], dtype=torch.int8)
    output = net(x)
    right = output.logits.argmax(2)
    expected = [float(right[0, 0] == 1), 0.0, (float(right[2, 0] == 0) + float(right[2, 1] == 1)) / 2]
    assert net.score(output, t)[:3].tolist() == expected


# ---------------------------------------------------------------------------------------------------- MAN


def test_mask_loss_and_overlap():
    net = network("rasnet")
    output, t = net(views(net)), targets()
    by_hand = ((output.logits - t.given["masks"]) ** 2).sum() / 2
    assert output.logits.shape == (2, 8, 14, 14)
    assert torch.allclose(net.losses(output, t)["masks"], by_hand)
    a, b = torch.zeros(1, 2, 4, 4, dtype=torch.bool), torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    a[0, 0, :2], b[0, 0, 1:3] = True, True
    assert torch.allclose(intersection_over_union(a, b), torch.tensor([[1 / 3, 1.0]]))


def test_the_eight_branches_at_once_are_the_branches_one_by_one():
    """MAN's Fig. 2 with a loop over regions, and masks before the convolutions."""
    torch.manual_seed(0)
    settings = model_settings({"name": "man", "se_reduction": 4, "weight_channels": 6})
    block = MultipleAttention(16, settings)
    v, masks = torch.randn(2, 16, 14, 14), torch.rand(2, 8, 14, 14)
    fused, q = block(v, masks)
    assert torch.allclose(q.sum(1), torch.ones(2))
    expected = 0
    ca = block.channel_attention
    for r in range(8):
        part = slice(16 * r, 16 * (r + 1))
        f = F.conv2d(v * masks[:, r, None], block.buffer.weight[part], block.buffer.bias[part])
        few = slice(4 * r, 4 * (r + 1))
        squeezed = F.conv2d(f.mean((2, 3), keepdim=True), ca.squeeze.weight[few], ca.squeeze.bias[few]).relu()
        f = f * F.conv2d(squeezed, ca.excite.weight[part], ca.excite.bias[part]).sigmoid()
        expected = expected + q[:, r, None, None, None] * f
    assert torch.allclose(fused, expected, atol=1e-5)


def test_the_masks_do_not_depend_on_how_pixels_reach_the_network():
    net, other = network("man").eval(), network("man", pixels="imagenet").eval()
    other.rasnet.load_state_dict(net.rasnet.state_dict())
    pixels = torch.rand(2, 1, 3, 224, 224)
    seen = [
        (pixels - torch.tensor(n.input.mean)[:, None, None]) / torch.tensor(n.input.std)[:, None, None]
        for n in (net, other)
    ]
    masks = [n(x).attention["masks"] for n, x in zip((net, other), seen, strict=True)]
    assert torch.allclose(*masks, atol=1e-4)


@pytest.mark.parametrize("head", ["softmax", "sigmoid_l1"])
def test_weights_of_the_eight_regions(head):
    net = network("man", weight_head=head).eval()
    attention = net(views(net)).attention
    assert torch.allclose(attention["regions"].sum(1), torch.ones(2))
    assert attention["masks"].shape == (2, 8, 14, 14)
    assert ((attention["masks"] > 0) & (attention["masks"] < 1)).all()
    crisp = network("man", mask_binarize=True).eval()
    assert set(crisp(views(crisp)).attention["masks"].unique().tolist()) <= {0.0, 1.0}


def test_the_block_lies_between_the_fourth_and_the_fifth():
    net = network("man")
    below = net.backbone.lower(views(net)[:, 0])
    assert below.shape == (2, 8 * 4, 14, 14)
    assert net.backbone.upper(below).shape == (2, 8 * 4, 7, 7)
    assert [k for k in net.backbone.state_dict() if k.endswith("weight")][-1] == "features_.28.weight"
