"""One image after the other → aligned faces: the work of a detect-align process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fertool.datasets.base import Dataset, Sample
from fertool.detectors.base import Faces
from fertool.errors import DataError
from fertool.faces import source_file
from fertool.faces.images import UnreadableImage
from fertool.faces.pipeline import Cut, Finder, rgb
from fertool.faces.status import KEPT, NO_FACE, OK, SEVERAL, UNREADABLE
from fertool.settings import DetectAlign


def make(dataset: Dataset, settings: DetectAlign, points: int, device: str) -> "Aligner":
    """Return an aligner for a process among others: one thread, because every core has a process of its own."""
    import cv2

    cv2.setNumThreads(1)
    if settings.needs_torch or settings.pose == "learned":
        import torch

        torch.set_num_threads(1)
    return Aligner(dataset, settings, points, device)


class Aligner:
    """Finds, marks and aligns the faces of a dataset's images.

    Args:
        points: how many landmarks a row has; 0 if nobody places any.
        device: where networks run.
    """

    def __init__(self, dataset: Dataset, settings: DetectAlign, points: int, device: str = "cpu"):
        self.dataset, self.settings, self.points = dataset, settings, points
        self._finder = Finder(settings, device)
        self._pose = self._finder.pose

    def __call__(self, tasks: Sequence["Task"]) -> Iterator[dict]:
        """Yield the columns of each row, in order; consecutive images of one size share a batch of the detector.

        Raises:
            OSError, MemoryError: a file cannot be read now, which says nothing of its image.
            DataError: a table changed after it was listed.
        """
        sources = (_read(self.dataset, task) for task in tasks)
        for group in self._finder.groups(sources, lambda p: p.image):
            rows = [self._row(UNREADABLE, problem=group[0].problem)] if group[0].image is None else self._faces(group)
            for source, row in zip(group, rows, strict=True):
                yield row | {"source_digest": source.digest, "source_stat": source.stat}

    def _faces(self, group: list["_SourceImage"]) -> list[dict]:
        images = [p.image for p in group if p.image is not None]
        colour = [rgb(image) for image in images]
        found = self._finder.find(colour, [p.sample.box for p in group])
        rows, heads = [], []
        for source, image, pixels, faces in zip(group, images, colour, found, strict=True):
            row, head = self._face(source.sample, image, pixels, faces)
            rows.append(row)
            if head is not None:
                heads.append((row, *head))
        if heads:
            unposed, shown, boxes, marks = zip(*heads, strict=True)
            angles, errors = self._pose(shown, boxes, marks, self.settings.detector)
            for row, pose, error in zip(unposed, angles, errors, strict=True):
                row |= {"pose": pose, "pose_error": error}
        return rows

    def _face(self, sample: Sample, image: np.ndarray, colour: np.ndarray, faces: Faces) -> tuple[dict, tuple | None]:
        """Return the columns of a row; and image, box and landmarks of a head whose pose is not among them yet."""
        if not len(faces):
            return self._missed(image), None
        chosen = faces.largest()
        box = faces.boxes[chosen]
        marks = self._finder.marks(colour, faces, chosen, sample.landmarks)
        cut = self._finder.cut(image, box, marks)
        if cut is None:
            return self._missed(image, found=len(faces)), None
        score = faces.scores[chosen] if np.isfinite(faces.scores[chosen]) else np.nan
        row = self._row(SEVERAL if len(faces) > 1 else OK, cut, faces_found=min(len(faces), 255), bbox=box, score=score)
        return row, None if cut.pose else (colour, box, marks)

    def _missed(self, image: np.ndarray, found: int = 0) -> dict:
        if self.settings.on_no_face != "keep":
            return self._row(NO_FACE, faces_found=min(found, 255))
        return self._row(KEPT, self._finder.keep(image), faces_found=min(found, 255))

    def _row(self, status: int, cut: Cut | None = None, **values: object) -> dict:
        row: dict[str, object] = {
            "images": np.zeros(self.settings.shape, np.uint8),
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
        if cut is not None:
            row |= {"images": cut.pixels, "transform": cut.matrix}
            if cut.marks is not None:
                row["landmarks"] = cut.marks
            if cut.pose is not None:
                row["pose"], row["pose_error"] = cut.pose
        return {"status": status, **row, **values}


@dataclass(frozen=True)
class Task:
    """A row of the table to be made.

    Attributes:
        stat: size and times of its file when the dataset was listed.
    """

    row: int
    sample: Sample
    stat: source_file.Stat


@dataclass(frozen=True)
class _SourceImage:
    """An image of a dataset, or why it cannot be used; `digest` and `stat` say what was read."""

    sample: Sample
    image: np.ndarray | None
    digest: np.ndarray
    stat: source_file.Stat
    problem: str = ""


def _read(dataset: Dataset, task: Task) -> _SourceImage:
    sample, stat, image, problem = task.sample, task.stat, None, "no such file"
    if stat != source_file.MISSING:
        stat = source_file.stat(sample.path)  # before it is read: a later change will show
        if sample.offset >= 0 and stat != task.stat:
            raise DataError(f"{sample.path} has changed since it was listed", "run the same command again")
        try:
            image, problem = dataset.read(sample), ""
        except UnreadableImage as e:
            problem = e.message.removeprefix(f"{sample.path}: ")
    return _SourceImage(sample, image, source_file.digest(image), stat, problem)


def source_digests(dataset: Dataset) -> Callable[[Sequence[Task]], Iterator[np.ndarray]]:
    """Return what a process does that only looks whether images have changed: Task → digest of its pixels."""
    return lambda tasks: (_read(dataset, task).digest for task in tasks)
