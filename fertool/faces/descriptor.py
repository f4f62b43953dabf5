"""Descriptors of faces: 128 numbers, close for one person, by dlib's face recognition network (King, 2017)."""

from collections.abc import Sequence

import numpy as np
import torch

from fertool.backbones.dlib_resnet import DLIB, DlibResNet29, tensors, weights_file
from fertool.faces.align import align, warp

#: Euclidean distance below which two descriptors count as one person's; so the network was trained
SAME_PERSON = 0.6

_TEMPLATE, _SIZE = "dlib-chip", 150


class Descriptor:
    """dlib's network with its last linear layer, on faces cut out as dlib does (to 4e-7 the numbers that dlib gives).

    Args:
        device: where it runs.

    Raises:
        DeviceError: the file of its weights is missing or damaged.
    """

    length = 128

    def __init__(self, device: str = "cpu"):
        file = weights_file()
        net = DlibResNet29()
        net.load_state_dict(tensors(file))
        self._net = net.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        self._last = torch.from_numpy(np.array(file.layers[-1].weight)).to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, landmarks: Sequence[np.ndarray]) -> np.ndarray:
        """Return the descriptors (n, 128) of faces in an (H, W, 3) RGB image; NaN where landmarks coincide.

        Args:
            landmarks: (68, 2) of each face, in pixels.
        """
        described = np.full((len(landmarks), self.length), np.nan, np.float32)
        matrices = [align(marks, _TEMPLATE, _SIZE, "similarity") for marks in landmarks]
        chips = {i: warp(image, matrix, _SIZE) for i, matrix in enumerate(matrices) if matrix is not None}
        if chips:
            pixels = torch.from_numpy(np.stack(list(chips.values()))).permute(0, 3, 1, 2).to(self._device)
            mean, std = (torch.tensor(v, device=self._device)[:, None, None] for v in (DLIB.mean, DLIB.std))
            described[list(chips)] = (self._net((pixels / 255 - mean) / std) @ self._last).float().cpu().numpy()
        return described
