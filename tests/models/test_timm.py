"""Networks of timm as backbones, trained, evaluated and explained by the real commands, without a download."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import toy
from commands import tell

from fertool import artefact
from fertool.errors import DeviceError
from fertool.models.registry import build_model, model_settings
from fertool.pretrained.initialise import init_weights

timm = pytest.importorskip("timm")

NAME = "mobilenetv3_small_050"
SETS = ["train.model.size=32", "train.global_batch=16", f"train.model.backbone=timm:{NAME}"]


def train(*words, space, ok=True):
    sets = [w for s in SETS for w in ("--set", s)]
    return tell("train", "ran", *sets, *words, "--epochs", 1, "--gpus", 0, space=space, ok=ok)


def network(name: str, size: int = 32):
    torch.manual_seed(0)
    return build_model(model_settings({"name": "ran", "backbone": f"timm:{name}", "size": size}), 3)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timm")
    toy.write_faces(folder / "toy")
    tell("crop-regions", space=folder)
    train(space=folder)
    return folder


def test_a_run_holds_it_and_its_version(space):
    run = artefact.read(space / "toy/runs/ran-1/run.h5", "run")
    assert run.params["model"]["backbone"] == f"timm:{NAME}"
    assert run.info["versions"]["timm"] == timm.__version__
    assert "weights/last/backbone.net.conv_stem.weight" in run


def test_it_is_evaluated_and_explained(space):
    assert tell("eval", space=space)["runs"]["ran-1"]["subsets"]["all"]["n_total"] == 24
    files = tell("visualize", "gradcam", "--faces", 2, "--dpi", 40, space=space)["files"]
    maps = artefact.read(files[-1], "figures").group("gradcam")
    assert all(np.isfinite(values).all() for name, values in maps.items() if values.dtype.kind == "f")


def test_resume_goes_on_where_it_stopped(space):
    train("--out", space / "toy/runs/long", space=space)
    again = train("--out", space / "toy/runs/long", "--resume", space=space)
    assert again["finished"]


@pytest.mark.parametrize(("name", "size", "features"), [("resnet10t", 32, 512), ("vit_tiny_patch16_224", 32, 192)])
def test_vector_is_what_timm_gives_before_its_classifier(name, size, features):
    net = network(name, size).eval()
    assert net.backbone.features == features
    assert net.backbone.net.training is False
    with torch.no_grad():
        assert net.backbone(torch.rand(2, 3, size, size)).shape == (2, features)
    assert bool(net.cam_layer.removeprefix("backbone.")) == (name == "resnet10t")  # tokens are no maps


def test_weights_of_timm_fill_it_from_a_file(tmp_path):
    source = timm.create_model(NAME, pretrained=False)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    net = network(NAME)
    match = init_weights(net, str(tmp_path / "w.pth"))
    assert match.matched == match.expected
    assert match.unused == ()
    assert torch.equal(net.backbone.net.conv_stem.weight, source.conv_stem.weight)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DeviceError, match="tensors filled"):
        init_weights(network(NAME), str(tmp_path / "w.pth"))


def test_pretrained_weights_without_a_connection_are_one_clear_error(space, tmp_path):
    """In a process of its own: the hub's client reads its cache and whether it is offline when it is imported."""
    words = ["train", "ran", "--init", "timm", "--gpus", "0", "--workspace", str(space)]
    words += [w for s in SETS for w in ("--set", s)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "fertool", *words], capture_output=True, text=True, env=env)
    assert done.returncode == 5, done.stderr
    assert f"error: the weights of timm:{NAME} could not be downloaded" in done.stderr
    assert "--init" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("backbone", "error", "hint"),
    [
        (f"timm:{NAME}0", f"has no network '{NAME}0'", f"did you mean '{NAME}'?"),
        ("timm:nonsense", "has no network 'nonsense'", "timm.list_models()"),
        ("timm:vit_tiny_patch16_224", "takes no images of 8 × 8 pixels", "--set train.model.size=224"),
        ("resnet19", "there is no backbone 'resnet19'", "did you mean 'resnet18'?"),
    ],
)
def test_what_cannot_be_a_backbone(space, backbone, error, hint):
    words = ("--set", f"train.model.backbone={backbone}", "--set", "train.model.size=8")
    refused = train(*words, space=space, ok=False)
    assert error in refused["error"]
    assert hint in refused["hint"]


def test_timm_weights_are_for_timm_backbones(space):
    refused = train("--set", "train.model.backbone=tiny", "--init", "timm", space=space, ok=False)
    assert "--init timm fills a backbone timm:NAME" in refused["error"]
