"""From an image to the aligned faces in it: the steps that the images of datasets and any others share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from fertool import detectors, landmarks
from fertool.detectors.base import Box, Faces
from fertool.detectors.none import whole
from fertool.faces import align, frontal, illumination, pose
from fertool.settings import DetectAlign

#: images of one size are shown to a detector together up to so many pixels
_BATCH_PIXELS = 2_000_000

Item = TypeVar("Item")


class Finder:
    """Finds, marks and cuts out faces as the settings of detect-align say.

    Args:
        device: where networks run.

    Attributes:
        batch: how many images of one size are worth showing at once.
    """

    def __init__(self, settings: DetectAlign, device: str = "cpu"):
        self.settings = settings
        options = detectors.Options(device, settings.upsample, min(settings.min_score, 0.0), settings.box)
        self._detector = detectors.make(settings.detector, options)
        self._landmarks = landmarks.make(settings.landmarks, landmarks.Options(device, settings.sdm))
        self._device = device
        self.batch = self._detector.batch

    def groups(self, items: Iterable[Item], picture: Callable[[Item], np.ndarray | None]) -> Iterator[list[Item]]:
        """Yield consecutive images of one size, as many as are worth showing at once; one without pixels is alone."""
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

    def find(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterator[Faces]:
        """Return the faces in each of some (H, W, 3) RGB images of one size; `boxes` are those of their dataset."""
        return (faces.over(self.settings.min_score) for faces in self._detector.detect(images, boxes))

    def marks(self, image: np.ndarray, faces: Faces, i: int, given: np.ndarray | None = None) -> np.ndarray | None:
        """Return the landmarks (K, 2) of a detected face in an (H, W, 3) RGB image, or None.

        Args:
            image: (H, W, 3) RGB.
            faces: detected in it; `i` is the index of one.
            given: landmarks of the dataset, or None.
        """
        five = None if faces.points is None else faces.points[i]
        return self._landmarks.place(image, faces.boxes[i], five, self.settings.detector, given)

    @cached_property
    def pose(self) -> pose.Estimator:
        """Who estimates the pose of heads."""
        return pose.make(self.settings.pose, self.settings.pose_weights, self._device)

    def cut(self, image: np.ndarray, box: np.ndarray, marks: np.ndarray | None) -> "Cut | None":
        """Return a face of a grey or RGB image in the output, by its box and (K, 2) landmarks.

        Returns:
            None if landmarks are needed and missing, or coincide, or a head to be seen from the front is turned too
            far.
        """
        s = self.settings
        if s.align == "none":
            margin = 0.0 if s.detector == "none" else s.margin
            return self._flat(image, align.crop(box, s.size, margin, s.height), marks)
        if marks is None:
            return None
        if s.align == "frontal":
            angles, errors = self.pose([rgb(image)], [box], [marks], s.detector)
            view = frontal.see(marks, s.template, s.size, s.height, angles[0])
            if view is None:
                return None
            return Cut(self._finished(view.draw(image)), view.matrix, view.landmarks, (angles[0], errors[0]))
        matrix = align.align(marks, s.template, s.size, s.align, s.height)
        return None if matrix is None else self._flat(image, matrix, marks)

    def keep(self, image: np.ndarray) -> "Cut":
        """Return the whole image in the output."""
        return self._flat(image, align.crop(whole(image).boxes[0], self.settings.size, height=self.settings.height))

    def _flat(self, image: np.ndarray, matrix: np.ndarray, marks: np.ndarray | None = None) -> "Cut":
        pixels = align.warp(image, matrix, self.settings.size, self.settings.height)
        return Cut(self._finished(pixels), matrix, None if marks is None else align.apply(matrix, marks))

    def _finished(self, face: np.ndarray) -> np.ndarray:
        face = _channels(face, self.settings.shape[2])
        if self.settings.illumination == "isotropic":
            face = illumination.normalise(face[..., 0], self.settings.diffusion, self.settings.clip_fraction)[..., None]
        return face


@dataclass(frozen=True)
class Cut:
    """A face as it was brought to the output.

    Attributes:
        pixels: (H, W, C) uint8.
        matrix: (2, 3) image → output; of a head seen from the front, for the plane of eyes and mouth.
        marks: (K, 2) landmarks in pixels of the output, or None.
        pose: of the head in the image and its error, if they were needed.
    """

    pixels: np.ndarray
    matrix: np.ndarray
    marks: np.ndarray | None
    pose: tuple[np.ndarray, float] | None = None


def rgb(image: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, 3) as (H, W, 3)."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return (H, W) or (H, W, 3) as (H, W, channels); grey is the luma of ITU-R BT.601."""
    import cv2

    if channels == 3:
        return rgb(image)
    return (image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[..., None]
