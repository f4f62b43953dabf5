"""Initial weights: from a file of the user's, from ImageNet, from dlib, or none. Nothing is ever unpickled."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fertool import artefact
from fertool.errors import DeviceError
from fertool.models import dlib_dat, dlib_resnet
from fertool.models.base import FerModel

#: prefixes that training code of all kinds puts before a trunk's parameter names
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "net.", "features_extractor.")

#: VGG-Face as converted from Caffe names its layers; torchvision numbers them
_VGG_FACE = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip


@dataclass(frozen=True)
class Match:
    """What a weights file filled in a network."""

    source: str
    matched: int
    expected: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.source}: {self.matched} of {self.expected} tensors filled"
        if self.missing:
            text += f"; fresh: {', '.join(self.missing[:4])}{' …' if len(self.missing) > 4 else ''}"
        if self.unused:
            text += f"; not used: {', '.join(self.unused[:4])}{' …' if len(self.unused) > 4 else ''}"
        return text


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, a PyTorch checkpoint, or the selected weights of a run.h5.

    Raises:
        DeviceError: the file is missing, of another kind, or would have to be unpickled.
    """
    _require(path)
    if path.suffix == ".h5":
        run = artefact.read(path, "run")
        best = run.params.get("train", {}).get("select_on", "last") != "last"
        arrays = (best and run.group("weights/best")) or run.group("weights/last")
        return {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    if path.suffix == ".safetensors":
        with _safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises errors of every kind for what it will not load, with advice to unpickle it
        raise DeviceError(
            f"{path} is no PyTorch file, or holds Python objects beside its tensors, which are never unpickled",
            "save its state_dict alone, or convert it to .safetensors",
        ) from e
    for key in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = {k: v for k, v in loaded.items() if isinstance(v, Tensor)} if isinstance(loaded, Mapping) else {}
    if not tensors:
        raise DeviceError(f"{path} holds no tensors by name", "save the network's state_dict")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of its tensors; what `fertool export` wrote tells of the run.

    Raises:
        DeviceError: the file is missing or damaged.
    """
    with _safetensors(path) as file:
        return file.metadata() or {}


@contextmanager
def _safetensors(path: Path) -> Iterator:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as e:
        raise DeviceError(f"{path} is no safetensors file: {e}", "it may be damaged, or have another ending") from e


def init_source(net: FerModel, init: str) -> artefact.Parent | None:
    """Return the file of initial weights as an input of the run, with its digest; None where there is none of its own.

    Raises:
        DeviceError: the file is missing or damaged, or is for another backbone.
    """
    if init in ("none", "imagenet"):
        return None
    if init == "dlib":
        return artefact.Parent("init", "weights", dlib_resnet.FILE, "", _dlib(net).sha256)
    path = Path(init)
    _require(path)
    if path.suffix == ".h5":
        return artefact.read(path, "run").as_parent("init")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return artefact.Parent("init", "weights", path.name, "", digest)


def init_weights(net: FerModel, init: str) -> Match | None:
    """Fill a network from `init`: "none", "imagenet", "dlib", a run of the same network, or another weights file.

    A run, or what `fertool export` made of it, gives all but the head, which depends on the classes; any other file
    gives `net.backbone`. The network this one stands on keeps its own weights.

    Raises:
        DeviceError: fewer than half of the tensors have a counterpart of the same name and shape, or the network has
            no trunk that others have trained.
    """
    if init == "none":
        return None
    if init == "dlib":
        return _fill(net.backbone, dlib_resnet.tensors(_dlib(net)), dlib_resnet.FILE, skip=())
    trunk = getattr(net, "backbone", None)
    tensors = _run_of_same_network(net, Path(init))
    if tensors is None and trunk is None:
        raise DeviceError(
            f"{net.settings.name} has no trunk that {init} could fill",
            f"start from a run of {net.settings.name} on other faces, or with --init none",
        )
    if tensors is None:
        layout = getattr(trunk, "layout", "")
        found = _imagenet(trunk) if init == "imagenet" else read_tensors(Path(init))
        tensors = {_trunk_name(k, layout): v for k, v in found.items()}
        return _fill(trunk, tensors, init, skip=("fc.", "fc7", "fc8", "classifier."))
    return _fill(net, tensors, init, skip=(*net.head, *([f"{net.stands_on}."] if net.stands_on else [])))


def _require(path: Path) -> None:
    if not path.is_file():
        raise DeviceError(
            f"there is no weights file {path}", "give a .safetensors, .pth or run.h5 file, imagenet, dlib or none"
        )


def _dlib(net: FerModel) -> dlib_dat.Network:
    """The installed file of the weights for this network's backbone."""
    if net.pretrained != "dlib":
        raise DeviceError(
            f"--init dlib fills the backbone dlib-resnet29, which {net.settings.name} does not have here",
            "set train.model.backbone=dlib-resnet29 (ran), or use --init none or a weights file",
        )
    return dlib_resnet.weights_file()


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], source: str, skip: tuple[str, ...]) -> Match:
    """Copy what has the same name and shape, but for names that begin with `skip`."""
    own = net.state_dict()
    wanted = [k for k in own if not k.startswith(skip)]
    fits = {k: tensors[k] for k in wanted if k in tensors and own[k].shape == tensors[k].shape}
    match = Match(
        source,
        len(fits),
        len(wanted),
        tuple(k for k in wanted if k not in fits),
        tuple(k for k in tensors if k not in fits and not k.startswith(skip)),
    )
    if len(fits) < len(wanted) / 2:
        raise DeviceError(f"{match}", "these weights belong to another network; train with --init none to start fresh")
    net.load_state_dict({**own, **fits})
    return match


def _run_of_same_network(net: FerModel, path: Path) -> dict[str, Tensor] | None:
    model = {}
    if path.suffix == ".h5" and path.is_file():
        model = artefact.read(path, "run").params.get("model", {})
    elif path.suffix == ".safetensors" and path.is_file():
        with suppress(ValueError):
            model = json.loads(read_metadata(path).get("model", "{}"))
    name = model.get("name") if isinstance(model, dict) else None
    return read_tensors(path) if name == net.settings.name else None


def _trunk_name(name: str, layout: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                name, stripped = name[len(prefix) :], True
    if layout == "vgg16":
        layer, _, rest = name.partition(".")
        if layer in _VGG_FACE:
            return f"features_.{_VGG_FACE[layer]}.{rest}"
        if name.startswith("features."):
            return name.replace("features.", "features_.", 1)
        if name.startswith("classifier.0."):
            return name.replace("classifier.0.", "fc6.", 1)
    return name


def _imagenet(trunk: nn.Module) -> dict[str, Tensor]:
    from torchvision.models import ResNet18_Weights, VGG16_Weights

    known = {"resnet18": ResNet18_Weights.IMAGENET1K_V1, "vgg16": VGG16_Weights.IMAGENET1K_V1}
    if (layout := getattr(trunk, "layout", "")) not in known:
        raise DeviceError(f"there are no ImageNet weights for {type(trunk).__name__}", "use --init none")
    try:
        return known[layout].get_state_dict(progress=False, check_hash=True)
    except OSError as e:
        raise DeviceError(
            f"the ImageNet weights could not be downloaded: {e}",
            "download them elsewhere and give their path to --init",
        ) from e
