"""ONNX files that `fertool export` wrote: faces and region boxes in, what the network gives out."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fertool.adopted.predictors import graph_session
from fertool.models.base import Output

_ATTENTION = "attention_"


class ExportedGraph:
    """An exported network, which cuts regions, resizes and normalises itself; run by onnxruntime on the CPU.

    Attributes:
        facts: metadata of the file.
    """

    def __init__(self, data: bytes, name: str):
        """Load the bytes of a file.

        Args:
            name: of the file, for messages.

        Raises:
            DeviceError: onnxruntime is missing or does not load the file.
        """
        self._session = graph_session(data, name)
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        self.facts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, faces: Tensor, boxes: Tensor) -> Output:
        """Run the graph.

        Args:
            faces: (N, C, H, W) uint8, as detect-align makes them.
            boxes: (N, K, 4) fractions; read by graphs whose regions differ from face to face.
        """
        given = {"faces": faces.cpu().float().numpy(), "boxes": boxes.cpu().float().numpy()}
        values = self._session.run(self._outputs, {name: given[name] for name in self._inputs})
        named = {name: torch.from_numpy(value) for name, value in zip(self._outputs, values, strict=True)}
        attention = {k.removeprefix(_ATTENTION): v for k, v in named.items() if k.startswith(_ATTENTION)}
        return Output(named["logits"], attention)
