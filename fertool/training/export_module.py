"""A trained network and the last steps before it as one module that needs nothing of fertool: what export writes."""

from typing import cast

import torch
from torch import Tensor, nn

from fertool.models.base import Output
from fertool.regions.crops import WHOLE, boxes_of
from fertool.training.checkpoint import Trained
from fertool.training.inference import network_boxes
from fertool.training.transforms import sample_views, view_transforms


class Portable(nn.Module):
    """Faces as detect-align makes them → what the network says of them.

    Regions are cut, faces brought to the network's size and normalised inside.

    Attributes:
        inputs: "faces", (N, C, H, W) float, 0 to 255; where regions differ from face to face also "boxes", (N, K, 4)
            x0, y0, x1, y1 as fractions of the face.
        outputs: "logits" and "probabilities", (N, classes); "attention_NAME" for what the network looked at. Of a
            network that predicts no expressions its "output" instead of the first two.
    """

    def __init__(self, trained: Trained):
        super().__init__()
        self.net = trained.network()
        self.shape = trained.faces.shape
        regions = trained.regions
        self.views = len(trained.region_names)
        self.inputs: tuple[str, ...] = ("faces",)
        if regions is not None and regions.mode != "fixed":
            self.inputs = ("faces", "boxes")
        else:
            fixed = torch.tensor([[WHOLE]])
            if regions is not None:
                fixed = torch.from_numpy(boxes_of(regions, [""], None, self.shape[:2]).copy()).float()
            self.register_buffer("boxes", network_boxes(self.net, fixed, self.shape[:2]), persistent=False)
        with torch.no_grad():
            looked_at = self._show(*self.example(1)).attention
        first = ("logits", "probabilities") if self.net.classifies else ("output",)
        self.outputs = (*first, *(f"attention_{name}" for name in looked_at))
        self.eval()

    def example(self, n: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Return inputs for n faces: smooth noise, and crops at random."""
        random = torch.Generator().manual_seed(seed)
        height, width, channels = self.shape
        coarse = 255 * torch.rand(n, channels, 6, 6, generator=random)
        faces = nn.functional.interpolate(coarse, (height, width), mode="bilinear").round()
        if "boxes" not in self.inputs:
            return (faces,)
        low = 0.3 * torch.rand(n, self.views, 2, generator=random)
        boxes = torch.cat([low, low + 0.5], dim=2)
        boxes[:, 0] = torch.tensor(WHOLE)
        return faces, boxes

    def forward(self, faces: Tensor, boxes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return what `outputs` names, in that order."""
        output = self._show(faces, boxes)
        first = (output.logits, output.logits.softmax(1)) if self.net.classifies else (output.logits,)
        return (*first, *output.attention.values())

    def _show(self, faces: Tensor, boxes: Tensor | None = None) -> Output:
        if boxes is None:
            wanted = cast(Tensor, self.boxes).expand(faces.shape[0], -1, -1)
        else:
            wanted = network_boxes(self.net, boxes, self.shape[:2])
        return self.net(sample_views(faces, view_transforms(wanted, None), self.net.input))
