"""Weights out of files: safetensors, PyTorch checkpoints, runs. Nothing is ever unpickled.

What a file is is told by its first bytes, not by its name, so that what often lies in a weights file's place (a web
page, a Git LFS pointer, half a download, a pickled network) gets a message of its own.
"""

import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from fertool import artefact
from fertool.errors import DeviceError, NotFiniteError

#: where training code of all kinds keeps a network's tensors inside a checkpoint, the most usual first; of an average
#: over the steps (ema) only where there is nothing else
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "backbone", "encoder",
    "params", "weights", "teacher", "student", "params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema",
    "ema_model", "shadow",
)  # fmt: skip

_AGAIN = "download or copy it again, and compare its size with the original's"
_STATE_DICT = "where it was made, save its tensors alone: torch.save(network.state_dict(), FILE)"
_LFS = b"version https://git-lfs.github.com/spec/"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, a PyTorch checkpoint, or the selected weights of a run.h5.

    Raises:
        DeviceError: the file is missing, damaged, of another kind, or would have to be unpickled.
        NotFiniteError: some of the tensors are NaN or infinite.
    """
    start = check_kind(path)
    is_pickled = start.startswith((b"PK", b"\x80"))  # PyTorch's own two formats
    if start[8:9] == b"{" or (path.suffix == ".safetensors" and not is_pickled):
        with _safetensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    elif start.startswith(_HDF5) or (path.suffix == ".h5" and not is_pickled):
        tensors = _of_run(path)
    else:
        tensors = _of_checkpoint(path)
    require_finite(tensors, str(path))
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Read what a .safetensors file says of its tensors; what `fertool export` wrote tells of the run.

    Raises:
        DeviceError: the file is missing or damaged.
    """
    check_kind(path)
    with _safetensors(path) as file:
        return file.metadata() or {}


def require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with NaN or infinite values.

    Raises:
        NotFiniteError: the message names the first of these tensors.
    """
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise NotFiniteError(
            f"the weights of {source} are NaN or infinite: {bad[0]}{more}",
            "the training they come from diverged: train again with a lower learning rate (--lr)",
        )


def check_kind(path: Path) -> bytes:
    """Return the first bytes of a file that may hold weights.

    Raises:
        DeviceError: it is missing, or plainly something else.
    """
    if not path.is_file():
        raise DeviceError(
            f"there is no weights file {path}", "give a .safetensors, .pth or run.h5 file, imagenet, dlib, timm or none"
        )
    start = _begins(path, 512)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        raise DeviceError(f"{path} is empty", _AGAIN)
    if start.startswith(_LFS):
        raise DeviceError(
            f"{path} is a Git LFS pointer, which stands for the file",
            "fetch the file itself: run git lfs pull where it was cloned",
        )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        raise DeviceError(
            f"{path} is a web page: the server answered the download with a page instead of the file",
            "open its address in a browser, and save the file that is offered there",
        )
    if text.startswith(b"{"):
        raise DeviceError(f"{path} is JSON text: the server may have answered the download with an error", _AGAIN)
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd")):
        raise DeviceError(f"{path} is a compressed archive", "unpack it, and name the weights file inside")
    return start


def _begins(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _of_run(path: Path) -> dict[str, Tensor]:
    run = artefact.read(path, "run")
    best = run.params.get("train", {}).get("select_on", "last") != "last"
    arrays = (best and run.group("weights/best")) or run.group("weights/last")
    return {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}


@contextmanager
def _safetensors(path: Path) -> Iterator:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as e:
        said = " ".join(str(e).split()).removeprefix("Error while deserializing header: ")
        if _begins(path, 9)[8:] == b"{":
            raise DeviceError(f"{path} is damaged or not all there: {said}", _AGAIN) from e
        raise DeviceError(f"{path} is no safetensors file: {said}", "give a .safetensors, .pth or run.h5 file") from e


def _of_checkpoint(path: Path) -> dict[str, Tensor]:
    if _begins(path, 2) == b"PK":
        _check_archive(path)
    elif tarfile.is_tarfile(path):
        raise DeviceError(f"{path} is a tar archive", "unpack it, and name the weights file inside")
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:  # of a path torch reads the ending
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as e:  # torch raises errors of every kind for what it will not load, with advice to unpickle it
        raise _not_loaded(path, e) from e
    tensors = _tensors(loaded, path)
    if not tensors:
        raise DeviceError(f"{path} holds no tensors by name", _STATE_DICT)
    return tensors


def _check_archive(path: Path) -> None:
    """Refuse ZIP archives that PyTorch did not write, or that are not as it wrote them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = {entry.filename.rpartition("/")[2] for entry in entries}
            if "constants.pkl" in names:
                raise DeviceError(
                    f"{path} is a TorchScript program, not weights",
                    "save its tensors alone: torch.save(torch.jit.load(FILE).state_dict(), OTHER)",
                )
            if "data.pkl" not in names:
                raise DeviceError(f"{path} is a ZIP archive", "unpack it, and name the weights file inside")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise DeviceError(f"{path} is compressed, which PyTorch's own files are not", _STATE_DICT)
            if damaged := archive.testzip():
                raise DeviceError(f"{path} is damaged: the checksum of {damaged} does not match", _AGAIN)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as e:
        raise DeviceError(f"{path} is damaged or not all there: the end of the archive is missing", _AGAIN) from e


def _not_loaded(path: Path, error: Exception) -> DeviceError:
    """Return what to say of a file that torch does not load."""
    said = f"{error} {error.__cause__ or ''} {error.__context__ or ''}"
    if isinstance(error, EOFError) or re.search("unexpected EOF|truncated|ran out of input", said, re.I):
        return DeviceError(f"{path} is damaged or not all there: its end is missing", _AGAIN)
    if found := re.search(r"GLOBAL ([\w.]+)", said):
        return DeviceError(
            f"{path} holds Python objects ({found[1]}) beside tensors or in their place, which are never unpickled",
            _STATE_DICT,
        )
    if _begins(path, 1) == b"\x80" or "Unsupported operand" in said:
        return DeviceError(f"{path} holds pickled Python objects, which are never unpickled", _STATE_DICT)
    return DeviceError(f"{path} is no PyTorch file", "give a .safetensors, .pth or run.h5 file")


def _tensors(loaded: object, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, out of whatever they are wrapped in."""
    while isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    tensors = {}
    for name, tensor in loaded.items() if isinstance(loaded, Mapping) else ():
        if not isinstance(tensor, Tensor) or not isinstance(name, str):
            continue
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.is_quantized:
            raise DeviceError(f"{path}: {name} is no dense tensor with values", _STATE_DICT)
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DeviceError(f"{path}: {name} claims {tensor.numel():,} values, more than the file holds", _AGAIN)
        tensors[name] = tensor
    return tensors
