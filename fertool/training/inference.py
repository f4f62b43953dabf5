"""The forward pass over many faces, for validation and for predictions."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fertool.errors import NotFiniteError
from fertool.models.base import FerModel, Output
from fertool.training.data import Pixels
from fertool.training.transforms import cut_boxes, sample_views, view_transforms


def network_boxes(net: FerModel, boxes: Tensor, face: tuple[int, int]) -> Tensor:
    """Return those of the region boxes (N, K, 4) that the network uses; `face`: height and width of stored faces."""
    if net.input.crop:
        return cut_boxes(len(boxes), face, net.input.size)
    used = net.regions_used
    return boxes if used is None else boxes[:, list(used)]


@torch.inference_mode()
def infer(
    net: FerModel, forward: Callable[[Tensor], Output], pixels: Pixels, boxes: Tensor, rows: Tensor, batch: int
) -> Iterator[tuple[Tensor, Output]]:
    """Run a network over rows of a faces file, upright and unmirrored.

    Args:
        net: the network itself, which says what views it wants. Put in eval mode here.
        forward: what is called: the network, or a wrapper with its own precision.
        boxes: (all rows, K, 4) region boxes.
        rows: (N,) rows to run over.

    Yields:
        (rows of the batch, output), in order.
    """
    net.eval()
    parts = rows.split(batch) if len(rows) else ()
    for part, images in zip(parts, pixels.batches(parts), strict=True):
        yield part, show(net, forward, images, boxes[part])


def require_finite_outputs(run: str, names: Sequence[str], precision: str, outputs: Mapping[str, np.ndarray]) -> None:
    """Refuse what a network gives for some faces if it is no number.

    Args:
        names: of the faces, for the message.
        outputs: logits, and attention by name; the first axis of each is that of the faces.

    Raises:
        NotFiniteError: the message names the first such face.
    """
    for output, values in outputs.items():
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(names), -1).all(axis=1))
        if len(bad):
            hint = "its weights are finite but too large: train again with a lower learning rate (--lr)"
            raise NotFiniteError(
                f"{run}: {output.replace('_', ' ')} of {len(bad)} of {len(names)} faces are NaN or infinite, first of "
                f"{names[bad[0]]}",
                hint if precision == "32" else f"precision {precision} may have too small a range: --precision 32",
            )


def show(net: FerModel, forward: Callable[[Tensor], Output], images: Tensor, boxes: Tensor) -> Output:
    """Return what a network says of faces (N, C, H, W) as they are stored, with all their region boxes (N, K, 4)."""
    transforms = view_transforms(network_boxes(net, boxes, (images.shape[2], images.shape[3])), None).to(images.device)
    return forward(sample_views(images, transforms, net.input))
