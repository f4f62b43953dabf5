"""A run's network at work on faces, where a figure needs more than the predictions hold."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fertool.artefact import Artefact
from fertool.models.base import FerModel, Output
from fertool.settings import Evaluate
from fertool.stages.evaluate import regions_of
from fertool.stages.evaluate.forward import load_network
from fertool.stages.visualize.inputs import Run
from fertool.training.data import Pixels, region_boxes
from fertool.training.devices import choose
from fertool.training.inference import infer

_BATCH = 32


@dataclass(frozen=True)
class Network:
    """A trained network, on a GPU if there is one, and the regions it looks at.

    Attributes:
        boxes: (rows of the faces, K, 4).
        regions: the file they come from, for networks with regions.
    """

    net: FerModel
    device: torch.device
    faces: Artefact
    boxes: Tensor
    regions: Artefact | None

    def images(self, rows: np.ndarray) -> Tensor:
        """Return (N, C, H, W) uint8 faces on the device."""
        return torch.from_numpy(np.array(self.faces["images"][rows])).to(self.device).permute(0, 3, 1, 2)

    def look(self, images: np.ndarray, rows: np.ndarray) -> Output:
        """Return the outputs for images (N, H, W, C) in place of the faces of these rows, on the CPU."""
        pixels = Pixels(images, torch.arange(len(images)), self.device)
        outputs = [o for _, o in infer(self.net, self.net, pixels, self.boxes[rows], torch.arange(len(images)), _BATCH)]
        attention = {k: torch.cat([o.attention[k].float().cpu() for o in outputs]) for k in outputs[0].attention}
        return Output(torch.cat([o.logits.float().cpu() for o in outputs]), attention)


def open_network(run: Run, faces: Artefact) -> Network:
    """Return the network of a run that was trained on these faces."""
    trained = run.run()
    regions = regions_of(trained, faces)
    net, _, device = load_network(trained, Evaluate(), choose(None), regions["boxes"].shape[1] if regions else 1)
    return Network(net, device, faces, region_boxes(faces, regions), regions)
