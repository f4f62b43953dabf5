"""dlib's max-margin CNN face detector (King, 2015) in PyTorch: dlib's own faces, on any device and in batches.

Seven convolutions slide over an image pyramid of ratio 5/6, whose levels lie side by side in one image; every position
of the output with a score over the threshold is a box of 80×80 pixels at its level. All of it follows dlib's code to
the pixel: what lies beside a level, and on which of the eight positions of the stride it begins, changes scores.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fertool.detectors.base import (
    DEFAULTS,
    Box,
    Detector,
    Faces,
    Options,
    View,
    doublings,
    from_rectangles,
    in_halves,
    view,
)
from fertool.pretrained import dlib_dat
from fertool.pretrained.dlib_dat import Layer

FILE = "mmod_human_face_detector.dat"
_SHA256 = "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6"

_GAP, _EDGE = 10, 11  # zeros between the levels of a pyramid and around them
_STRIDE, _CENTRE = 8, 14  # of the network: position p of the output looks at pixel 8 p + 14
_SEEN = 29  # side of the smallest image that has one position


class DlibCnn(Detector):
    """dlib's CNN. Faces have at least 80 pixels after `upsample` doublings.

    On 3,000 faces of FER+ (48×48) it detects 95.7 %; enlarged to 128 instead of 112 pixels 96.9 %, at a quarter more
    CPU time.
    """

    name = "dlib-cnn"
    uses_torch = True
    dlib_square = (0.078, 1.095)
    head = (0.143, 0.448)
    smallest = 112

    def __init__(self, options: Options = DEFAULTS):
        super().__init__(options)
        file = weights_file()
        self.batch = 16 if options.device == "cpu" else 64
        self._window, self._overlap = file.loss["window"], file.loss["overlap"]
        self._mean = torch.tensor(file.input["mean"], device=options.device)[:, None, None]
        self._net = _network(file).to(options.device).to(memory_format=torch.channels_last).eval()

    def detect(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterator[Faces]:
        """Yield the faces in each of some (H, W, 3) RGB images, which have one size.

        Raises:
            OutOfMemoryError: the memory does not suffice even for one of them.
        """
        views = [view(image, self.smallest) for image in images]
        times = doublings(views[0], self.options.upsample)
        pixels = [_doubled(v.pixels, times) for v in views]
        levels = _levels(*pixels[0].shape[:2])[0]
        for v, scores in zip(views, in_halves(self._scores, pixels), strict=True):
            yield self._faces(v, scores, levels, times)

    @torch.inference_mode()
    def _scores(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the network's output (h, w) over the pyramid of each image."""
        pixels = torch.from_numpy(np.stack(images)).to(self.options.device).permute(0, 3, 1, 2)
        with torch.backends.cudnn.flags(allow_tf32=False):  # its 10 bits would move scores by more than 0.001
            return list(self._net(_pyramid((pixels - self._mean) / 256)).squeeze(1).float().cpu().numpy())

    def _faces(self, v: View, scores: np.ndarray, levels: np.ndarray, times: int) -> Faces:
        rows, columns = np.nonzero(scores > self.options.threshold)
        found = scores[rows, columns].astype(np.float64)
        boxes = _boxes(np.stack([columns, rows], axis=1) * _STRIDE + _CENTRE, self._window, levels)
        kept = _suppress(boxes, found, self._overlap)
        boxes = boxes[kept]
        for _ in range(times):
            boxes = boxes / 2 - (1.25, 0.75, 1.25, 0.75)
        return from_rectangles(v, _rounded(boxes), found[kept])


def weights_file() -> dlib_dat.Network:
    """Read and check the installed file.

    Raises:
        DeviceError: it is missing, damaged, or another network.
    """
    file = dlib_dat.read(dlib_dat.model_file(FILE))
    file.require("dlib's face detector", _layers(), _SHA256)
    return file


def _layers() -> list[Layer]:
    """Return the layers that the file has to hold."""
    layers = []
    for filters, stride, padding in ((16, 2, 0), (32, 2, 0), (32, 2, 0), (45, 1, 2), (45, 1, 2), (45, 1, 2)):
        con = Layer("con", (filters, 5, 5, stride, stride, padding, padding))
        layers += [con, Layer("affine"), Layer("relu")]
    return [*layers, Layer("con", (1, 9, 9, 1, 1, 4, 4))]


def _network(file: dlib_dat.Network) -> nn.Sequential:
    """Return the convolutions, each with the affine layer that follows folded in."""
    modules: list[nn.Module] = []
    for layer in file.layers:
        if layer.kind == "con":
            out, h, w, down, right, pad_y, pad_x = layer.shape
            weight, bias = torch.tensor(layer.weight), torch.tensor(layer.bias)
            conv = nn.Conv2d(weight.shape[1], out, (h, w), (down, right), (pad_y, pad_x)).requires_grad_(False)
            conv.load_state_dict({"weight": weight, "bias": bias})
            modules.append(conv)
        elif layer.kind == "affine":
            scale, shift = torch.tensor(layer.weight), torch.tensor(layer.bias)
            conv.load_state_dict({"weight": weight * scale[:, None, None, None], "bias": bias * scale + shift})
        else:
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


def _doubled(image: np.ndarray, times: int) -> np.ndarray:
    """Return an image as dlib doubles it, by its own function: the result is rounded to bytes."""
    import dlib

    for _ in range(times):
        height, width = image.shape[:2]
        image = dlib.resize_image(np.ascontiguousarray(image), 2 * height + 1, 2 * width + 2)
    return image


def _pyramid(images: Tensor) -> Tensor:
    """Map (N, 3, H, W) to (N, 3, h, w): each image and its smaller copies, in the places that `_levels` gives."""
    levels, (height, width) = _levels(*images.shape[2:])
    tiled = images.new_zeros(*images.shape[:2], height, width).contiguous(memory_format=torch.channels_last)
    for x0, y0, x1, y1 in levels.tolist():
        if (size := (y1 - y0 + 1, x1 - x0 + 1)) != images.shape[2:]:
            images = F.interpolate(images, size, mode="bilinear", align_corners=True)
        tiled[:, :, y0 : y1 + 1, x0 : x1 + 1] = images
    return tiled


@lru_cache(64)
def _levels(height: int, width: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the levels of an image's pyramid, (n, 4) first and last column and row, and the size of the whole.

    The first levels go down a column at the left; once two fit side by side and half of the way is done, the others go
    up again at the right, until one would touch the image itself.
    """
    sizes = [(height, width)]
    while min(smaller := [int(5 / 6 * side) for side in sizes[-1]]) > 0 and smaller[0] >= 5:
        sizes.append((smaller[0], smaller[1]))
    total, down, before = sum(h + _GAP for h, _ in sizes) - 2 * _GAP, 0, 0
    for h, w in sizes:
        if w <= width - before - _GAP and 2 * (down - height) >= total - height:
            break
        down, before = down + h + _GAP, w
    down -= _GAP
    levels: list[tuple[int, int, int, int]] = []
    y = _EDGE
    while y < down + _EDGE and len(levels) < len(sizes):
        h, w = sizes[len(levels)]
        levels.append((_EDGE, y, _EDGE + w - 1, y + h - 1))
        y += h + _GAP
    y -= _GAP
    for h, w in sizes[len(levels) :]:
        right = _EDGE + width - 1
        if y - h <= levels[0][3]:
            break
        levels.append((right - w + 1, y - h, right, y - 1))
        y -= h + _GAP
    return np.array(levels), (max(down + 2 * _EDGE, _SEEN), max(width + 2 * _EDGE, _SEEN))


def _boxes(centres: np.ndarray, window: tuple[int, int], levels: np.ndarray) -> np.ndarray:
    """Return windows around pixels (n, 2) of a pyramid, in the image: (n, 4) first and last column and row.

    A centre between levels belongs to the nearest.
    """
    low, high = levels[:, :2], levels[:, 2:]
    beside = np.maximum(np.maximum(low - centres[:, None], centres[:, None] - high), 0)
    level = np.hypot(beside[..., 0], beside[..., 1]).argmin(axis=1)
    half = (np.array(window) - 1) / 2
    corners = np.stack([centres - half, centres + half], axis=1) - low[level][:, None]
    for i in range(len(levels) - 1):
        corners = np.where((level > i)[:, None, None], corners * (6 / 5) + 0.3, corners)
    return _rounded(corners.reshape(-1, 4))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return the nearest integers, halves away from zero."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Return indices of the boxes that no better one covers, the best first.

    Two boxes are one face if they share more than `overlap` of the smallest box around both.
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    while order.size:
        best, rest = boxes[order[0]], boxes[order[1:]]
        kept.append(order[0])
        shared = np.minimum(best[2:], rest[:, 2:]) - np.maximum(best[:2], rest[:, :2]) + 1
        around = np.maximum(best[2:], rest[:, 2:]) - np.minimum(best[:2], rest[:, :2]) + 1
        order = order[1:][shared.clip(0).prod(axis=1) <= overlap * around.prod(axis=1)]
    return np.array(kept, dtype=np.int64)
