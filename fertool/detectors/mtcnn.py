"""MTCNN (Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", 2016)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from fertool.detectors.base import DEFAULTS, NOTHING, Box, Detector, Faces, Options, View, in_halves, view
from fertool.errors import out_of_memory


class Mtcnn(Detector):
    """MTCNN (Zhang et al., 2016) as packaged by facenet-pytorch, with its weights and thresholds.

    On 1,000 faces of FER+ (48×48) it detects 91 %.
    """

    name = "mtcnn"
    uses_torch = True
    dlib_square = (0.067, 0.951)
    smallest = 64

    def __init__(self, options: Options = DEFAULTS):
        super().__init__(options)
        from facenet_pytorch import MTCNN
        from facenet_pytorch.models.utils import detect_face

        detect_face.nms_numpy = _suppress
        self.batch = 16 if options.device == "cpu" else 64
        self._net = MTCNN(keep_all=True, device=options.device)
        for network in (self._net.rnet, self._net.onet):
            network.forward = partial(_in_sixteens, network.forward)

    def detect(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterator[Faces]:
        """Yield the faces in each image."""
        views = [view(image, self.smallest) for image in images]
        if min(views[0].pixels.shape[:2]) < self._net.min_face_size:
            yield from (NOTHING for _ in views)
            return
        yield from in_halves(self._run, views)

    def _run(self, views: Sequence[View]) -> list[Faces]:
        import torch

        try:
            answers = self._net.detect(np.stack([v.pixels for v in views]), landmarks=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as e:  # facenet-pytorch fails on candidates beyond the image
            if out_of_memory(e):
                raise
            return [NOTHING] if len(views) == 1 else [faces for v in views for faces in self._run([v])]
        return [_from_mtcnn(*answer) for answer in zip(views, *answers, strict=True)]


def _in_sixteens(forward: Callable[..., Any], candidates: Any) -> tuple[Any, ...]:
    """Run a network on candidates (n, 3, h, w), padded to a number that is a multiple of 16.

    For every size of a batch PyTorch keeps what it compiled for it, and the number of candidates is another one in
    every image: 70 MB after 10,000 of them.
    """
    from torch.nn.functional import pad

    padded = pad(candidates, (0, 0) * (candidates.ndim - 1) + (0, -len(candidates) % 16))
    return tuple(answers[: len(candidates)] for answers in forward(padded))


def _from_mtcnn(v: View, boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> Faces:
    if boxes is None:
        return NOTHING
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2)
    points = v.back(np.asarray(points, dtype=np.float64))
    return Faces(v.back(corners).reshape(-1, 4), np.asarray(scores, dtype=np.float64), points)


def _suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str) -> np.ndarray:
    """Suppress overlapping boxes for the last time, in place of facenet-pytorch's.

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
