"""The linear probe: frozen layers, one trained layer, by the ordinary commands."""

import numpy as np
import torch
import toy

from fertool import artefact
from fertool.backbones import dlib_resnet
from fertool.models.registry import build_model, model_settings


def test_only_the_classifier_is_trained(tmp_path):
    faces = toy.write_faces(tmp_path / "toy", train=24, test=12)
    run = toy.train_toy(faces, epochs=3, model={"name": "probe"}, init="dlib", lr=0.003, weight_decay=1.0)
    weights = toy.weights(run)
    for name, tensor in dlib_resnet.tensors(dlib_resnet.weights_file()).items():
        assert np.array_equal(weights[f"backbone.{name}"], tensor.numpy()), name
    assert np.abs(weights["classifier.weight"]).max() > 0
    assert np.abs(weights["scale.running_mean"]).max() > 0
    assert artefact.read(run.path, "run").parent("init").name == dlib_resnet.FILE


def test_logits_are_linear_in_the_standardised_features_of_two_depths():
    net = build_model(model_settings({"name": "probe", "size": 96}), 7).eval()
    torch.nn.init.normal_(net.classifier.weight)
    views = torch.randn(2, 1, 3, 96, 96)
    maps = {}
    for depth in (6, 9):
        net.backbone.blocks[depth].register_forward_hook(lambda _, __, out, d=depth: maps.update({d: out}))
    with torch.inference_mode():
        logits = net(views).logits
        pooled = torch.cat([torch.nn.functional.adaptive_avg_pool2d(maps[d], 4).flatten(1) for d in (6, 9)], 1)
        expected = (pooled / (1 + net.scale.eps) ** 0.5) @ net.classifier.weight.T
    assert [tuple(maps[d].shape[1:2]) for d in (6, 9)] == [(64,), (128,)]
    assert torch.allclose(logits, expected, atol=1e-4)
    assert not any(p.requires_grad for p in net.backbone.parameters())
