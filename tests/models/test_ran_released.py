"""RAN as its authors released it, against a small reference of that network's forward, written from its description."""

import pytest
import torch
import toy
from torch import nn
from torchvision.models import resnet18

from fertool import recipe as recipes
from fertool.models.base import Targets
from fertool.models.registry import build_model, model_settings
from fertool.pretrained.initialise import init_weights

SIDE, FACES, CROPS, CLASSES = 64, 5, 6, 8


class Released(nn.Module):
    """A ResNet-18 that goes over crops (N, 3, S, S, K), the whole face last: sigmoids, then softmax over crops."""

    def __init__(self, classes: int = CLASSES):
        super().__init__()
        for name, child in list(resnet18(weights=None).named_children())[:-1]:
            setattr(self, name, child)
        self.alpha = nn.Sequential(nn.Linear(512, 1), nn.Sigmoid())
        self.beta = nn.Sequential(nn.Linear(1024, 1), nn.Sigmoid())
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        features, alphas = [], []
        for i in range(x.shape[4]):
            f = self.maxpool(self.relu(self.bn1(self.conv1(x[..., i]))))
            f = self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(f))))).flatten(1)
            features.append(f)
            alphas.append(self.alpha(f))
        a = torch.cat(alphas, 1).softmax(1)
        fused = sum(a[:, i : i + 1] * f for i, f in enumerate(features)) / a.sum(1, keepdim=True)
        pairs = [torch.cat([f, fused], 1) for f in features]
        b = torch.cat([self.beta(p) for p in pairs], 1).softmax(1)
        out = sum(a[:, i : i + 1] * b[:, i : i + 1] * p for i, p in enumerate(pairs)) / (a * b).sum(1, keepdim=True)
        return self.fc(out), a

    @staticmethod
    def loss(logits, a, labels, margin):
        ranked = [max(0.0, margin - (max(row[:-1]) - row[-1])) for row in a.tolist()]
        return nn.functional.cross_entropy(logits, labels).item() + sum(ranked) / len(ranked)


@pytest.fixture(scope="module")
def released() -> Released:
    """Generated weights, with batch statistics that are not those of a fresh network."""
    torch.manual_seed(3)
    net = Released()
    for p in net.parameters():
        if p.dim() == 1:
            nn.init.uniform_(p, 0.5, 1.5)
    for name, b in net.named_buffers():
        if "running" in name:
            b.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def file(released, tmp_path_factory):
    """As their code saves it: from nn.DataParallel, beside other things."""
    path = tmp_path_factory.mktemp("released") / "model_best.pth.tar"
    torch.save({"epoch": 7, "state_dict": {f"module.{k}": v for k, v in released.state_dict().items()}}, path)
    return path


def ours(file=None, classes=CLASSES, **changes):
    asked = recipes.load("ran-ferplus-as-released").settings("train").model | {"size": SIDE} | changes
    net = build_model(model_settings(asked), classes, CROPS)
    match = init_weights(net, str(file)) if file else None
    return net, match


def pictures() -> torch.Tensor:
    """Regions (N, K, 3, S, S) from 0 to 1, the whole face first."""
    return torch.rand(FACES, CROPS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def theirs(views: torch.Tensor) -> torch.Tensor:
    """The same as the released code has them: crops in the last axis, the whole face the last of them."""
    return torch.cat([views[:, 1:], views[:, :1]], 1).permute(0, 2, 3, 4, 1)


@torch.no_grad()
def test_logits_and_attention_are_those_of_the_released_network(released, file):
    net, match = ours(file)
    assert (match.missing, match.unused) == ((), ())
    logits, a = released.eval()(theirs(pictures()))
    output = net.eval()(pictures())
    assert torch.allclose(output.logits, logits, atol=1e-5)
    assert torch.allclose(output.attention["mu"], a[:, [-1, *range(CROPS - 1)]], atol=1e-6)


@torch.no_grad()
def test_training_takes_the_statistics_of_every_region_by_itself(released, file):
    before = {k: v.clone() for k, v in released.state_dict().items()}
    net, _ = ours(file)
    labels = torch.arange(FACES)
    logits, a = released.train()(theirs(pictures()))
    output = net.train()(pictures())
    assert torch.allclose(output.logits, logits, atol=1e-4)
    loss = sum(net.losses(output, Targets(labels)).values()).item()
    assert loss == pytest.approx(Released.loss(logits, a, labels, margin=0.1), rel=1e-4)
    after = {k: v.clone() for k, v in released.state_dict().items()}
    released.load_state_dict(before)
    mine = net.backbone.state_dict()
    for name in mine:
        assert torch.allclose(mine[name].float(), after[name].float(), rtol=1e-4, atol=1e-5), name
    shared, _ = ours(file, batch_stats="shared")
    assert not torch.allclose(shared.train()(pictures()).logits, logits, atol=1e-3)


@torch.no_grad()
def test_pixels_are_taken_as_they_are(file):
    net, _ = ours(file)
    assert (net.input.mean, net.input.std, net.input.channels) == ((0.0,) * 3, (1.0,) * 3, 3)


def test_another_number_of_classes_keeps_all_but_the_head(released, file):
    net, match = ours(file, classes=7)
    assert match.missing == ("classifier.weight", "classifier.bias")
    assert torch.equal(net.q1.weight, released.beta[0].weight)


def test_the_papers_network_says_what_it_lacks(file):
    _, match = ours(file, attn_bias=False)
    assert match.unused == ("q0.bias", "q1.bias")


def test_face_recognition_weights_fill_the_backbone_alone(released, tmp_path):
    """A trunk with a classifier of its own is no checkpoint of RAN."""
    tensors = {k: v for k, v in released.state_dict().items() if not k.startswith(("alpha", "beta", "fc"))}
    torch.save(tensors | {"fc.weight": torch.zeros(99, 512), "fc.bias": torch.zeros(99)}, tmp_path / "ijba.pth")
    net, _ = ours()
    fresh = net.q0.weight.clone()
    match = init_weights(net, str(tmp_path / "ijba.pth"))
    assert (match.missing, match.unused) == ((), ())
    assert torch.equal(net.q0.weight, fresh)
    assert torch.equal(net.backbone.conv1.weight, released.conv1.weight)


def test_a_checkpoint_is_gone_on_from(tmp_path):
    """Through the stage: with a learning rate of nearly 0 the run holds the weights of the checkpoint."""
    faces = toy.write_all(tmp_path / "toy", train=8, test=4)
    torch.manual_seed(0)
    released = Released(classes=3)
    torch.save(released.state_dict(), tmp_path / "net.pth")
    model = recipes.load("ran-ferplus-as-released").settings("train").model | {"size": 32}
    run = toy.train_toy(
        faces, model=model, init=str(tmp_path / "net.pth"), lr=1e-12, epochs=1, global_batch=4, weight_decay=0.0
    )
    made = toy.weights(run)
    for own, name in (("q0.weight", "alpha.0.weight"), ("q1.bias", "beta.0.bias"), ("classifier.weight", "fc.weight")):
        assert torch.allclose(torch.from_numpy(made[own]), released.state_dict()[name], atol=1e-6)


def test_the_released_settings():
    """Their defaults for FERPlus, and for AffectNet without and with oversampling."""
    names = ("ran-ferplus-as-released", "ran-affectnet-as-released", "ran-affectnet-oversampled-as-released")
    each = [recipes.load(n).settings("train") for n in names]
    models = [model_settings(s.model) for s in each]
    assert [m.rank_margin for m in models] == [0.1, 0.03, 0.02]
    shared = {(m.attn_norm, m.attn_bias, m.pixels, m.batch_stats, m.rank_weight) for m in models}
    assert shared == {("softmax", True, "unit", "region", 1.0)}
    assert [(s.lr, s.lr_milestones, s.epochs) for s in each] == [
        (0.1, (18, 30, 48), 60), (0.01, (12, 20, 32), 40), (0.015, (6, 10, 16), 20),
    ]  # fmt: skip
    assert [(s.global_batch, s.oversample) for s in each] == [(128, False), (256, False), (256, True)]
    assert {(s.flip, s.momentum, s.weight_decay) for s in each} == {(0, 0.9, 1e-4)}
