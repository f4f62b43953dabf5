"""The convolutions of MTCNN's last network (Zhang et al., 2016), whose features also tell head pose.

They have seen very many images of faces from all sides, small and blurred ones too. The weights are those of the
package facenet-pytorch; its file is read here without importing the package, which takes seconds.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from fertool.errors import DeviceError

#: side of the pictures, and how many features each gives
SIDE, FEATURES = 48, 1152

#: images whose maps fit a CPU's cache together
_CPU_BATCH = 16

# name of each layer, and the size and step of the maximum taken after it
_LAYERS = (("1", 3, 2), ("2", 3, 2), ("3", 2, 2), ("4", 1, 1))


@torch.inference_mode()
def features(faces: Tensor) -> Tensor:
    """Return (n, 1152) float32 features of grey images (n, 48, 48), 0..255, on their device.

    Raises:
        DeviceError: facenet-pytorch or its file is missing.
    """
    weights = _weights(str(faces.device))
    batch = _CPU_BATCH if faces.device.type == "cpu" else max(1, len(faces))
    return torch.cat([_features(part, weights) for part in faces.split(batch)])


def _features(faces: Tensor, weights: dict[str, Tensor]) -> Tensor:
    x = (faces.float() - 127.5) / 128
    # one channel, laid out as if channels came last: three times as fast on a CPU
    x = x.contiguous().as_strided((len(x), 1, SIDE, SIDE), (SIDE * SIDE, 1, SIDE, 1))
    for name, size, step in _LAYERS:
        x = F.conv2d(x, weights[f"conv{name}.weight"], weights[f"conv{name}.bias"])
        x = F.prelu(x, weights[f"prelu{name}.weight"])
        x = F.max_pool2d(x, size, step, ceil_mode=True) if size > 1 else x
    return x.flatten(1)


@lru_cache(4)
def _weights(device: str) -> dict[str, Tensor]:
    spec = find_spec("facenet_pytorch")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "data/onet.pt" if folders else None
    if path is None or not path.is_file():
        raise DeviceError("head pose needs MTCNN's last network", "run: pip install facenet-pytorch")
    tensors = torch.load(path, weights_only=True, map_location=device)
    tensors["conv1.weight"] = tensors["conv1.weight"].sum(dim=1, keepdim=True)  # red, green and blue are the same
    return {
        name: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t.contiguous()
        for name, t in tensors.items()
        if name.startswith(("conv", "prelu"))
    }
