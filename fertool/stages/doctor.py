"""doctor: what this installation has, and what is missing with the way to get it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

from fertool import __version__, console
from fertool.backbones import dlib_resnet
from fertool.detectors import dlib_cnn
from fertool.errors import DeviceError
from fertool.workspace import Workspace

_PACKAGES = (
    "torch", "torchvision", "lightning", "numpy", "h5py", "opencv-python-headless", "pillow", "pandas", "matplotlib",
    "pydantic", "typer", "rich", "dlib-bin", "face_recognition_models", "facenet-pytorch", "safetensors",
)  # fmt: skip
_OPTIONAL = {
    "anny": "demo", "embreex": "demo", "onnx": "export", "onnxruntime": "export", "onnxscript": "export",
    "timm": "timm", "av": "video", "pyarrow": "parquet", "pytest": "test",
}  # fmt: skip


def summary(workspace: Workspace) -> dict:
    """Return versions, devices, files of models, workspace; `missing` lists what is not there and how to get it."""
    import torch

    missing = []
    versions = {}
    for package in (*_PACKAGES, *_OPTIONAL):
        versions[package] = _version(package)
        if versions[package] is None:
            extra = _OPTIONAL.get(package)
            get = f"pip install 'fertool[{extra}]'" if extra else f"pip install {package}"
            missing.append({"what": f"package {package}", "get": get, "needed": extra is None})
    models = {name: str(path) if path else None for name, path in _models().items()}
    for name, path in models.items():
        if path is None:
            missing.append({"what": name, "get": "pip install face_recognition_models facenet-pytorch", "needed": True})
        elif name in _CHECKS:
            try:
                _CHECKS[name]()
            except DeviceError as e:
                missing.append({"what": e.message, "get": (e.hint or "").removeprefix("run: "), "needed": True})
    gpus = [
        {"name": torch.cuda.get_device_name(i), "memory_gb": torch.cuda.get_device_properties(i).total_memory / 1e9}
        for i in range(torch.cuda.device_count())
    ]
    root = workspace.root
    there = next(p for p in (root, *root.absolute().parents) if p.exists())
    return {
        "fertool": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "versions": versions,
        "gpus": gpus,
        "models": models,
        "workspace": {
            "path": str(root),
            "writable": os.access(there, os.W_OK),
            "free_gb": shutil.disk_usage(there).free / 1e9,
            "data_sets": workspace.datasets(),
        },
        "missing": missing,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


#: whether an installed file is whole
_CHECKS = {
    "dlib CNN detector": dlib_cnn.weights_file,
    "dlib face recognition (--init dlib)": dlib_resnet.weights_file,
}


def _models() -> dict[str, Path | None]:
    found: dict[str, Path | None] = {}
    for name, package, file in (
        ("dlib CNN detector", "face_recognition_models", f"models/{dlib_cnn.FILE}"),
        ("dlib 68 landmarks", "face_recognition_models", "models/shape_predictor_68_face_landmarks.dat"),
        ("dlib face recognition (--init dlib)", "face_recognition_models", f"models/{dlib_resnet.FILE}"),
        ("MTCNN", "facenet_pytorch", "data/pnet.pt"),
    ):
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / file if spec and spec.origin else None
        found[name] = path if path and path.is_file() else None
    return found


def report(facts: dict) -> None:
    """Print the findings."""
    console.say(f"fertool {facts['fertool']}, Python {facts['python']}, {facts['system']}, {facts['cores']} cores")
    gpus = ", ".join(f"{g['name']} ({g['memory_gb']:.0f} GB)" for g in facts["gpus"])
    console.say(f"GPUs: {gpus or 'none; training and evaluation run on the CPU'}")
    space = facts["workspace"]
    state = "writable" if space["writable"] else "NOT writable: choose another with --workspace"
    console.say(f"workspace {space['path']}: {state}, {space['free_gb']:.0f} GB free, {_listed(space['data_sets'])}")
    console.show(console.table("Packages", ["name", "version"], facts["versions"].items()))
    console.say("Models")  # no table: paths are long, and to be copied
    for name, path in facts["models"].items():
        console.say(f"  {name}: {path or 'missing'}")
    for item in facts["missing"]:
        console.say(f"missing: {item['what']}{'' if item['needed'] else ' (optional)'} → {item['get']}")
    if not any(item["needed"] for item in facts["missing"]):
        console.say("all that is needed is there")


def _listed(names: list[str]) -> str:
    return "datasets: " + ", ".join(names) if names else "no datasets yet"
