"""Files that compute: ONNX graphs, TorchScript programs, and functions in Python files.

A predictor is called with a batch as its declared preprocessing makes it, and gives (N, outputs). What it raises
becomes an error of one line that names the file.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fertool.artefact import one_line
from fertool.errors import ArtefactError, DeviceError, FertoolError, UsageError, out_of_memory
from fertool.plugins import sources

_TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64, "uint8": np.uint8}

Predictor = Callable[[Tensor], Any]


def graph_session(data: bytes, name: str) -> Any:
    """Return an onnxruntime session of an ONNX file, on the CPU.

    Args:
        data: the file.
        name: of the file, for messages.

    Raises:
        DeviceError: onnxruntime is missing or does not load the file.
    """
    if find_spec("onnxruntime") is None:
        raise DeviceError(f"{name} needs onnxruntime", "run: pip install 'fertool[export]'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised, too
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime has a class of its own for every kind
        if problem := out_of_memory(e):
            raise problem from e
        raise DeviceError(
            f"onnxruntime does not load {name}: {one_line(e)[:200]}",
            "weights must lie inside the file, not beside it; compare its size with the original's",
        ) from e


class OnnxGraph:
    """A graph of one image input, run by onnxruntime on the CPU.

    Attributes:
        shape: of its input, None for sizes that are free.
        facts: metadata.
    """

    def __init__(self, data: bytes, name: str, output: str = ""):
        """Load a graph.

        Args:
            data: the file.
            name: of the file, for messages.
            output: which of the outputs to give; "" for the first.

        Raises:
            DeviceError: onnxruntime is missing or does not load the file.
            UsageError: it has several inputs, one that is no image, or no output of that name.
        """
        self._session = graph_session(data, name)
        inputs, names = self._session.get_inputs(), [o.name for o in self._session.get_outputs()]
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            described = ", ".join(f"{i.name} {list(i.shape)}" for i in inputs)
            raise UsageError(f"{name} does not take one batch of images: its inputs are {described}", _WRAP)
        if output and output not in names:
            raise UsageError(f"{name} has no output {output!r}", f"known: {', '.join(names)}")
        self._input, self._output = inputs[0].name, output or names[0]
        kind = inputs[0].type.removeprefix("tensor(").removesuffix(")")
        if kind not in _TYPES:
            raise UsageError(f"the input of {name} is of type {kind}, no image", _WRAP)
        self._type = _TYPES[kind]
        self.shape = [n if isinstance(n, int) and n > 0 else None for n in inputs[0].shape]
        self.facts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, batch: Tensor) -> np.ndarray:
        """Run the graph; one of a fixed batch size in pieces of that size."""
        given = batch.cpu().numpy().astype(self._type)
        if (size := self.shape[0]) is None:
            return self._run(given)
        padded = np.concatenate([given, np.repeat(given[-1:], -len(given) % size, axis=0)])
        return np.concatenate([self._run(padded[i : i + size]) for i in range(0, len(padded), size)])[: len(given)]

    def _run(self, batch: np.ndarray) -> np.ndarray:
        return self._session.run([self._output], {self._input: batch})[0]


_WRAP = "call it in a function of yours: fertool adopt FILE.py:FUNCTION"


class Program:
    """A TorchScript program, in evaluation mode, on the device of its batch."""

    def __init__(self, data: bytes, name: str, output: str = ""):
        """Load a program.

        Raises:
            DeviceError: torch does not load it.
        """
        try:
            with warnings.catch_warnings(action="ignore"):  # newer torch would rather have programs of another kind
                self._module = torch.jit.load(BytesIO(data), map_location="cpu").eval()
        except Exception as e:
            if problem := out_of_memory(e):
                raise problem from e
            raise DeviceError(f"{name} is no TorchScript program that torch loads: {_last_line(e)}", _WRAP) from e
        self._output = output

    def __call__(self, batch: Tensor) -> Any:
        return _chosen(self._module.to(batch.device)(batch), self._output)


class Function:
    """A function of the user's from RGB faces (N, H, W, 3) uint8 to (N, classes) probabilities."""

    def __init__(self, data: bytes, reference: str, output: str = ""):
        """Load a function.

        Args:
            data: its file as it was when the function was adopted.
            reference: FILE.py:FUNCTION.

        Raises:
            UsageError: the user has not named it, it is not there, cannot be imported or called.
            ArtefactError: the file has changed since.
        """
        self._function, self._output = load_function(reference), output
        if source_of(reference) != data:
            raise ArtefactError(
                f"{reference} has changed since it was adopted",
                "put the old file back, or adopt it again: fertool adopt FILE.py:FUNCTION --overwrite",
            )

    def __call__(self, batch: Tensor) -> Any:
        with redirect_stdout(sys.stderr):  # stdout is for fertool's own output
            return _chosen(self._function(batch.cpu().numpy().astype(np.uint8)), self._output)


def load_function(reference: str) -> Callable[[np.ndarray], Any]:
    """Return the function that a reference names.

    Raises:
        UsageError: the user has not named it, it is not there, cannot be imported or is no function.
    """
    function = sources.load(reference, "function")
    if not callable(function):
        raise UsageError(f"{reference} is no function", "name one that takes faces (N, H, W, 3) uint8")
    return function


def source_of(reference: str) -> bytes:
    """Return the file of a function that has been loaded."""
    where = sources.allowed()[sources.stored(reference)].rpartition(":")[0]
    path = where if where.endswith(".py") else sys.modules[where].__file__
    with open(str(path), "rb") as file:
        return file.read()


KINDS: Mapping[str, type] = {"onnx": OnnxGraph, "torchscript": Program, "function": Function}


@contextmanager
def one_line_errors(name: str, batch: Tensor) -> Iterator[None]:
    """Turn what a predictor raises into an error of one line."""
    try:
        yield
    except FertoolError:
        raise
    except Exception as e:
        if problem := out_of_memory(e):
            raise problem from e
        shape = " × ".join(map(str, batch.shape))
        raise DeviceError(
            f"{name} fails on a batch of {shape}: {type(e).__name__}: {_last_line(e)}",
            "check --size, --colour and --layout; --debug shows where",
        ) from e


def as_outputs(values: Any, name: str, faces: int, classes: int) -> Tensor:
    """Return what a predictor gave as (faces, classes) float32.

    Raises:
        DeviceError: it is something else, or NaN or infinite.
    """
    try:
        outputs = torch.as_tensor(values).detach().float()
    except (TypeError, ValueError, RuntimeError) as e:
        raise DeviceError(
            f"{name} gives no numbers but {type(values).__name__}", "it has to give an array (N, classes)"
        ) from e
    if outputs.ndim > 2:
        outputs = outputs.flatten(1)
    if outputs.ndim < 2 or len(outputs) != faces:
        raise DeviceError(
            f"{name} gives an array of shape {tuple(outputs.shape)} for {faces} faces", "it has to give (N, classes)"
        )
    if outputs.shape[1] != classes:
        raise DeviceError(
            f"{name} gives {outputs.shape[1]} numbers per face, and {classes} classes are named",
            "name all of them with --classes, in their order; --output names another output",
        )
    if bad := int((~outputs.isfinite()).any(1).sum()):
        raise DeviceError(
            f"{name}: the outputs of {bad} of {faces} faces are NaN or infinite", "check --pixels, mean and std"
        )
    return outputs


def _chosen(result: Any, output: str) -> Any:
    """Return one output of several."""
    if isinstance(result, Mapping):
        if output and output not in result:
            raise UsageError(f"there is no output {output!r}", f"known: {', '.join(map(str, result))}")
        return result[output] if output else next(iter(result.values()))
    return result[0] if isinstance(result, tuple) else result


def _last_line(e: Exception) -> str:
    """Return the last line of an error: TorchScript's begin with a traceback."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(e).__name__
