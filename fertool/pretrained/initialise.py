"""Initial weights: from a file of the user's, from ImageNet, from dlib, from timm, or none."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fertool import artefact
from fertool.backbones import dlib_resnet, timm_net
from fertool.backbones.registry import BACKBONES
from fertool.errors import DeviceError
from fertool.models.base import FerModel
from fertool.pretrained import dlib_dat
from fertool.pretrained.files import check_kind, read_metadata, read_tensors, require_finite

#: VGG-Face as converted from Caffe names its layers; torchvision numbers them
_VGG_FACE = {
    "conv1_1": "0", "conv1_2": "2", "conv2_1": "5", "conv2_2": "7", "conv3_1": "10", "conv3_2": "12", "conv3_3": "14",
    "conv4_1": "17", "conv4_2": "19", "conv4_3": "21", "conv5_1": "24", "conv5_2": "26", "conv5_3": "28",
}  # fmt: skip
_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")  # of torchvision's ResNets

#: initial weights that are no file of the user's
NAMED = ("none", "imagenet", "dlib", "timm")

_OTHER = "these weights belong to another network; train with --init none to start fresh"


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
            text += f"; fresh: {_first(self.missing)}"
        if self.unused:
            text += f"; not used: {_first(self.unused)}"
        return text


def init_source(net: FerModel, init: str) -> artefact.Parent | None:
    """Return the file of initial weights as an input of the run, with its digest; None where there is none of its own.

    Raises:
        DeviceError: the file is missing or damaged, or its weights are another backbone's.
    """
    if init in ("none", "imagenet"):
        return None
    if _is_dlib(init):
        return artefact.Parent("init", "weights", dlib_resnet.FILE, "", _dlib(net, init).sha256)
    if init == "timm":
        name, _, digest = timm_net.weights(getattr(net, "backbone", net))
        return artefact.Parent("init", "weights", name, "", digest)
    path = Path(init)
    check_kind(path)
    _check_backbone(net, path)
    if path.suffix == ".h5":
        return artefact.read(path, "run").as_parent("init")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return artefact.Parent("init", "weights", path.name, "", digest)


def init_weights(net: FerModel, init: str) -> Match | None:
    """Fill a network from `init`: one of `NAMED`, a run of the same network, or another weights file.

    A `.dat` file is dlib's own, as the package that "dlib" finds installs it. A run, or what `fertool export` made of
    it, gives all but the head, which depends on the classes; a checkpoint of the authors' released code all of the
    network; any other file gives `net.backbone`. The pretrained part keeps its own weights.

    Raises:
        DeviceError: they are weights of another network, see `_fill`, or the network has no trunk that others have
            trained.
        NotFiniteError: weights that are NaN or infinite.
    """
    if init == "none":
        return None
    if _is_dlib(init):
        return _fill(net.backbone, dlib_resnet.tensors(_dlib(net, init)), dlib_resnet.FILE, skip=())
    if init == "timm":
        name, found, _ = timm_net.weights(getattr(net, "backbone", net))
        return _fill(net.backbone, found, name, skip=())
    trunk: Any = getattr(net, "backbone", None)
    tensors = _run_of_same_network(net, Path(init))
    if tensors is None and trunk is None:
        raise DeviceError(
            f"{net.settings.name} has no trunk that {init} could fill",
            f"start from a run of {net.settings.name} on other faces, or with --init none",
        )
    if tensors is None:
        layout = getattr(trunk, "layout", "")
        found = _imagenet(trunk) if init == "imagenet" else read_tensors(Path(init))
        tensors = _as_own(trunk.state_dict(), found, layout)
        if whole := _released(net, tensors):
            return _fill(net, whole, f"{init} (the released network)", skip=())
        return _fill(trunk, tensors, init, skip=("fc.", "fc7", "fc8", "classifier.", "head."))
    return _fill(net, tensors, init, skip=(*net.head, *([f"{net.pretrained_part}."] if net.pretrained_part else [])))


def _released(net: FerModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the whole network of a checkpoint of the authors' released code under our names; nothing of other files.

    Args:
        tensors: the backbone under its own names, and what is beside it.
    """
    if not net.released or not all(any(k.startswith(theirs) for k in tensors) for theirs in net.released):
        return {}
    trunk, own, whole = net.backbone.state_dict(), net.state_dict(), {}
    for key, tensor in tensors.items():
        theirs = next((t for t in net.released if key.startswith(t)), "")
        name = net.released[theirs] + key.removeprefix(theirs) if theirs else f"backbone.{key}" if key in trunk else key
        other_classes = name.startswith(net.head) and name in own and own[name].shape != tensor.shape
        if not other_classes:
            whole[name] = tensor
    return whole


def _is_dlib(init: str) -> bool:
    return init == "dlib" or Path(init).suffix == ".dat"


def _dlib(net: FerModel, init: str) -> dlib_dat.Network:
    """Return the weights for this network's backbone, of the installed file or of the one that `init` names."""
    if net.pretrained != "dlib":
        raise DeviceError(
            f"--init {init} fills the backbone dlib-resnet29, which {net.settings.name} does not have here",
            "set train.model.backbone=dlib-resnet29 (ran), or use --init none or a weights file",
        )
    if init == "dlib":
        return dlib_resnet.weights_file()
    check_kind(Path(init))
    return dlib_resnet.weights_file(Path(init))


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], source: str, skip: tuple[str, ...]) -> Match:
    """Copy the tensors of the same names, but for names that begin with `skip`.

    Raises:
        DeviceError: fewer than half of the tensors have a counterpart, one has another shape, or the file has whole
            blocks among the network's own that the network lacks: these are weights of another network.
        NotFiniteError: a value is too large for the network's number format.
    """
    own = net.state_dict()
    wanted = [k for k in own if not k.startswith(skip)]
    named = [k for k in wanted if k in tensors]
    unused = tuple(k for k in tensors if k not in own and not any(f".{s}" in f".{k}" for s in skip))
    match = Match(source, len(named), len(wanted), tuple(k for k in wanted if k not in tensors), unused)
    other = [k for k in named if tensors[k].shape != own[k].shape or _kind(tensors[k]) != _kind(own[k])]
    blocks = _blocks(own)
    beyond = [k for k in unused if k.partition(".")[0] in blocks and k.rpartition(".")[0] not in blocks]
    if other:
        name, theirs, mine = other[0], _shape(tensors[other[0]]), _shape(own[other[0]])
        more = f", and so do {len(other) - 1} more" if len(other) > 1 else ""
        raise DeviceError(f"{match}; {name} has the shape {theirs} there and {mine} here{more}", _OTHER)
    if beyond:
        raise DeviceError(f"{match}; the file has layers that the network lacks: {_first(beyond)}", _OTHER)
    if len(named) < len(wanted) / 2:
        raise DeviceError(f"{match}", _OTHER)
    fits = {k: tensors[k].to(own[k].dtype) for k in named}
    require_finite(fits, source)
    net.load_state_dict({**own, **fits})
    return match


def _kind(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) + ("" if tensor.is_floating_point() else " of whole numbers")


def _blocks(names: Iterable[str]) -> set[str]:
    """Return the names of the modules that hold tensors of these names, and of those around them."""
    parts = (name.split(".")[:-1] for name in names)
    return {".".join(path[:n]) for path in parts for n in range(1, len(path) + 1)}


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")


def _check_backbone(net: FerModel, path: Path) -> None:
    """Refuse a run of fertool's, or a file exported from one, with another backbone than the network's."""
    theirs, trunk = _model_of(path).get("backbone"), getattr(net, "backbone", None)
    if not isinstance(theirs, str) or trunk is None or not (theirs in BACKBONES or timm_net.is_timm(theirs)):
        return
    mine = getattr(net.settings, "backbone", trunk.layout)
    if mine not in (theirs, BACKBONES[theirs].layout if theirs in BACKBONES else theirs):
        name = net.settings.name
        raise DeviceError(
            f"{path} was trained with the backbone {theirs}, and {name} has {mine} here",
            f"--set train.model.backbone={theirs}, or initial weights of {mine}"
            if hasattr(net.settings, "backbone")
            else f"start {name} from a run with the backbone {mine}, or with --init none",
        )


def _model_of(path: Path) -> Mapping:
    """Return the settings of the network in a run, or in a file exported from one; empty for other files."""
    model = {}
    if path.suffix == ".h5" and path.is_file():
        model = artefact.read(path, "run").params.get("model", {})
    elif path.suffix == ".safetensors" and path.is_file():
        with suppress(ValueError):
            model = json.loads(read_metadata(path).get("model", "{}"))
    return model if isinstance(model, dict) else {}


def _run_of_same_network(net: FerModel, path: Path) -> dict[str, Tensor] | None:
    return read_tensors(path) if _model_of(path).get("name") == net.settings.name else None


def _as_own(names: Iterable[str], tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Return the tensors of a file under a trunk's own names.

    Which prefix training code put before them (`module.`, `backbone.`, `_orig_mod.` ...), and whose names for the
    layers they are, is found by trying: what fits the most names is taken. All tensors of that prefix are renamed, so
    that layers which the trunk lacks show as such.
    """
    own = set(names)
    best: tuple[str, Callable[[str], str]] = ("", _own)
    hits = 0
    for naming in (_own, _timm) if timm_net.is_timm(layout) else _NAMINGS.get(layout, (_own,)):
        prefixes = Counter(prefix for key in tensors for prefix, name in _splits(key) if naming(name) in own)
        for prefix, count in prefixes.items():
            if count > hits:
                best, hits = (prefix, naming), count
    prefix, naming = best
    beside = {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}
    renamed = {naming(key.removeprefix(prefix)): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    return beside | renamed


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """Yield what may be the prefix of a name, and what is left of it then."""
    parts = key.split(".")
    for n in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:n]), ".".join(parts[n:])


def _own(name: str) -> str:
    return name


def _timm(name: str) -> str:
    """Match timm's files: the network that the backbone holds."""
    return f"net.{name}"


def _sequential_resnet(name: str) -> str:
    """Match nn.Sequential(*resnet.children())."""
    layer, _, rest = name.partition(".")
    return f"{_CHILDREN[int(layer)]}.{rest}" if layer in map(str, range(len(_CHILDREN))) else name


def _torchvision_vgg(name: str) -> str:
    for theirs, mine in (("features.", "features_."), ("classifier.0.", "fc6.")):
        if name.startswith(theirs):
            return mine + name.removeprefix(theirs)
    return name


def _caffe_vgg(name: str) -> str:
    """Match files converted from Caffe. A convolution that VGG-16 lacks keeps its name, among the others."""
    layer, _, rest = name.partition(".")
    return f"features_.{_VGG_FACE.get(layer, layer)}.{rest}" if layer.startswith("conv") else name


#: layout of a trunk -> functions from the names that others give its layers to its own
_NAMINGS: dict[str, tuple[Callable[[str], str], ...]] = {
    "resnet18": (_own, _sequential_resnet),
    "vgg16": (_own, _torchvision_vgg, _caffe_vgg),
}


def _imagenet(trunk: nn.Module) -> dict[str, Tensor]:
    from torch import hub
    from torchvision.models import ResNet18_Weights, VGG16_Weights

    known = {"resnet18": ResNet18_Weights.IMAGENET1K_V1, "vgg16": VGG16_Weights.IMAGENET1K_V1}
    if (layout := getattr(trunk, "layout", "")) not in known:
        raise DeviceError(f"there are no ImageNet weights for {type(trunk).__name__}", "use --init none")
    url = known[layout].url
    file = Path(hub.get_dir(), "checkpoints", Path(url).name)
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(url, str(file), file.stem.rpartition("-")[2], progress=False)
        except (OSError, RuntimeError) as e:  # RuntimeError: the hash in the name is not that of what came
            raise DeviceError(
                f"the ImageNet weights could not be downloaded to {file}: {e}",
                "download them elsewhere and give their path to --init",
            ) from e
    return read_tensors(file)
