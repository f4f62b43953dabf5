"""Starting weights: from files of every usual shape, by name, with a report; nothing in them is ever run."""

import os
import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch

from fertool import artefact
from fertool.errors import ArtefactError, DeviceError
from fertool.models.backbones import BACKBONES
from fertool.models.registry import build_model, model_settings
from fertool.models.weights import _trunk_name, init_weights, read_tensors


def tiny(seed: int = 0):
    torch.manual_seed(seed)
    return build_model(model_settings({"name": "ran", "backbone": "tiny", "size": 32}), 3)


@pytest.fixture(scope="module")
def trunk() -> dict[str, torch.Tensor]:
    """What a file holds: the trunk of another network than the one that is filled."""
    return tiny(seed=1).backbone.state_dict()


def filled(net, trunk) -> bool:
    return all(torch.equal(v, trunk[k]) for k, v in net.backbone.state_dict().items())


def prefixed(tensors: dict, prefix: str) -> dict:
    return {prefix + k: v for k, v in tensors.items()}


# ------------------------------------------------------------------------------------------ files that fit


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.model.backbone.", "net.encoder."])
@pytest.mark.parametrize("nested", ["", "state_dict", "model", "model_state_dict"])
def test_checkpoints_of_all_kinds(tmp_path, trunk, prefix, nested):
    saved = prefixed(trunk, prefix)
    torch.save({nested: saved, "epoch": 3} if nested else saved, tmp_path / "w.pth")
    net = tiny()
    match = init_weights(net, str(tmp_path / "w.pth"))
    assert filled(net, trunk)
    assert (match.matched, match.expected, match.missing, match.unused) == (len(trunk), len(trunk), (), ())
    assert f"{len(trunk)} of {len(trunk)} tensors filled" in str(match)


def test_safetensors(tmp_path, trunk):
    from safetensors.torch import save_file

    save_file(prefixed(trunk, "module."), tmp_path / "w.safetensors")
    net = tiny()
    assert init_weights(net, str(tmp_path / "w.safetensors")).matched == len(trunk)
    assert filled(net, trunk)


@pytest.mark.parametrize(("select_on", "which"), [("last", "last"), ("val", "best"), ("test", "best")])
def test_a_run_gives_the_weights_it_selected(tmp_path, trunk, select_on, which):
    other = {k: torch.zeros_like(v) for k, v in trunk.items()}
    arrays = {
        f"weights/{w}/backbone.{k}": v.numpy()
        for w in ("last", "best")
        for k, v in (trunk if w == which else other).items()
    }
    arrays[f"weights/{which}/q0.weight"] = np.ones((1, 128), "f4")
    artefact.save(tmp_path / "run.h5", "run", arrays, params={"train": {"select_on": select_on}})
    net = tiny()
    match = init_weights(net, str(tmp_path / "run.h5"))
    assert filled(net, trunk)
    assert match.unused == ("q0.weight",)


def test_the_head_stays_fresh(tmp_path, trunk):
    head = {"classifier.weight": torch.ones(3, 256), "fc.weight": torch.ones(1000, 128)}
    torch.save({**prefixed(trunk, "backbone."), **head}, tmp_path / "w.pth")
    net, before = tiny(), tiny()
    match = init_weights(net, str(tmp_path / "w.pth"))
    for name in ("classifier", "q0", "q1"):
        assert torch.equal(getattr(net, name).weight, getattr(before, name).weight)
    assert match.unused == (), "heads of other tasks are nobody's loss"


def test_none_leaves_everything_as_it_is():
    net = tiny()
    assert init_weights(net, "none") is None
    assert filled(net, tiny().backbone.state_dict())


def test_what_does_not_fit_is_reported_and_left_fresh(tmp_path, trunk):
    first, *rest = trunk
    changed = {k: trunk[k] for k in rest} | {first: torch.ones(16, 1, 3, 3), "blocks.99.weight": torch.ones(2)}
    torch.save(changed, tmp_path / "w.pth")
    net = tiny()
    match = init_weights(net, str(tmp_path / "w.pth"))
    assert match.matched == len(trunk) - 1
    assert match.missing == (first,)
    assert set(match.unused) == {first, "blocks.99.weight"}
    assert f"fresh: {first}" in str(match)
    assert "blocks.99.weight" in str(match)
    assert torch.equal(net.backbone.state_dict()[first], tiny().backbone.state_dict()[first])


# --------------------------------------------------------------------------------------- networks by their names


def own_names(trunk: str) -> list[str]:
    with torch.device("meta"):
        return list(BACKBONES[trunk]().state_dict())


def test_vgg_face_as_converted_from_caffe():
    """Its layers are counted by block, torchvision's all through."""
    layers = [f"conv{block}_{i}" for block, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, n + 1)]
    given = [f"{layer}.{kind}" for layer in (*layers, "fc6") for kind in ("weight", "bias")]
    assert [_trunk_name(name, "vgg16") for name in given] == own_names("vgg16")


@pytest.mark.parametrize(("name", "head"), [("resnet18", ("fc.",)), ("vgg16", ("classifier.3.", "classifier.6."))])
def test_torchvisions_own_weights(name, head):
    import torchvision.models

    with torch.device("meta"):
        given = getattr(torchvision.models, name)().state_dict()
    named = [_trunk_name("module." + k, name) for k in given if not k.startswith(head)]
    assert named == own_names(name)


def test_imagenet_has_no_tiny_trunk():
    with pytest.raises(DeviceError, match="no ImageNet weights for Tiny") as e:
        init_weights(tiny(), "imagenet")
    assert "--init none" in e.value.hint


# ------------------------------------------------------------------------------------------ files that are refused


class Payload:
    """Pickled, this makes a folder when it is loaded the careless way."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"state_dict": p}, lambda p: {"a": torch.ones(2), "b": p}])
@pytest.mark.parametrize("save", [torch.save, lambda o, path: path.write_bytes(pickle.dumps(o))])
def test_a_payload_is_refused_and_never_run(tmp_path, recwarn, wrap, save):
    harmed = tmp_path / "harmed"
    save(wrap(Payload(harmed)), tmp_path / "w.pth")
    with pytest.raises(DeviceError, match=r"w\.pth .*never unpickled") as e:
        read_tensors(tmp_path / "w.pth")
    assert "state_dict alone" in e.value.hint
    assert not harmed.exists()
    assert len(recwarn) == 0
    with suppress(RuntimeError):  # no checkpoint, says torch, after it has been run
        torch.load(tmp_path / "w.pth", weights_only=False)
    assert harmed.exists(), "the payload itself works"


def test_a_whole_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(DeviceError, match="never unpickled"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("w.pth", b"", "no PyTorch file"),
        ("w.pth", b"hello", "no PyTorch file"),
        ("w.safetensors", b"", "no safetensors file"),
        ("w.safetensors", b"hello hello hello", "no safetensors file"),
    ],
)
def test_what_is_no_weights_file(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DeviceError, match=says) as e:
        read_tensors(tmp_path / name)
    assert "\n" not in e.value.message
    assert e.value.hint


def test_a_file_without_tensors(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "w.pth")
    with pytest.raises(DeviceError, match="holds no tensors"):
        read_tensors(tmp_path / "w.pth")
    with pytest.raises(DeviceError, match="there is no weights file") as e:
        read_tensors(tmp_path / "none.pth")
    assert "run.h5" in e.value.hint


def test_another_artefact_is_no_run(tmp_path):
    artefact.save(tmp_path / "s.h5", "subsets", {"id": np.array(["a"])}, params={})
    with pytest.raises(ArtefactError, match="'run' is needed"):
        read_tensors(tmp_path / "s.h5")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(prefixed(torch.nn.Linear(3, 3).state_dict(), "layer."), tmp_path / "w.pth")
    net = tiny()
    with pytest.raises(DeviceError, match="0 of 30 tensors filled") as e:
        init_weights(net, str(tmp_path / "w.pth"))
    assert "another network" in e.value.hint
    assert filled(net, tiny().backbone.state_dict())
