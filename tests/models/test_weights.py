"""Starting weights: from files of every usual shape, by name, with a report; nothing in them is ever run."""

import gzip
import io
import os
import pickle
import re
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import safetensors.torch
import torch

from fertool import artefact
from fertool.backbones.registry import BACKBONES, VggBlocks
from fertool.errors import ArtefactError, DeviceError, NotFiniteError
from fertool.models.registry import build_model, model_settings
from fertool.pretrained.files import read_tensors
from fertool.pretrained.initialise import _as_own, _fill, init_weights


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


PREFIXES = (
    "", "module.", "backbone.", "module.model.backbone.", "net.encoder.", "_orig_mod.", "_orig_mod.module.", "resnet.",
    "ema.", "module.encoder_q.", "anything.at.all.",
)  # fmt: skip
NESTED = ("", "state_dict", "model", "model_state_dict", "ema", "params", "module", "state_dict_ema")


@pytest.mark.parametrize(("prefix", "nested"), [*((p, "") for p in PREFIXES), *(("module.", n) for n in NESTED)])
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


def test_what_is_missing_or_beside_the_trunk_is_reported_and_left_fresh(tmp_path, trunk):
    first, *rest = trunk
    changed = {k: trunk[k] for k in rest} | {"neck.weight": torch.ones(2), "blocks.0.total_ops": torch.ones(1)}
    torch.save(changed, tmp_path / "w.pth")
    net = tiny()
    match = init_weights(net, str(tmp_path / "w.pth"))
    assert match.matched == len(trunk) - 1
    assert match.missing == (first,)
    assert set(match.unused) == {"neck.weight", "blocks.0.total_ops"}
    assert f"fresh: {first}" in str(match)
    assert "neck.weight" in str(match)
    assert torch.equal(net.backbone.state_dict()[first], tiny().backbone.state_dict()[first])


# --------------------------------------------------------------------------------------- networks by their names


def own_tensors(trunk: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return BACKBONES[trunk]().state_dict()


def test_vgg_face_as_converted_from_caffe():
    """Its layers are counted by block, torchvision's all through."""
    layers = [f"conv{block}_{i}" for block, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, n + 1)]
    own = own_tensors("vgg16")
    named = [f"{layer}.{kind}" for layer in (*layers, "fc6") for kind in ("weight", "bias")]
    given = dict(zip(named, own.values(), strict=True))
    for prefix in ("", "model."):
        assert list(_as_own(own, prefixed(given, prefix), "vgg16")) == list(own)


@pytest.mark.parametrize(("name", "head"), [("resnet18", ("fc.",)), ("vgg16", ("classifier.3.", "classifier.6."))])
def test_torchvisions_own_weights(name, head):
    import torchvision.models

    with torch.device("meta"):
        given = getattr(torchvision.models, name)().state_dict()
    named = _as_own(own_tensors(name), prefixed(given, "module."), name)
    assert {k for k in named if not k.startswith(head)} == set(own_tensors(name))


def test_a_resnet_in_a_sequential():
    import torchvision.models

    with torch.device("meta"):
        given = torch.nn.Sequential(*torchvision.models.resnet18().children()).state_dict()
    named = _as_own(own_tensors("resnet18"), prefixed(given, "features."), "resnet18")
    assert set(own_tensors("resnet18")) <= set(named)


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
    assert "state_dict" in e.value.hint
    assert not harmed.exists()
    assert len(recwarn) == 0
    with suppress(RuntimeError):  # no checkpoint, says torch, after it has been run
        torch.load(tmp_path / "w.pth", weights_only=False)
    assert harmed.exists(), "the payload itself works"


def test_a_whole_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(DeviceError, match="never unpickled"):
        read_tensors(tmp_path / "w.pth")


def saved(thing, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(thing, stream, **options)
    return stream.getvalue()


def archive(compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(f"w/{name.replace('_', '.')}", content)
    return stream.getvalue()


def flipped(content: bytes) -> bytes:
    """With one bit changed in the middle of the tensor."""
    at = content.index(b"ABCDEFGH")
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


LINEAR = torch.nn.Linear(64, 64)
TENSORS = {"a": torch.frombuffer(bytearray(b"ABCDEFGH" * 4096), dtype=torch.float32)}
OTHER_FILES = {
    "nothing": (b"", "is empty", "download"),
    "a web page": (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning", "is a web page", "browser"),
    "a web page without a doctype": (b"<html lang=en>", "is a web page", "browser"),
    "an error of a server": (b'{"error": "Access to model is restricted"}', "is JSON text", "download"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer", "lfs pull"),
    "half a checkpoint": (saved(TENSORS)[:9000], "not all there", "download"),
    "almost a checkpoint": (saved(TENSORS)[:-9], "not all there", "download"),
    "half an old checkpoint": (
        saved(TENSORS, _use_new_zipfile_serialization=False)[:9000], "not all there", "download"),
    "half a safetensors file": (safetensors.torch.save(TENSORS)[:9000], "not all there", "download"),
    "the header of a safetensors file": (safetensors.torch.save(TENSORS)[:20], "not all there", "download"),
    "a damaged checkpoint": (flipped(saved(TENSORS)), "is damaged", "download"),
    "a pickled network": (saved(LINEAR), r"Python objects \(torch\.nn\.modules\.linear\.Linear\)", "state_dict"),
    "an old pickled network": (
        saved(LINEAR, _use_new_zipfile_serialization=False), r"Python objects \(torch\.nn", "state_dict"),
    "pickled lists": (pickle.dumps([1]), "pickled Python objects", "state_dict"),
    "a TorchScript program": (archive(data_pkl=b"", constants_pkl=b""), "TorchScript", "state_dict"),
    "a ZIP archive": (archive(readme_txt=b"hello"), "is a ZIP archive", "unpack"),
    "a gzip archive": (gzip.compress(b"hello"), "is a compressed archive", "unpack"),
    "a compressed checkpoint": (archive(zipfile.ZIP_DEFLATED, data_pkl=b"0" * 999), "is compressed", "state_dict"),
    "a huge tensor": (saved({"a": torch.zeros(1).expand(10**12)}), "more than the file holds", "download"),
    "a tensor without values": (saved({"a": torch.empty(3, device="meta")}), "no dense tensor", "state_dict"),
    "text": (b"hello hello hello", "is no (PyTorch|safetensors) file", r"\.pth"),
    "a bad value": (saved({"a": torch.tensor([1.0, float("inf")])}), "NaN or infinite: a", "--lr"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_what_lies_in_the_place_of_weights_is_told_apart(tmp_path, kind, ending):
    content, says, hint = OTHER_FILES[kind]
    file = tmp_path / f"w.{ending}"
    file.write_bytes(content)
    with pytest.raises((DeviceError, NotFiniteError), match=says) as e:
        read_tensors(file)
    assert str(file) in e.value.message
    assert "\n" not in e.value.message
    assert re.search(hint, e.value.hint)


def test_what_a_file_is_does_not_depend_on_its_name(tmp_path):
    for name, content in {"a.bin": safetensors.torch.save(TENSORS), "b.safetensors": saved(TENSORS)}.items():
        (tmp_path / name).write_bytes(content)
        assert torch.equal(read_tensors(tmp_path / name)["a"], TENSORS["a"])


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


def resnet(depth: int) -> dict[str, torch.Tensor]:
    """Tensors as torchvision names and shapes them, without memory of their own."""
    import torchvision.models

    with torch.device("meta"):
        tensors = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    return {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in tensors.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize(
    ("depth", "says"),
    [
        (34, "layers that the network lacks: layer1.2.conv1.weight"),
        (50, "layer1.0.conv1.weight has the shape 64×64×1×1 there and 64×64×3×3 here"),
    ],
)
def test_a_deeper_network_of_the_same_names_is_refused(depth, says, prefix):
    net = BACKBONES["resnet18"]()
    own = net.state_dict()
    tensors = _as_own(own, prefixed(resnet(depth), prefix), "resnet18")
    with pytest.raises(DeviceError, match=re.escape(says)) as e:
        _fill(net, tensors, "w.pth", skip=("fc.",))
    assert "another network" in e.value.hint
    assert _fill(net, _as_own(own, prefixed(resnet(18), prefix), "resnet18"), "w.pth", skip=("fc.",)).unused == ()


def sequential(depth: int) -> dict[str, torch.Tensor]:
    """Tensors of a ResNet as nn.Sequential names them."""
    children = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
    split = ((*k.partition("."), v) for k, v in resnet(depth).items())
    return {f"{children.index(child)}.{rest}": v for child, _, rest, v in split}


def caffe_vgg(*convolutions: int) -> dict[str, torch.Tensor]:
    """Tensors of a VGG as converted from Caffe, with so many convolutions in its blocks."""
    tensors, before = {}, 3
    for block, (wide, n) in enumerate(zip((64, 128, 256, 512, 512), convolutions, strict=True), 1):
        for i in range(1, n + 1):
            tensors[f"conv{block}_{i}.weight"] = torch.zeros(()).expand(wide, before, 3, 3)
            tensors[f"conv{block}_{i}.bias"], before = torch.zeros(()).expand(wide), wide
    return tensors


@pytest.mark.parametrize(
    ("layout", "right", "deeper", "says"),
    [
        ("resnet18", sequential(18), sequential(34), "layer1.2.conv1.weight"),
        ("vgg16", caffe_vgg(2, 2, 3, 3, 3), caffe_vgg(2, 2, 4, 4, 4), "features_.conv3_4.weight"),
    ],
    ids=["ResNet-34 in a Sequential", "VGG-19 from Caffe"],
)
def test_a_deeper_network_under_names_of_others_is_refused(layout, right, deeper, says):
    """All tensors of the shallower network are among those of the deeper one, and of the same shapes."""
    with torch.device("meta"):
        net = BACKBONES["resnet18"]() if layout == "resnet18" else VggBlocks()
    own = net.state_dict()
    assert set(own) <= set(_as_own(own, right, layout))
    with pytest.raises(DeviceError, match=re.escape(f"layers that the network lacks: {says}")):
        _fill(net, _as_own(own, deeper, layout), "w.pth", skip=("fc.", "9."))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.ones(16, 1, 3, 3), "has the shape 16×1×3×3 there and 16×3×3×3 here"),
        (torch.ones(16, 3, 3, 3, dtype=torch.int64), "of whole numbers there"),
        (torch.full((16, 3, 3, 3), 1e300, dtype=torch.float64), "NaN or infinite: blocks.0.weight"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, trunk, value, says):
    torch.save(trunk | {"blocks.0.weight": value}, tmp_path / "w.pth")
    net = tiny()
    with pytest.raises((DeviceError, NotFiniteError), match=says):
        init_weights(net, str(tmp_path / "w.pth"))
    assert filled(net, tiny().backbone.state_dict())
