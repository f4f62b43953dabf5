"""Face detectors: dlib's CNN and HOG, and MTCNN.

All take RGB images and give boxes in their pixels: edges x0, y0, x1, y1, the centre of the top-left pixel being
(0, 0), so that the whole image is (-0.5, -0.5, W - 0.5, H - 0.5).

An image is shown to a detector as it is unless it is very small or very large. Tiny pictures are mostly crops
filled by a face: if their shorter side is under `smallest` they are enlarged to that and get a border of a repeated
edge, because detectors want some surroundings. Images over `LARGEST` pixels wide or high are shrunk to that.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from fertool.errors import out_of_memory

#: longest side at which images are searched; dlib's doubling stops there, too
LARGEST = 1600

#: border of enlarged pictures, as a fraction of their shorter side
BORDER = 0.15

Result = TypeVar("Result")


@dataclass(frozen=True)
class Faces:
    """What a detector found in one image.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1 in pixels.
        scores: (n,) the detector's own confidence.
        points: (n, 5, 2) eye centres, nose tip and mouth corners, left to right, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def over(self, score: float) -> "Faces":
        """Only the faces with at least this score."""
        keep = self.scores >= score
        return Faces(self.boxes[keep], self.scores[keep], None if self.points is None else self.points[keep])

    def largest(self) -> int:
        """Index of the face with the largest box."""
        return int(((self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])).argmax())


class Detector(Protocol):
    """Finds faces. `batch` is how many images of one size are worth showing at once."""

    batch: int

    def detect(self, images: Sequence[np.ndarray]) -> Iterator[Faces]:
        """Return the faces in each of some (H, W, 3) RGB images, which have one size."""
        ...


def make(name: str, *, upsample: int = 1, device: str = "cpu", threshold: float = 0.0) -> Detector:
    """Return a detector by name: "dlib-cnn", "dlib-hog" or "mtcnn".

    Args:
        upsample: how often dlib's detectors double an image (tiny pictures are enlarged instead).
        device: where dlib's CNN and MTCNN run.
        threshold: score over which dlib's detectors take a face; below 0 they find more.

    Raises:
        DeviceError: a package or model file is missing or damaged.
    """
    if name == "mtcnn":
        return Mtcnn(device)
    if name == "dlib-hog":
        return DlibHog(upsample, threshold)
    from fertool.faces.dlib_cnn import DlibCnn

    return DlibCnn(upsample, device, threshold)


@dataclass(frozen=True)
class View:
    """An image as a detector is shown it: scaled, then with a border of some pixels."""

    pixels: np.ndarray
    scale: float
    border: int

    @property
    def enlarged(self) -> bool:
        return self.scale > 1

    def back(self, xy: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the view in the image."""
        return (xy - self.border + 0.5) / self.scale - 0.5


def view(image: np.ndarray, smallest: int) -> View:
    """Return an image prepared for a detector, see the module's docstring."""
    import cv2

    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    scale = min(max(1.0, smallest / short), LARGEST / long)
    if scale == 1:
        return View(image, 1.0, 0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    border = round(BORDER * min(size)) if scale > 1 else 0
    if border:
        pixels = cv2.copyMakeBorder(pixels, border, border, border, border, cv2.BORDER_REPLICATE)
    return View(pixels, scale, border)


class Mtcnn:
    """MTCNN (Zhang et al., 2016) as packaged by facenet-pytorch, with its weights and thresholds.

    Of 1,000 faces of FER+ (48 x 48) it finds 91 %.
    """

    smallest = 64

    def __init__(self, device: str = "cpu"):
        from facenet_pytorch import MTCNN
        from facenet_pytorch.models.utils import detect_face

        detect_face.nms_numpy = _suppress
        self.batch = 16 if device == "cpu" else 64
        self._net = MTCNN(keep_all=True, device=device)
        for judge in (self._net.rnet, self._net.onet):
            judge.forward = partial(_in_sixteens, judge.forward)

    def detect(self, images: Sequence[np.ndarray]) -> Iterator[Faces]:
        views = [view(image, self.smallest) for image in images]
        if min(views[0].pixels.shape[:2]) < self._net.min_face_size:
            yield from (_NOTHING for _ in views)
            return
        yield from in_halves(self._ask, views)

    def _ask(self, views: Sequence[View]) -> list[Faces]:
        import torch

        try:
            answers = self._net.detect(np.stack([v.pixels for v in views]), landmarks=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as e:  # facenet-pytorch fails on candidates beyond the image
            if out_of_memory(e):
                raise
            return [_NOTHING] if len(views) == 1 else [faces for v in views for faces in self._ask([v])]
        return [_from_mtcnn(*answer) for answer in zip(views, *answers, strict=True)]


def _in_sixteens(forward: Callable, candidates):
    """Return what a network says of some candidates, shown to it in a number that is a multiple of 16.

    For every size of a batch PyTorch keeps what it compiled for it, and the number of candidates is another one in
    every image: 70 MB after 10,000 of them.
    """
    from torch.nn.functional import pad

    padded = pad(candidates, (0, 0) * (candidates.ndim - 1) + (0, -len(candidates) % 16))
    return tuple(answers[: len(candidates)] for answers in forward(padded))


def _from_mtcnn(v: View, boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> Faces:
    if boxes is None:
        return _NOTHING
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2)
    points = v.back(np.asarray(points, dtype=np.float64))
    return Faces(v.back(corners).reshape(-1, 4), np.asarray(scores, dtype=np.float64), points)


def _suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str) -> np.ndarray:
    """MTCNN's last suppression of overlapping boxes, in place of facenet-pytorch's.

    Candidates reaching out of the image can have equal scores, and an unstable sort took another one of them in
    a batch than alone. Overlap is relative to the smaller box ("Min", the only method it is called with).
    """
    x0, y0, x1, y1 = boxes.T
    area = (x1 - x0 + 1) * (y1 - y0 + 1)
    order, picked = np.argsort(scores, kind="stable"), []
    while order.size:
        best, rest = order[-1], order[:-1]
        picked.append(best)
        wide = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + 1
        high = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + 1
        shared = np.maximum(0, wide) * np.maximum(0, high)
        order = rest[shared / np.minimum(area[best], area[rest]) <= threshold]
    return np.array(picked, dtype=np.int64)


class DlibHog:
    """dlib's frontal face detector: histograms of oriented gradients and linear filters. Wants faces of 80 pixels.

    Of 1,000 faces of FER+ (48 x 48) it finds 81 %.
    """

    smallest = 192
    batch = 1

    def __init__(self, upsample: int = 1, threshold: float = 0.0):
        import dlib

        self._upsample, self._threshold = upsample, threshold
        self._net = dlib.get_frontal_face_detector()

    def detect(self, images: Sequence[np.ndarray]) -> Iterator[Faces]:
        for image in images:
            v = view(image, self.smallest)
            rectangles, scores, _ = self._net.run(v.pixels, doublings(v, self._upsample), self._threshold)
            yield from_rectangles(v, [(r.left(), r.top(), r.right(), r.bottom()) for r in rectangles], scores)


_NOTHING = Faces(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))


def doublings(v: View, wanted: int) -> int:
    """How often dlib doubles a view: not if it was enlarged for it already, and not beyond LARGEST."""
    if v.enlarged:
        return 0
    room = int(np.log2(LARGEST / max(v.pixels.shape[:2])))
    return min(wanted, max(room, 0))


def from_rectangles(v: View, rectangles: Sequence | np.ndarray, scores: Sequence[float] | np.ndarray) -> Faces:
    """Return the faces of a view by dlib's rectangles: (n, 4) first and last column and row inside."""
    edges = np.asarray(rectangles, dtype=np.float64).reshape(-1, 2, 2) + ((-0.5, -0.5), (0.5, 0.5))
    return Faces(v.back(edges).reshape(-1, 4), np.asarray(scores, dtype=np.float64))


def in_halves(run: Callable[[Sequence], list[Result]], images: Sequence) -> list[Result]:
    """Run a network on a batch of images, or on halves of it for which the memory suffices.

    Raises:
        OutOfMemoryError: it does not suffice even for one image.
    """
    try:
        return run(images)
    except (RuntimeError, MemoryError) as e:
        if not (problem := out_of_memory(e)):
            raise
        if len(images) == 1:
            problem.hint = "end what else runs there, or use fewer --workers, or --set detect-align.upsample=0"
            raise problem from e
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(images) // 2
    return [*in_halves(run, images[:half]), *in_halves(run, images[half:])]
