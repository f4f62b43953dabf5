"""adopt: a network or function of others → a run, which eval, report, visualize and predict take like any other."""

import hashlib
import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fertool import artefact, console
from fertool.adopted import architectures, classes, predictors
from fertool.artefact import Artefact, Parent
from fertool.errors import ArtefactError, DataError, DeviceError, UsageError
from fertool.evaluation.summary import of_run
from fertool.faces.status import HAS_IMAGE
from fertool.models.adopted import Adopted, AdoptedSettings, Kind
from fertool.outputs import MARK
from fertool.plugins import sources
from fertool.pretrained.files import check_kind, read_tensors
from fertool.run_folders import RUNS, name_of
from fertool.settings import Adopt
from fertool.training.checkpoint import preparation
from fertool.training.data import Pixels, region_boxes
from fertool.training.inference import network_boxes
from fertool.training.transforms import sample_views, view_transforms
from fertool.workspace import slug

_TRIED = 4  # faces on which a predictor is tried before anything is written
_APART = 1e-3  # largest difference of outputs of a face alone and among others, relative to the largest
_SUM = 0.01  # by how much probabilities may miss 1

#: training settings of a run that was trained elsewhere
_TRAIN: dict[str, Any] = {
    "train_splits": [],
    "val_split": "test",
    "labels": "majority",
    "select_on": "last",
    "init": "none",
    "fold": None,
    "epochs": 0,
    "iterations": None,
    "track": [],
}
_KERAS = (".h5", ".hdf5", ".keras", ".pb", ".tflite")


def run(file: str, faces: Path, *, settings: Adopt, name: str = "", overwrite: bool = False) -> Path:
    """Make a run of a file that computes, of weights with the name of their architecture, or of a function.

    The file is tried on a few faces first. It is copied into the run, so that the run needs nothing else; a function is
    called where it is, and only if its file is the one that was adopted.

    Args:
        file: .onnx, TorchScript, weights (with `settings.architecture`), or FILE.py:FUNCTION, a function from RGB faces
            (N, H, W, 3) uint8 to probabilities (N, classes).
        faces: the faces file beside which the run lies.
        name: of the run; by default adopted- and the name of the file.
        overwrite: replace a run of the same name that was adopted with other settings.

    Returns:
        The run.h5 file.

    Raises:
        UsageError: classes, preprocessing or architecture that cannot be meant or are missing.
        DeviceError: the file is missing, of another kind, does not run, or gives something else than its classes say.
        ArtefactError: there is a run of that name.
    """
    source = artefact.read(faces, "faces")
    kind, data = _read(file, settings)
    settings = _completed(settings, file, kind, data, source)
    known = classes.checked(settings.classes, source.classes or ())
    matched = classes.match(known, source.classes or (), keep_extra=settings.extra == "wrong")
    model = AdoptedSettings(
        **{f.name: getattr(settings, f.name) for f in fields(Adopt) if f.name != "classes"},
        classes=known,
        kind=kind,
        source=sources.stored(file) if kind == "function" else Path(file).name,
        bytes=0 if kind == "architecture" else len(data),
        columns=matched.columns,
        missing=matched.missing,
        foreign=matched.extra,
    )
    net = Adopted(model).eval()
    if kind == "architecture":
        architectures.fill(net.network, read_tensors(Path(file)), model.architecture, model.source)
    else:
        net.file.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    model = replace(model, outputs=_tried(net, source))
    params = {"recipe": "", "variant": "", "model": model.as_dict(), "train": _TRAIN}
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    inputs = [source.as_parent(), Parent("file", kind, model.source, "", digest)]
    out = faces.parent / RUNS / slug(name or f"adopted-{_stem(file, kind)}") / "run.h5"
    if _is_there(out, params, inputs, overwrite):
        console.say(f"{name_of(out.parent)} is up to date ({out.parent})")
        return out
    lineage: dict[str, Any] = {"faces": None, "datasets": [], "folds": None, "masks": None, "pretrained_part": None}
    lineage["init"] = {"name": model.source, "run": None}
    info = artefact.make_info() | {"seconds": [], "waited": [], "device": ""}
    info |= {"prepared": preparation(source, None), "lineage": lineage, "summary": of_run(0, 0, True, -1, {}, _TRAIN)}
    state = {"epoch": 0, "step": 0, "iteration": 0, "best": -1.0, "finished": True}
    arrays = {f"weights/last/{key}": tensor.numpy() for key, tensor in net.state_dict().items()}
    arrays |= {f"state/{key}": np.array(value) for key, value in state.items()}
    artefact.save(out, "run", arrays, params=params, inputs=inputs, classes=matched.classes, info=info)
    return out


def _is_there(out: Path, params: dict[str, Any], inputs: list[Parent], overwrite: bool) -> bool:
    """Return whether the run exists; refuse to replace one that was trained."""
    if out.is_file():
        network = artefact.read(out, "run").params["model"]["name"]
        if network != AdoptedSettings.name:
            raise ArtefactError(f"{out.parent} is a run of {network}", "choose another --name")
    return artefact.up_to_date(out, "run", params, inputs, overwrite=overwrite)


def _read(file: str, settings: Adopt) -> tuple[Kind, bytes]:
    """Return what a file is, and its bytes.

    Raises:
        UsageError: no function, or weights without their architecture.
        DeviceError: the file is missing, or none of these.
    """
    if sources.is_foreign(file):
        if settings.architecture:
            raise UsageError(f"{file} is a function, and --architecture is for files of weights", "leave it out")
        predictors.load_function(file)
        return "function", predictors.source_of(file)
    path = Path(file)
    if not path.is_file():
        raise DeviceError(f"there is no file {file}", "adopt takes .onnx, TorchScript, weights, or FILE.py:FUNCTION")
    if settings.architecture:
        read_tensors(path)
        return "architecture", path.read_bytes()
    if path.suffix.lower() == ".onnx":
        check_kind(path)
        return "onnx", path.read_bytes()
    if path.suffix.lower() in _KERAS:
        raise DeviceError(
            f"{file} is a file of Keras or TensorFlow, and no ONNX",
            "convert it to ONNX, or call it in a function of yours: fertool adopt FILE.py:FUNCTION",
        )
    check_kind(path)
    if _is_torchscript(path):
        return "torchscript", path.read_bytes()
    read_tensors(path)  # which says what is wrong with a file that holds no weights either
    raise UsageError(f"{file} holds weights without their network", "name it, e.g. --architecture resnet18")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())


def _stem(file: str, kind: str) -> str:
    return file.rpartition(":")[2] if kind == "function" else Path(file).stem


# ------------------------------------------------------------------------------------------------- preprocessing


def _completed(settings: Adopt, file: str, kind: str, data: bytes, faces: Artefact) -> Adopt:
    """Return the settings with those filled in that the file, or the faces, decide.

    Raises:
        UsageError: classes or preprocessing are missing, or contradict the file.
    """
    if kind == "function":
        settings = _of_function(settings, faces)
    elif kind == "onnx":
        settings = _of_graph(settings, predictors.OnnxGraph(data, Path(file).name, settings.output))
    if not settings.classes:
        raise UsageError(
            f"{file} does not say which classes it predicts",
            "name all in their order, e.g. --classes angry,disgust,fear",
        )
    if settings.size is None:
        raise UsageError(f"{file} does not say the size of its input", "give it in pixels, e.g. --size 224")
    if settings.pixels is None and kind != "function":
        raise UsageError(
            f"{file} does not say which range its pixels have", "give it: --pixels 0-1, 0-255, -1-1 or imagenet"
        )
    if settings.pixels == "imagenet" and (settings.mean or settings.std or settings.colour == "grey"):
        raise UsageError(
            "--pixels imagenet is a mean and deviation of three channels",
            "take 0-1 with a mean and deviation of your own",
        )
    channels = 1 if settings.colour == "grey" else 3
    for key in ("mean", "std"):
        if len(getattr(settings, key)) not in (0, 1, channels):
            raise UsageError(f"{key} has {len(getattr(settings, key))} values for {channels} channels", "give 1 or 3")
    if not all(settings.std):
        raise UsageError("a deviation (std) of 0 divides by zero", "give one above 0")
    return settings


def _of_function(settings: Adopt, faces: Artefact) -> Adopt:
    given = [
        f"--{f.name}"
        for f in fields(Adopt)
        if f.name in ("colour", "pixels", "mean", "std", "layout") and getattr(settings, f.name) != f.default
    ]
    if given:
        raise UsageError(
            "a function takes RGB faces (N, H, W, 3) uint8 and does the rest itself", f"leave out {given[0]}"
        )
    if settings.size is None:
        height, width = faces["images"].shape[1:3]
        settings = replace(settings, size=int(width), height=int(height))
    return settings if settings.outputs != "auto" else replace(settings, outputs="probabilities")


def _of_graph(settings: Adopt, graph: predictors.OnnxGraph) -> Adopt:
    """Take the input from the graph, and from what fertool export wrote into it also classes and range."""
    facts = graph.facts
    if facts.get("generator") == MARK and "input" in facts:
        face = json.loads(facts["input"])["faces"]
        settings = replace(
            settings,
            classes=settings.classes or tuple(json.loads(facts["classes"])),
            pixels=settings.pixels or "0-255",
            colour="grey" if face["channels"] == "grey" else settings.colour,
        )
    axes = graph.shape if settings.layout == "nchw" else [graph.shape[i] for i in (0, 3, 1, 2)]
    channels, height, width = axes[1:]
    wanted = 1 if settings.colour == "grey" else 3
    if channels not in (None, wanted):
        shape = " × ".join("N" if n is None else str(n) for n in graph.shape)
        raise UsageError(
            f"the input is {shape}, not {wanted} channel{'s' * (wanted > 1)} as {settings.layout}",
            "correct --colour (grey has one channel) or --layout",
        )
    if width and height:
        if settings.size not in (None, width) or (settings.height or settings.size or height) != height:
            raise UsageError(f"the input has {width} × {height} pixels", "leave out --size and --height")
        return replace(settings, size=width, height=height)
    return settings


# --------------------------------------------------------------------------------------------------------- trial


@torch.inference_mode()
def _tried(net: Adopted, faces: Artefact) -> Literal["logits", "probabilities"]:
    """Run a network on a few faces and return what its outputs are, "logits" or "probabilities".

    Raises:
        DataError: the faces file has no face.
        DeviceError: its outputs are not what the settings say, or depend on the other faces of a batch.
    """
    rows = np.flatnonzero(np.isin(np.asarray(faces["status"]), HAS_IMAGE))
    if not len(rows):
        raise DataError(f"{faces.path} has no face to try {net.settings.source} on", "name others with --data")
    chosen = torch.from_numpy(rows[np.linspace(0, len(rows) - 1, _TRIED).astype(int)])
    views = _views(net, faces, chosen)
    outputs = net.raw(views)
    outputs = predictors.as_outputs(outputs, net.settings.source, len(views), len(net.settings.classes))
    alone = torch.cat([net.raw(view) for view in views.split(1)])
    apart = float((outputs - alone).abs().max()) / max(1.0, float(outputs.abs().max()))
    if apart > _APART:
        raise DeviceError(
            f"{net.settings.source} gives a face other outputs alone than among others (up to {apart:.2g} apart)",
            "save it in evaluation mode: call network.eval() before it is traced, scripted or exported",
        )
    sums = outputs.sum(1)
    is_distribution = bool((outputs >= 0).all()) and bool(((sums - 1).abs() <= _SUM).all())
    asked = net.settings.outputs
    if asked == "probabilities" and not is_distribution:
        low, high = float(sums.min()), float(sums.max())
        raise DeviceError(
            f"the outputs of {net.settings.source} are no probabilities: their sums go from {low:.3g} to {high:.3g}",
            "add --outputs logits if they are scores",
        )
    if asked == "logits" and is_distribution:
        console.say("note: the outputs look like probabilities; taken as logits, as asked")
    if asked == "auto":
        return "probabilities" if is_distribution else "logits"
    return asked


def _views(net: Adopted, faces: Artefact, rows: Tensor) -> Tensor:
    """Return faces as eval gives them to a network: (N, 1, C, H, W)."""
    pixels = Pixels(faces["images"], rows.unique(), torch.device("cpu"))
    boxes = network_boxes(net, region_boxes(faces, None)[rows], pixels.size)
    return sample_views(pixels.gather(rows), view_transforms(boxes, None), net.input)


# -------------------------------------------------------------------------------------------------------- output


def summary(path: Path) -> dict[str, Any]:
    """Return what was adopted.

    Returns:
        run, name, source, kind, digest (of the file), classes (of the run), outputs {class: index of the output},
        missing and extra classes, remarks, settings.
    """
    made = artefact.read(path, "run")
    model = made.params["model"]
    file = made.parent("file")
    return {
        "run": str(path),
        "name": name_of(path.parent),
        "source": model["source"],
        "kind": model["kind"],
        "digest": file.digest if file else "",
        "classes": list(made.classes or ()),
        "outputs": {name: i for name, i in zip(made.classes or (), model["columns"], strict=True) if i >= 0},
        "missing": model["missing"],
        "extra": model["foreign"],
        "remarks": list(Adopted.remarks(model)),
        "settings": dict(model),
    }


def report(facts: dict[str, Any]) -> None:
    """Print what was adopted and how it is used."""
    s = facts["settings"]
    what, scaled = s["architecture"] or facts["kind"], f", pixels {s['pixels']}" if s["pixels"] else ""
    size = f"{s['size']} × {s['height'] or s['size']}"
    console.say(
        f"{facts['source']} ({what}): {s['colour']} {size}{scaled} → {s['outputs']} of {', '.join(s['classes'])}"
    )
    for remark in facts["remarks"]:
        console.say(f"note: {remark}")
    console.say(f"→ {Path(facts['run']).parent}; fertool eval --run {facts['name']} scores it")
