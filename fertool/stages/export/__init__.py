"""export: a run → its network as safetensors and ONNX, with all that is needed to use it elsewhere."""

import json
import logging
import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fertool import __version__, console, files, locks
from fertool.errors import ArtefactError, DeviceError, FertoolError, UsageError, nearest
from fertool.outputs import MARK
from fertool.pretrained.files import read_metadata
from fertool.settings import Export
from fertool.stages.export import card
from fertool.stages.export.licences import notes
from fertool.stages.report import evaluate_missing
from fertool.training.checkpoint import Trained
from fertool.training.devices import choose
from fertool.training.export_module import Portable

FORMATS = ("safetensors", "onnx")

BATCH_AXIS = "N"
_BATCHES = (1, 2, 5)  # sizes at which ONNX is compared with the network
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def run(
    trained: Trained,
    folder: Path | None = None,
    *,
    settings: Export,
    formats: Sequence[str] = FORMATS,
    with_card: bool = False,
    out: Path,
    overwrite: bool = False,
) -> list[Path]:
    """Write a network in some formats.

    The ONNX graph takes faces as detect-align makes them and does the rest itself, see `training.export_module`. It
    is run in onnxruntime and compared with the network before it is kept.

    Args:
        trained: the network.
        folder: of its run, for the card.
        with_card: also write a model card; a run without predictions is evaluated for it.
        out: folder; files are named as the run.

    Returns:
        the files, in the order of the formats.

    Raises:
        UsageError: a format that is not known.
        DeviceError: packages are missing, the network cannot be exported, or ONNX says something else.
        ArtefactError: a file of another network is there; faces that do not say how they were made.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"there is no format {name!r}", nearest(name, FORMATS))
    if "onnx" in formats and (missing := [name for name in _PACKAGES if find_spec(name) is None]):
        raise DeviceError(
            f"ONNX needs {' and '.join(missing)}", "run: pip install 'fertool[export]'; or --format safetensors"
        )
    if what := trained.network().opaque:
        raise UsageError(f"{what}, without layers to export", "use that file itself")
    about = _about(trained)
    paths = [out / f"{trained.name}.{name}" for name in dict.fromkeys(formats)]
    for path in paths:
        if not overwrite and path.exists():
            if _origin(path) == (trained.digest, trained.weights):
                console.say(f"{path} is up to date")
                continue
            raise ArtefactError(f"{path} holds another network, or another state of it", "add --overwrite")
        with locks.exclusive(path), files.replacing(path) as part:
            (_safetensors if path.suffix == ".safetensors" else _onnx)(trained, about, part, settings)
    if with_card and folder:
        evaluate_missing([folder], choose(None))
        paths.append(card.run(folder, trained, paths, settings=settings, out=out, overwrite=overwrite))
    return paths


def summary(paths: Sequence[Path]) -> dict:
    """Return what the files hold.

    Returns:
        files: [{path, format, bytes; but of the card also run, weights, classes, input; of ONNX also outputs and
        checked}].
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        if path.suffix == ".md":
            found.append({"path": str(path), "format": "card", "bytes": path.stat().st_size})
            continue
        kept = _metadata(path)
        facts = {"path": str(path), "format": path.suffix[1:], "bytes": path.stat().st_size, "run": kept["name"]}
        facts |= {"weights": kept["weights"], "licence": kept["licence"]}
        facts |= {k: json.loads(kept[k]) for k in ("classes", "input", "outputs", "checked") if k in kept}
        found.append(facts)
    return {"files": found}


def report(facts: dict) -> None:
    """Print the files and what goes in and comes out."""
    for file in facts["files"]:
        size = f"{file['bytes'] / 1e6:.1f} MB" if file["format"] != "card" else f"{file['bytes'] / 1e3:.0f} kB"
        console.say(f"→ {file['path']} ({size})")
        if "outputs" in file:
            shape = file["input"]["faces"]["shape"]
            console.say(f"  faces ({', '.join(map(str, shape))}) float, 0 to 255 → {', '.join(file['outputs'])}")
            checked = file["checked"]
            sizes = ", ".join(map(str, checked["batches"]))
            console.say(
                f"  checked in onnxruntime {checked['onnxruntime']} with {sizes} faces: as the network itself within "
                f"{checked['largest_difference']:.0e}"
            )
    console.say(facts["files"][0]["licence"])


def _about(trained: Trained) -> dict[str, str]:
    """Return what is written beside the weights: how to make a face for them, what comes out, where they come from."""
    faces, spec = trained.faces, trained.network().input
    height, width, channels = faces.shape
    given = {
        "faces": {
            "shape": [BATCH_AXIS, channels, height, width],
            "range": [0, 255],
            "channels": "grey" if channels == 1 else "RGB",
            "made_by": "fertool detect-align, with the settings in prepared.faces",
        },
        "network": {
            "size": list(spec.size),
            "channels": spec.channels,
            "normalised": "(value / 255 - mean) / std",
            "mean": list(spec.mean),
            "std": list(spec.std),
            "crop": spec.crop,
        },
    }
    return {
        "fertool": __version__,
        "generator": MARK,
        **trained.metadata(),
        "input": json.dumps(given),
        "licence": notes(trained),
    }


def _safetensors(trained: Trained, about: dict[str, str], path: Path, settings: Export) -> None:
    from safetensors.torch import save

    path.write_bytes(save(dict(trained.tensors), metadata=about))


def _onnx(trained: Trained, about: dict[str, str], path: Path, settings: Export) -> None:
    import onnx

    module = Portable(trained)
    _translate(module, trained.name, path, settings.opset)
    worst = _compare(module, path, trained.name, settings.tolerance)
    import onnxruntime

    checked = {"onnxruntime": onnxruntime.__version__, "batches": _BATCHES, "largest_difference": worst}
    model = onnx.load(path)
    _name_batch_axis(model)
    facts = {**about, "outputs": json.dumps(module.outputs), "checked": json.dumps(checked)}
    onnx.helper.set_model_props(model, facts)
    model.producer_name, model.producer_version = "fertool", __version__
    model.doc_string = f"{trained.name}, {MARK}: {about['licence']}"
    onnx.save(model, path)


def _translate(module: Portable, name: str, path: Path, opset: int) -> None:
    """Write a module as ONNX, for any number N of faces."""
    from torch.export import Dim

    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                module.example(2),
                dynamo=True,
                input_names=list(module.inputs),
                output_names=list(module.outputs),
                dynamic_shapes=tuple({0: Dim.DYNAMIC} for _ in module.inputs),
                opset_version=opset,
                custom_translation_table={torch.ops.aten.sigmoid.default: _sigmoid},
                external_data=False,
                verbose=False,
            )
            assert program is not None  # with dynamo=True there is one
            program.save(str(path), external_data=False)
    except Exception as e:  # the exporter raises errors of every kind, with a page of advice each
        said = next((line for line in str(e.__cause__ or e).splitlines() if line.strip()), type(e).__name__)
        raise DeviceError(
            f"{name} cannot be written as ONNX by PyTorch {torch.__version__}: {said.strip()[:200]}",
            "--format safetensors always works",
        ) from e
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _sigmoid(x: Any) -> Any:
    """Write a sigmoid as 1 / (1 + exp(-x)).

    onnxruntime's own is exact to 1e-7 only, and attention divides by sums of sigmoids that may be as small.
    """
    from onnxscript import opset18 as op

    return op.Reciprocal(op.Add(op.Exp(op.Neg(x)), 1.0))


def _name_batch_axis(model: Any) -> None:
    """Call the axis of the faces N, for which PyTorch has a name of its own."""
    graph = model.graph
    own = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(rf"\b{re.escape(own)}\b", BATCH_AXIS, size.dim_param)


def _compare(module: Portable, path: Path, name: str, tolerance: float) -> float:
    """Return the largest difference between onnxruntime and the network; of logits, relative to the largest."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in _BATCHES:
        given = module.example(n, seed=n)
        with torch.inference_mode():
            expected = [value.numpy() for value in module(*given)]
        got = session.run(None, {k: v.numpy() for k, v in zip(module.inputs, given, strict=True)})
        for output, a, b in zip(module.outputs, expected, got, strict=True):
            apart = float(np.abs(a - b).max()) / max(1.0, float(np.abs(a).max()))
            worst = max(worst, apart)
            if not apart <= tolerance:
                raise DeviceError(
                    f"ONNX says something else than {name}: {output} of {n} faces lies {apart:.1e} apart",
                    "allow more with --set export.tolerance, or use --format safetensors",
                )
    return worst


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix == ".safetensors":
        return read_metadata(path)
    import onnx

    return {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}


def _origin(path: Path) -> tuple[str | None, str | None]:
    """Return the run and which of its weights a file holds; nothing if it is none of ours."""
    try:
        kept = _metadata(path)
    except Exception as e:  # onnx raises protobuf's errors
        if isinstance(e, FertoolError | ValueError | OSError) or type(e).__name__ == "DecodeError":
            return None, None
        raise
    return kept.get("digest"), kept.get("weights")
