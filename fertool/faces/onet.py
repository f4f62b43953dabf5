"""The convolutions of MTCNN's last network (Zhang et al., 2016), without torch.

They have seen very many photographs of faces from all sides, small and blurred ones too. The weights are those of the
package facenet-pytorch; its file is read here as numbers only, because importing torch takes seconds that a data set
with boxes of its own need not wait.
"""

import pickle
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fertool.errors import DeviceError

#: side of the pictures, and how many features each gives
SIDE, FEATURES = 48, 1152

# name of each layer, and the size and step of the maximum taken after it
_LAYERS = (("1", 3, 2), ("2", 3, 2), ("3", 2, 2), ("4", 1, 1))


def features(faces: np.ndarray) -> np.ndarray:
    """(n, 1152) float32 of grey pictures (n, 48, 48), 0..255.

    Raises:
        DeviceError: facenet-pytorch or its file is missing.
    """
    weights = _weights()
    x = (np.repeat(faces[..., None].astype(np.float32), 3, axis=3) - 127.5) / 128
    for name, size, step in _LAYERS:
        x = _convolved(x, weights[f"conv{name}.weight"]) + weights[f"conv{name}.bias"]
        x = np.maximum(x, 0) + weights[f"prelu{name}.weight"] * np.minimum(x, 0)
        x = _highest(x, size, step) if size > 1 else x
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def _convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(n, h, w, c) under an (o, c, k, k) kernel, unpadded."""
    k = kernel.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    n, h, w = windows.shape[:3]
    return (windows.reshape(n * h * w, -1) @ kernel.reshape(len(kernel), -1).T).reshape(n, h, w, -1)


def _highest(x: np.ndarray, size: int, step: int) -> np.ndarray:
    """Maxima over windows that begin every `step` pixels; the last ones may reach over the edge."""
    n, h, w, c = x.shape
    rows, columns = (-(-(side - size) // step) + 1 for side in (h, w))
    wide = ((0, (rows - 1) * step + size - h), (0, (columns - 1) * step + size - w))
    x = np.pad(x, ((0, 0), *wide, (0, 0)), constant_values=-np.inf)
    ends = (slice(i, i + (rows - 1) * step + 1, step) for i in range(size))
    x = np.maximum.reduce([x[:, rows_at] for rows_at in ends])
    ends = (slice(i, i + (columns - 1) * step + 1, step) for i in range(size))
    return np.maximum.reduce([x[:, :, columns_at] for columns_at in ends])


@lru_cache(1)
def _weights() -> dict[str, np.ndarray]:
    spec = find_spec("facenet_pytorch")
    path = Path(spec.submodule_search_locations[0]) / "data/onet.pt" if spec else None
    if path is None or not path.is_file():
        raise DeviceError("head pose needs MTCNN's last network", "run: pip install facenet-pytorch")
    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol, machine
            _Numbers(file).load()
        tensors = _Numbers(file).load()
        stored = {}
        for key in _Numbers(file).load():
            (count,) = np.frombuffer(file.read(8), "<i8")
            stored[key] = np.frombuffer(file.read(4 * int(count)), "<f4")
    wanted = [f"{kind}{name}.{of}" for name, _, _ in _LAYERS for kind, of in _KINDS]
    return {name: _tensor(stored, *tensors[name]) for name in wanted}


_KINDS = (("conv", "weight"), ("conv", "bias"), ("prelu", "weight"))


def _tensor(stored: dict[str, np.ndarray], key: str, start: int, shape: tuple, steps: tuple) -> np.ndarray:
    view = np.lib.stride_tricks.as_strided(stored[key][start:], shape, [4 * s for s in steps], writeable=False)
    return np.ascontiguousarray(view)


class _Tensors(dict):
    """By name; remarks about the network may hang on it."""


class _Numbers(pickle.Unpickler):
    """Reads the older format of torch.save, and of what it names calls nothing but a dict and tuples."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return _Tensors
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, start, shape, steps, *_: (key, start, shape, steps)
        if (module, name) == ("torch", "FloatStorage"):
            return None
        raise DeviceError(f"MTCNN's weights name {module}.{name}", "reinstall: pip install facenet-pytorch")

    def persistent_load(self, named: tuple) -> str:
        return named[2]
