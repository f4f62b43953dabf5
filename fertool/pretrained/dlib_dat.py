"""Reader of networks as dlib serialises them (`.dat` files), checked and bounded; nothing in a file is executed.

An integer is one byte, its length with the sign in the top bit, and that many little-endian bytes. A float is two
integers, mantissa and exponent of 2. Text is a length and UTF-8 bytes, a truth value the character 0 or 1, a tensor a
version, four dimensions and float32 values. A network is its loss, one version number per layer from the output to the
input, the input layer, and then every layer's parameters from the input to the output.

Read are the layers and losses of dlib's two released face networks, which the package face_recognition_models installs.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fertool.errors import DeviceError

#: largest file that is read; dlib's networks of faces have 0.7 and 22 MB
_LARGEST_FILE = 256 * 2**20

#: layers of the deepest network that is read; dlib's ResNet has 130
_MOST_LAYERS = 1000


def model_file(name: str) -> Path:
    """Return a file of the package face_recognition_models, found without importing it (it needs pkg_resources).

    Raises:
        DeviceError: the package or the file is missing.
    """
    spec = find_spec("face_recognition_models")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "models" / name
        if path.is_file():
            return path
    raise DeviceError(f"the model {name} is missing", "run: pip install face_recognition_models")


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes:
        kind: "con", "affine", "fc", "relu", "max_pool", "avg_pool", "add_prev", or "tag" (no computation: a place that
            other layers refer to).
        shape: of "con" filters, height, width, stride y and x, padding y and x; of a pooling the same without filters
            (height and width 0: the whole map); of "fc" outputs and inputs; else empty.
        weight: "con" (out, in, h, w), "fc" (in, out), "affine" (channels,); float32.
        bias: (out,) or (channels,) float32, None for "fc" without.
    """

    kind: str
    shape: tuple[int, ...] = ()
    weight: np.ndarray | None = field(default=None, compare=False)
    bias: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Network:
    """A network as a file holds it.

    Attributes:
        sha256: of the file, in hexadecimal digits.
        loss: its name, and the numbers that decide its results: see `_LOSSES`.
        input: its name, `mean` (3,) that is subtracted from RGB pixels before they are divided by 256, and `size`,
            (height, width) where the network has a size of its own.
        layers: from the input to the output.
    """

    path: Path
    sha256: str
    loss: dict[str, Any]
    input: dict[str, Any]
    layers: tuple[Layer, ...]

    def require(self, what: str, layers: list[Layer], sha256: str) -> None:
        """Check that this is one certain network, as it was released.

        Raises:
            DeviceError: it has other layers, or its file another digest.
        """
        if list(self.layers) != layers:
            raise _refusal(self.path, f"holds another network than {what}")
        if self.sha256 != sha256:
            raise _refusal(self.path, f"is damaged: its SHA-256 is {self.sha256}, that of {what} {sha256}")


def read(path: Path) -> Network:
    """Read a network of a kind that dlib's face networks are made of.

    Raises:
        DeviceError: the file is missing, truncated or damaged, or no such network.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST_FILE:
            raise _refusal(path, f"has {size:,} bytes, more than any network that is read from such files")
        data = path.read_bytes()
    except OSError as e:
        raise _refusal(path, f"cannot be read: {e.strerror}") from e
    stream = _Stream(data)
    try:
        loss, source, layers = _network(stream)
    except _Damage as e:
        raise _refusal(path, f"is no network of dlib's, or damaged: {e} at byte {stream.at:,}") from e
    return Network(path, hashlib.sha256(data).hexdigest(), loss, source, layers)


def _refusal(path: Path, what: str) -> DeviceError:
    return DeviceError(f"{path} {what}", "run: pip install --force-reinstall face_recognition_models")


class _Damage(Exception):
    """The bytes at hand are not what has to stand there."""


class _Stream:
    """The primitives of dlib's serialisation, from bytes in memory."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise _Damage(f"the file ends where {count:,} bytes should follow")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self, low: int = -(2**63), high: int = 2**63) -> int:
        head = self.take(1)[0]
        length, negative = head & 0x0F, bool(head & 0x80)
        if head & 0x70 or not 1 <= length <= 8:
            raise _Damage(f"{head} is no length of an integer")
        value = int.from_bytes(self.take(length), "little") * (-1 if negative else 1)
        if not low <= value <= high:
            raise _Damage(f"the number {value} where {low} to {high} is possible")
        return value

    def integers(self, count: int, high: int = 2**16) -> tuple[int, ...]:
        return tuple(self.integer(0, high) for _ in range(count))

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer(-1100, 1000)  # beyond: infinite, or no number
        return mantissa * 2.0**exponent

    def reals(self, count: int) -> tuple[float, ...]:
        return tuple(self.real() for _ in range(count))

    def truth(self) -> bool:
        if (byte := self.take(1)) not in (b"0", b"1"):
            raise _Damage(f"{byte!r} is no truth value")
        return byte == b"1"

    def text(self) -> str:
        return self.take(self.integer(0, 64)).decode("ascii", "replace")

    def tensor(self) -> np.ndarray:
        """Return (samples, channels, rows, columns) float32."""
        self.integer(2, 2)
        shape = self.integers(4, len(self.data))
        values = np.frombuffer(self.take(4 * int(np.prod(shape, dtype=object))), "<f4").reshape(shape)
        if not np.isfinite(values).all():
            raise _Damage("weights that are no numbers")
        return values

    def window(self) -> tuple[int, ...]:
        """Return the dimensions of a part of a tensor."""
        self.integer(1, 1)
        return self.integers(4, len(self.data))


def _network(s: _Stream) -> tuple[dict, dict, tuple[Layer, ...]]:
    s.integer(1, 1)
    loss = _named(s, _LOSSES, "loss")
    versions = [s.integer(1, 3)]
    while versions[-1] != 3:  # the layer on the input
        versions.append(s.integer(1, 3))
        if len(versions) > _MOST_LAYERS:
            raise _Damage(f"more than {_MOST_LAYERS} layers")
    source = _named(s, _INPUTS, "input layer")
    layers = []
    for version in reversed(versions):
        if version == 1:
            layers.append(Layer("tag"))
            continue
        layers.append(_named(s, _LAYERS, "layer"))
        for _ in range(3):  # whether it was set up and its gradient is used
            s.truth()
        for _ in range(3):  # gradients and output: kept only while training
            s.tensor()
        if version == 3:
            s.integer(1, 1)  # copies of each sample
    if s.at != len(s.data):
        raise _Damage("more bytes follow the last layer")
    return loss, source, tuple(layers)


def _named(s: _Stream, kinds: Mapping[str, Callable[[_Stream], Any]], what: str) -> Any:
    """Return what the text at hand names, read by the function of that name."""
    if (name := s.text()) not in kinds:
        raise _Damage(f"{name!r} is no {what} that can be read")
    found = kinds[name](s)
    return {"name": name, **found} if isinstance(found, dict) else found


def _mmod(s: _Stream) -> dict[str, Any]:
    """Read max-margin object detection (King, 2015): the sliding window and when two boxes are one face."""
    s.integer(1, 1)
    width, height = s.integer(1, 2**16), s.integer(1, 2**16)
    s.reals(3)  # costs of mistakes while training
    overlap = dict(zip(("overlap", "covered"), s.reals(2), strict=True))
    s.reals(2)  # overlap with regions that training ignored
    return {"window": (width, height), **overlap}


def _metric(s: _Stream) -> dict[str, Any]:
    """Read metric learning: margin and the distance below which two descriptors are one person."""
    return dict(zip(("margin", "distance"), s.reals(2), strict=True))


def _rgb(s: _Stream) -> dict[str, Any]:
    return {"mean": s.reals(3)}


def _sized_rgb(s: _Stream) -> dict[str, Any]:
    return {"mean": s.reals(3), "size": s.integers(2)}


def _con(s: _Stream) -> Layer:
    values, shape = s.tensor().ravel(), s.integers(7)
    weight, bias = _parts(s, values)
    if weight[0] != shape[0] or weight[2:] != shape[1:3] or bias != (1, shape[0], 1, 1):
        raise _Damage(f"filters {weight} of a convolution {shape}")
    count = int(np.prod(weight))
    s.reals(4)  # learning rates
    return Layer("con", shape, values[:count].reshape(weight), values[count:])


def _fc(s: _Stream) -> Layer:
    outputs, inputs = s.integer(1, 2**16), s.integer(1, 2**16)
    values = s.tensor().ravel()
    weight, bias = _parts(s, values)
    biased = s.integer(0, 1) == 0
    if weight != (inputs, outputs, 1, 1) or np.prod(bias) != biased * outputs:
        raise _Damage(f"weights {weight} of a layer of {inputs} inputs and {outputs} outputs")
    s.reals(4)
    count = inputs * outputs
    return Layer("fc", (outputs, inputs), values[:count].reshape(inputs, outputs), values[count:] if biased else None)


def _affine(s: _Stream) -> Layer:
    values = s.tensor().ravel()
    scale, shift = _parts(s, values)
    s.integer(0, 0)  # per channel
    return Layer("affine", (), *_halves(values, scale, shift))


def _bn_con(s: _Stream) -> Layer:
    """Read batch normalisation, as the affine layer that it is at test time."""
    values = s.tensor().ravel()
    scale, shift = _halves(values, *_parts(s, values))
    s.tensor(), s.tensor()  # mean and deviation of the last batch
    mean, variance = s.tensor().ravel(), s.tensor().ravel()
    s.integers(2, 2**62)  # updates, and their window
    *_, eps = s.reals(5)
    if mean.shape != scale.shape or variance.shape != scale.shape or not (variance + eps > 0).all():
        raise _Damage("statistics that are none of a batch")
    weight = (scale / np.sqrt(variance + np.float32(eps))).astype(np.float32)
    return Layer("affine", (), weight, shift - weight * mean)


def _parts(s: _Stream, values: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the two parts of a layer's parameters."""
    first, second = s.window(), s.window()
    if sum(int(np.prod(shape, dtype=object)) for shape in (first, second)) != values.size:
        raise _Damage(f"{values.size:,} parameters for parts {first} and {second}")
    return first, second


def _halves(values: np.ndarray, scale: tuple[int, ...], shift: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    if scale != shift or scale != (1, values.size // 2, 1, 1):
        raise _Damage(f"scales {scale} and shifts {shift} of {values.size:,} values")
    return values[: values.size // 2], values[values.size // 2 :]


def _pool(kind: str) -> Callable[[_Stream], Layer]:
    return lambda s: Layer(kind, s.integers(6))


_LOSSES = {"loss_mmod_": _mmod, "loss_metric_2": _metric}
_INPUTS = {"input_rgb_image_pyramid": _rgb, "input_rgb_image_sized": _sized_rgb}
_LAYERS = {
    "con_4": _con,
    "affine_": _affine,
    "bn_con2": _bn_con,
    "fc_2": _fc,
    "relu_": lambda _: Layer("relu"),
    "add_prev_": lambda _: Layer("add_prev"),
    "max_pool_2": _pool("max_pool"),
    "avg_pool_2": _pool("avg_pool"),
}
