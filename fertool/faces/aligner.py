"""One photograph after the other → aligned faces: the work of a detect-align process."""

from collections.abc import Iterator, Sequence

import numpy as np

from fertool.datasets.base import Dataset, Sample
from fertool.faces import align, detect, illumination, landmarks, pose
from fertool.faces.images import UnreadableImage
from fertool.faces.status import KEPT, NO_FACE, OK, SEVERAL, UNREADABLE
from fertool.settings import DetectAlign

#: photographs of one size are shown to a detector together up to so many pixels
_BATCH_PIXELS = 2_000_000


def make(dataset: Dataset, settings: DetectAlign, points: int, device: str) -> "Aligner":
    """An aligner for a process among others: one thread, because every core has a process of its own."""
    import cv2

    cv2.setNumThreads(1)
    if "mtcnn" in settings.detector + settings.landmarks:
        import torch

        torch.set_num_threads(1)
    return Aligner(dataset, settings, points, device)


class Aligner:
    """Finds, marks and aligns the faces of a data set's photographs.

    Args:
        points: how many landmarks a row has; 0 if nobody places any.
        device: where MTCNN runs.
    """

    def __init__(self, dataset: Dataset, settings: DetectAlign, points: int, device: str = "cpu"):
        self.dataset, self.settings, self.points = dataset, settings, points
        self._detector = self._placer = None
        if settings.detector not in ("shipped", "none"):
            self._detector = detect.make(settings.detector, upsample=settings.upsample, device=device)
        if settings.landmarks not in ("shipped", "none"):
            self._placer = landmarks.make(settings.landmarks, device)

    def __call__(self, tasks: Sequence[tuple[int, Sample]]) -> Iterator[dict]:
        """The columns of each row, in order; consecutive photographs of one size share a batch of the detector."""
        group: list[tuple[Sample, np.ndarray]] = []
        for _, sample in tasks:
            image = problem = None
            try:
                image = self.dataset.read(sample)
            except UnreadableImage as e:
                problem = e.message
            if group and not self._fits(group, image):
                yield from self._faces(group)
                group = []
            if problem is None:
                group.append((sample, image))
            else:
                yield self._row(UNREADABLE, problem=problem.removeprefix(f"{sample.path}: "))
        yield from self._faces(group)

    def _fits(self, group: list, image: np.ndarray | None) -> bool:
        batch = 1 if self._detector is None else self._detector.batch
        first = group[0][1]
        return (
            image is not None
            and len(group) < batch
            and image.shape[:2] == first.shape[:2]
            and (len(group) + 1) * image.shape[0] * image.shape[1] <= _BATCH_PIXELS
        )

    def _faces(self, group: list[tuple[Sample, np.ndarray]]) -> Iterator[dict]:
        if not group:
            return
        colour = [_rgb(image) for _, image in group]
        if self._detector is not None:
            found = self._detector.detect(colour)
        elif self.settings.detector == "shipped":
            found = (_shipped(sample) for sample, _ in group)
        else:
            found = (_whole(image) for _, image in group)
        for (sample, image), rgb, faces in zip(group, colour, found, strict=True):
            yield self._face(sample, image, rgb, faces.over(self.settings.min_score))

    def _face(self, sample: Sample, image: np.ndarray, rgb: np.ndarray, faces: detect.Faces) -> dict:
        settings = self.settings
        if not len(faces):
            return self._missed(image)
        chosen = faces.largest()
        box, marks = faces.boxes[chosen], None
        if settings.landmarks == "shipped":
            marks = None if sample.landmarks is None else np.asarray(sample.landmarks, dtype=np.float64)
        elif self._placer is not None:
            five = None if faces.points is None else faces.points[chosen]
            marks = self._placer.place(rgb, box, five, settings.detector)
        if settings.align == "none":
            margin = 0.0 if settings.detector == "none" else settings.margin
            matrix = align.crop(box, settings.size, margin, settings.height)
        elif marks is not None:
            matrix = align.align(marks, settings.template, settings.size, settings.align, settings.height)
        else:
            matrix = None
        if matrix is None:
            return self._missed(image, found=len(faces))
        angles, error = pose.estimate(marks) if marks is not None and len(marks) == 68 else ((np.nan,) * 3, np.nan)
        return self._row(
            SEVERAL if len(faces) > 1 else OK,
            image=image,
            matrix=matrix,
            marks=marks,
            faces_found=min(len(faces), 255),
            bbox=box,
            score=faces.scores[chosen] if np.isfinite(faces.scores[chosen]) else np.nan,
            pose=angles,
            pose_error=error,
        )

    def _missed(self, image: np.ndarray, found: int = 0) -> dict:
        if self.settings.missed != "keep":
            return self._row(NO_FACE, faces_found=min(found, 255))
        whole = align.crop(_whole(image).boxes[0], self.settings.size, height=self.settings.height)
        return self._row(KEPT, image=image, matrix=whole, faces_found=min(found, 255))

    def _row(
        self,
        status: int,
        *,
        image: np.ndarray | None = None,
        matrix: np.ndarray | None = None,
        marks: np.ndarray | None = None,
        **values,
    ) -> dict:
        settings = self.settings
        row = {
            "images": np.zeros(settings.shape, np.uint8),
            "faces_found": 0,
            "bbox": np.full(4, np.nan),
            "score": np.nan,
            "transform": np.full((2, 3), np.nan),
            "pose": np.full(3, np.nan),
            "pose_error": np.nan,
            "problem": "",
        }
        if self.points:
            row["landmarks"] = np.full((self.points, 2), np.nan)
        if matrix is not None:
            face = _channels(align.warp(image, matrix, settings.size, settings.height), settings.shape[2])
            if settings.illumination == "isotropic":
                face = illumination.normalise(face[..., 0], settings.diffusion)[..., None]
            row["images"] = face
            row["transform"] = matrix
            if marks is not None:
                row["landmarks"] = align.apply(matrix, marks)
        return {"status": status, **row, **values}


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W) or (H, W, 3) as (H, W, channels); grey is the luma of ITU-R BT.601."""
    import cv2

    if channels == 3:
        return _rgb(image)
    return (image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[..., None]


def _whole(image: np.ndarray) -> detect.Faces:
    height, width = image.shape[:2]
    return detect.Faces(np.array([(-0.5, -0.5, width - 0.5, height - 0.5)]), np.array([np.inf]))


def _shipped(sample: Sample) -> detect.Faces:
    boxes = np.array([] if sample.box is None else [sample.box], dtype=np.float64).reshape(-1, 4)
    return detect.Faces(boxes, np.full(len(boxes), np.inf))
