"""Head pose by 6DRepNet with its published weights, which fertool neither carries nor fetches.

Hempel, Abdelrahman & Al-Hamadi, "6D Rotation Representation for Unconstrained Head Pose Estimation", ICIP 2022.

The network is RepVGG-B1g2 (Ding et al., CVPR 2021) in the form for inference, every block a 3 x 3 convolution and a
ReLU, and a linear layer to the first two columns of a rotation matrix.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fertool.errors import DeviceError
from fertool.faces.align import warp
from fertool.pretrained.files import read_tensors

_STAGES = ((128, 4), (256, 6), (512, 16), (2048, 1))  # width, blocks
_MARGIN, _SIZE = 0.2, 224
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Network(nn.Module):
    """(N, 3, 224, 224) → (N, 3, 3) rotation matrices. Parameters have the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = _Block(3, 64, 2, 1)
        width, number = 64, 1
        for stage, (wide, blocks) in enumerate(_STAGES, start=1):
            layers = []
            for i in range(blocks):  # every second convolution is in two groups
                layers.append(_Block(width, wide, 1 if i else 2, 1 if number % 2 else 2))
                width, number = wide, number + 1
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear_reg = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        for stage in range(5):
            x = getattr(self, f"layer{stage}")(x)
        first, second = self.linear_reg(x.mean(dim=(2, 3))).split(3, dim=1)
        first = nn.functional.normalize(first, dim=1)
        third = nn.functional.normalize(torch.linalg.cross(first, second), dim=1)
        return torch.stack([first, torch.linalg.cross(third, first), third], dim=2)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, step: int, groups: int):
        super().__init__()
        self.rbr_reparam = nn.Conv2d(inputs, outputs, 3, step, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.rbr_reparam(x).relu()


class SixDRepNet:
    """Estimates head pose with 6DRepNet.

    Args:
        weights: the file of a state_dict of `Network`.

    Raises:
        DeviceError: there is no such file, or it is of another network.
    """

    def __init__(self, weights: str, device: str = "cpu"):
        net, tensors = Network(), read_tensors(Path(weights))
        own = {name: tensor.shape for name, tensor in net.state_dict().items()}
        if own != {name: tensor.shape for name, tensor in tensors.items()}:
            raise DeviceError(
                f"{weights} does not hold 6DRepNet's weights",
                "give its authors' file for inference (RepVGG-B1g2, tensors named rbr_reparam and linear_reg)",
            )
        net.load_state_dict(tensors)
        self._net, self._device = net.eval().to(device), device

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[np.ndarray],
        landmarks: Sequence[np.ndarray | None],
        detector: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, 3) pitch, yaw and roll in degrees of the faces in boxes of (H, W, 3) images, and (n,) NaN.

        The network estimates no error.
        """
        cut = np.stack([_cut(image, box) for image, box in zip(images, boxes, strict=True)])
        pixels = torch.from_numpy(cut).to(self._device).permute(0, 3, 1, 2).float() / 255
        mean, sd = (torch.tensor(v, device=self._device).view(3, 1, 1) for v in (_MEAN, _SD))
        with torch.no_grad():
            matrices = self._net((pixels - mean) / sd).double().cpu().numpy()
        return np.array([angles(matrix) for matrix in matrices]), np.full(len(cut), np.nan)


def angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Return pitch, yaw and roll of its rotation matrix in fertool's signs; its yaw is positive to the image's left."""
    pitch = np.arctan2(matrix[2, 1], matrix[2, 2])
    yaw = np.arctan2(matrix[2, 0], np.hypot(matrix[0, 0], matrix[1, 0]))
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    return float(np.degrees(pitch)), float(np.degrees(yaw)), float(np.degrees(roll))


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the middle square of the box widened by a fifth of its sides, as in the authors' demonstration."""
    width, height = box[2] - box[0], box[3] - box[1]
    side = min(width + 2 * _MARGIN * height, height + 2 * _MARGIN * width)
    scale = _SIZE / side
    x, y = (_SIZE - 1) / 2 - scale * (box[:2] + box[2:]) / 2
    return warp(image, np.array([[scale, 0, x], [0, scale, y]]), _SIZE)
