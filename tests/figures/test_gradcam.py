"""Grad-CAM against numbers worked out by hand, on networks small enough for it."""

import numpy as np
import pytest
import torch
from torch import nn

from fertool.backbones.base import InputSpec
from fertool.errors import UsageError
from fertool.models.base import FerModel, Output
from fertool.models.lnlattennet import LnlAttenNet, LnlSettings
from fertool.models.man import Man, ManSettings
from fertool.models.ran import Ran, RanSettings
from fertool.models.va_cnn import VaCnn, VaCnnSettings
from fertool.models.ws_lgrn import WsLgrn, WsLgrnSettings
from fertool.training.gradcam import explain, lay_back

WHOLE = torch.tensor([[[0.0, 0, 1, 1]]])


class Small(FerModel):
    """A 1×1 convolution with an overwriting ReLU, another ReLU, and sums: gradients can be written down."""

    input = InputSpec((4, 4), 1)
    cam_layer = "conv"

    def __init__(self, first=(1.0, -1.0), second=(2.0, -3.0)):
        super().__init__()
        self.conv, self.relu, self.after = nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.ReLU()
        self.weight = nn.Parameter(torch.tensor([second, (0.0, 1.0)]))
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(first).view(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 0.5]))

    def forward(self, views):
        x = self.relu(self.conv(views[:, 0]))
        return Output(self.after(x).sum(dim=(2, 3)) @ self.weight.T)


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 4, 4), dtype="u1"))


def test_grad_cam_is_what_it_says(images):
    net = Small()
    cam = explain(net, images, WHOLE.repeat(2, 1, 1), torch.tensor([0, 0])).cam
    x = images[:, 0].double() / 255
    maps = torch.stack([x, 0.5 - x], dim=1)  # the convolution's output, before the ReLU
    gradient = torch.stack([2.0 * (maps[:, 0] > 0), -3.0 * (maps[:, 1] > 0)], dim=1)
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    expected = (alpha * maps).sum(1).relu()
    assert torch.allclose(cam.double(), expected, atol=1e-6)


def test_guided_gradients_pass_only_what_is_positive(images):
    net = Small()
    found = explain(net, images, WHOLE.repeat(2, 1, 1), torch.tensor([0, 0]))
    x = images.double() / 255
    # the second channel's gradient is negative at its ReLU: nothing of it comes back
    assert torch.allclose(found.gradient.double(), (2.0 * (x > 0) / 255).double(), atol=1e-9)
    assert (
        explain(Small(second=(-2.0, -3.0)), images, WHOLE.repeat(2, 1, 1), torch.tensor([0, 0])).gradient == 0
    ).all()
    assert torch.allclose(found.guided, found.gradient * found.cam[:, None])


def test_the_class_decides_and_the_predicted_one_is_the_default(images):
    net, boxes = Small(), WHOLE.repeat(2, 1, 1)
    of = {k: explain(net, images, boxes, torch.full((2,), k)).cam for k in (0, 1)}
    assert not torch.allclose(of[0], of[1])
    said = explain(net, images, boxes, None)
    assert torch.equal(said.cam, torch.stack([of[int(k)][i] for i, k in enumerate(said.logits.argmax(1))]))


def test_a_network_is_left_as_it_was(images):
    net = Small()
    before = net(images[:, None].float()).logits
    explain(net, images, WHOLE.repeat(2, 1, 1), None)
    assert net.relu.inplace
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(net(images[:, None].float()).logits, before)
    assert all(p.grad is None for p in net.parameters())


def test_layers_that_have_no_maps_are_refused(images):
    with pytest.raises(UsageError, match="no layer 'convv'") as e:
        explain(Small(), images, WHOLE.repeat(2, 1, 1), None, "convv")
    assert "conv" in e.value.hint
    net = Man(ManSettings(block="none", channels=4, pixels="imagenet"), 3)
    with pytest.raises(UsageError, match="no maps of the face"):
        explain(net, images, WHOLE.repeat(2, 1, 1), None, "fc6")


def test_maps_lie_where_their_views_were_cut_out():
    maps = torch.ones(1, 2, 3, 3)
    maps[:, 1] = 2
    boxes = torch.tensor([[[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]]])
    laid = lay_back(maps, boxes, (8, 8))[0]
    assert laid[:2, :4].tolist() == [[1.0] * 4] * 2
    assert laid[2:4, 2:4].tolist() == [[3.0] * 2] * 2, "where two views overlap, both count"
    assert laid[4:, 4:].tolist() == [[2.0] * 4] * 4
    assert laid[6, 0] == laid[0, 6] == 0


@pytest.mark.parametrize(
    ("net", "channels"),
    [
        (lambda: Ran(RanSettings(backbone="tiny", size=32), 3, 6), 3),
        (lambda: Ran(RanSettings(backbone="resnet18", size=64, fusion="none"), 3, 1), 3),
        (lambda: Man(ManSettings(channels=4, pixels="imagenet", pretrained_part={"channels": 4}), 3), 3),
        (lambda: Man(ManSettings(channels=4, pixels="imagenet", block="se"), 3), 3),
        (lambda: VaCnn(VaCnnSettings(width=32, height=48, crop=False), 3), 1),
        (lambda: VaCnn(VaCnnSettings(width=32, height=48, crop=False, attention="none"), 3), 1),
        (lambda: LnlAttenNet(LnlSettings(channels=4, size=64, initialisation="he"), 3), 3),
        (
            lambda: WsLgrn(
                WsLgrnSettings(blocks=(1, 1, 1), growth=4, stem=8, pretrained_part={"blocks": (1, 1, 1), "growth": 4}),
                3,
            ),
            1,
        ),
        (
            lambda: WsLgrn(
                WsLgrnSettings(blocks=(1, 1, 1), growth=4, stem=8, use_global=False, pretrained_part={"growth": 4}), 3
            ),
            1,
        ),
    ],
    ids=["ran", "resnet", "man", "vgg-se", "va-cnn", "baseline", "lnl", "ws-lgrn", "lfnet"],
)
def test_every_network_names_its_last_maps(net, channels):
    torch.manual_seed(0)
    net = net()
    regions = 6 if getattr(net, "needs", ()) == ("regions",) else 1
    boxes = torch.tensor([[0.0, 0, 1, 1]] + [[0.1, 0.1, 0.9, 0.9]] * (regions - 1))[None].repeat(2, 1, 1)
    faces = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, channels, 40, 40), dtype="u1"))
    found = explain(net, faces, boxes, None)
    assert found.cam.shape == (2, 40, 40)
    assert found.gradient.shape == faces.shape
    assert (found.cam >= 0).all()
    assert found.gradient.abs().amax() > 0
    assert found.cam.isfinite().all()
