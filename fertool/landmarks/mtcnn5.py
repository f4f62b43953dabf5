"""MTCNN's five landmarks."""

import numpy as np

from fertool.faces.align import apply, crop, invert, warp
from fertool.landmarks.base import DEFAULTS, LandmarkModel, Options


class Mtcnn5(LandmarkModel):
    """The last of MTCNN's three networks, which refines a box and places eye centres, nose tip and mouth corners."""

    name = "mtcnn5"
    points = 5
    uses_torch = True

    _SIZE = 48

    def __init__(self, options: Options = DEFAULTS):
        super().__init__(options)
        from facenet_pytorch.models.mtcnn import ONet

        self._net = ONet().eval().to(options.device)

    def place(
        self,
        image: np.ndarray,
        box: np.ndarray,
        points: np.ndarray | None,
        detector: str,
        given: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the landmarks (5, 2), see the base class."""
        if points is not None:
            return points
        import torch

        to_cut_out = crop(box, self._SIZE)
        pixels = torch.from_numpy(warp(image, to_cut_out, self._SIZE)).to(self.options.device)
        with torch.no_grad():
            _, points, _ = self._net((pixels.permute(2, 0, 1)[None].float() - 127.5) / 128)
        fractions = points[0].cpu().numpy().reshape(2, 5).T.astype(np.float64)
        return apply(invert(to_cut_out), fractions * self._SIZE - 0.5)
