"""From a photograph to the faces in it, each brought to the output: what a data set's photographs and any others have
in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from fertool.faces import align, detect, illumination, landmarks
from fertool.settings import DetectAlign

#: photographs of one size are shown to a detector together up to so many pixels
_BATCH_PIXELS = 2_000_000

Item = TypeVar("Item")


class Finder:
    """Finds, marks and cuts out faces as the settings of detect-align say.

    Args:
        device: where MTCNN runs.

    Attributes:
        batch: how many photographs of one size are worth showing at once.
    """

    def __init__(self, settings: DetectAlign, device: str = "cpu"):
        self.settings = settings
        self._detector = self._placer = None
        if settings.detector not in ("shipped", "none"):
            self._detector = detect.make(settings.detector, upsample=settings.upsample, device=device)
        if settings.landmarks not in ("shipped", "none"):
            self._placer = landmarks.make(settings.landmarks, device, settings.sdm)
        self.batch = 1 if self._detector is None else self._detector.batch

    def groups(self, items: Iterable[Item], picture: Callable[[Item], np.ndarray | None]) -> Iterator[list[Item]]:
        """Consecutive photographs of one size, as many as are worth showing at once; one without pixels is alone."""
        group: list[Item] = []
        for item in items:
            image = picture(item)
            if group and not self._fits(picture(group[0]), image, len(group) + 1):
                yield group
                group = []
            group.append(item)
        if group:
            yield group

    def _fits(self, first: np.ndarray | None, image: np.ndarray | None, count: int) -> bool:
        return (
            first is not None
            and image is not None
            and image.shape[:2] == first.shape[:2]
            and count <= self.batch
            and count * image.shape[0] * image.shape[1] <= _BATCH_PIXELS
        )

    def find(self, images: Sequence[np.ndarray]) -> Iterator[detect.Faces]:
        """The faces in each of some (H, W, 3) RGB photographs of one size; without a detector each is a face."""
        found = map(whole, images) if self._detector is None else self._detector.detect(images)
        return (faces.over(self.settings.min_score) for faces in found)

    def marks(self, image: np.ndarray, faces: detect.Faces, i: int) -> np.ndarray | None:
        """(K, 2) landmarks of a found face in an (H, W, 3) RGB photograph; None if nobody places any."""
        if self._placer is None:
            return None
        five = None if faces.points is None else faces.points[i]
        return self._placer.place(image, faces.boxes[i], five, self.settings.detector)

    def transform(self, box: np.ndarray, marks: np.ndarray | None) -> np.ndarray | None:
        """(2, 3) photograph → output; None if landmarks are needed and missing, or coincide."""
        s = self.settings
        if s.align == "none":
            return align.crop(box, s.size, 0.0 if s.detector == "none" else s.margin, s.height)
        return None if marks is None else align.align(marks, s.template, s.size, s.align, s.height)

    def keep(self, image: np.ndarray) -> np.ndarray:
        """(2, 3) photograph → output, of the whole photograph."""
        return align.crop(whole(image).boxes[0], self.settings.size, height=self.settings.height)

    def cut(self, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """The (H, W, C) uint8 face that a transform cuts out of a grey or RGB photograph."""
        s = self.settings
        face = _channels(align.warp(image, matrix, s.size, s.height), s.shape[2])
        if s.illumination == "isotropic":
            face = illumination.normalise(face[..., 0], s.diffusion)[..., None]
        return face


def rgb(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) as (H, W, 3)."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def whole(image: np.ndarray) -> detect.Faces:
    """A photograph as the only face in it."""
    height, width = image.shape[:2]
    return detect.Faces(np.array([(-0.5, -0.5, width - 0.5, height - 0.5)]), np.array([np.inf]))


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W) or (H, W, 3) as (H, W, channels); grey is the luma of ITU-R BT.601."""
    import cv2

    if channels == 3:
        return rgb(image)
    return (image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[..., None]
