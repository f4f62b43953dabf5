"""Images → the faces in them, in this process or in workers."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fertool import landmarks, pool
from fertool.datasets.base import some
from fertool.detectors.base import Faces
from fertool.detectors.none import whole
from fertool.executors import Executor
from fertool.faces.media import Picture
from fertool.faces.pipeline import Cut, Finder, rgb
from fertool.regions.crops import WHOLE
from fertool.settings import DetectAlign, Predict

#: pictures that a worker is given at once, and bytes of them; whatever the number of workers, a picture shares its
#: batches with the same others
_BUNDLE, _BUNDLE_BYTES = 16, 24_000_000

_MANY = 32  # pictures that are worth the seconds in which workers start
_GPU_WORKERS = 4  # processes that share a GPU


@dataclass
class Face:
    """A face in an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image, the centre of the top-left one being (0, 0); as the detector gives
            it, so it may reach beyond the image.
        score: of the detector, NaN if it gives none.
        matrix: (2, 3) image → face.
        pixels: (H, W, C) uint8, the face.
        marks: (K, 2) landmarks in pixels of the face, or None.
        landmarks: (K, 2) in pixels of the image, or None.
        pose: pitch, yaw and roll in degrees, if they are asked for; NaN where unknown.
        descriptor: (128,) what tells people apart, in a video that is tracked.
        track: number of the person in the video; 0 if unknown.
        logits: (classes,) of the network.
        attention: of the network, by name.
        smoothed: (classes,) probabilities averaged over the track, or None.
        view: (4,) the part of the face that the network saw, as fractions.
    """

    box: np.ndarray
    score: float
    matrix: np.ndarray
    pixels: np.ndarray
    marks: np.ndarray | None
    landmarks: np.ndarray | None = None
    pose: np.ndarray | None = None
    descriptor: np.ndarray | None = None
    track: int = 0
    logits: np.ndarray = field(default_factory=lambda: np.empty(0))
    attention: dict[str, np.ndarray] = field(default_factory=dict)
    smoothed: np.ndarray | None = None
    view: np.ndarray = field(default_factory=lambda: np.array(WHOLE))

    @property
    def probabilities(self) -> np.ndarray:
        if self.smoothed is not None:
            return self.smoothed
        powers = np.exp(self.logits - self.logits.max())
        return powers / powers.sum()


@dataclass(frozen=True)
class Seen:
    """An image, with its pixels if it is drawn, and the faces in it, the largest first."""

    picture: Picture
    faces: list[Face]


class FaceSearch:
    """Finds the faces of images and aligns them.

    Args:
        faces: how faces are found and aligned.
        wanted: what else is computed for them.
        draw: whether images are drawn and need their pixels afterwards.
        device: where networks run.
    """

    def __init__(self, faces: DetectAlign, wanted: Predict, draw: bool, device: str):
        self.arguments = faces, wanted, draw, device
        self._faces, self._wanted, self._draw, self._device = self.arguments
        self._finder = Finder(faces, device)

    def __call__(self, pictures: Iterable[Picture]) -> Iterator[Seen]:
        """Yield every image with its faces, in order; images are read here."""
        for group in self._finder.groups((p.read() for p in pictures), lambda p: p.pixels):
            for picture, faces in zip(group, self._find(group), strict=True):
                yield Seen(picture if self._draw else replace(picture, pixels=None), faces)

    def blank(self) -> Face:
        """Return a face without anything in it."""
        return _face(np.zeros(4), np.nan, self._finder.keep(np.zeros((8, 8, 3), np.uint8)))

    def _find(self, group: list[Picture]) -> Iterable[list[Face]]:
        if group[0].pixels is None:
            return [[] for _ in group]
        images = [p.pixels for p in group if p.pixels is not None]
        colour = [rgb(image) for image in images]
        found = self._finder.find(colour)
        return (self._cut(*each) for each in zip(group, images, colour, found, strict=True))

    def _cut(self, picture: Picture, image: np.ndarray, colour: np.ndarray, found: Faces) -> list[Face]:
        made = []
        for i in sorted(range(len(found)), key=lambda i: -_area(found.boxes[i])):
            marks = self._finder.marks(colour, found, i)
            cut = self._finder.cut(image, found.boxes[i], marks)
            if cut is None:
                continue
            made.append(_face(found.boxes[i], found.scores[i], cut, marks))
            if self._wanted.pose:
                known = None if cut.pose is None else cut.pose[0]
                made[-1].pose = self._pose(colour, found.boxes[i], marks) if known is None else known
            if self._wanted.track and picture.source.is_video:
                five = None if found.points is None else found.points[i]
                made[-1].descriptor = self._described(colour, found.boxes[i], five, marks)
        if not made and self._wanted.on_no_face == "keep":
            made.append(_face(whole(colour).boxes[0], np.nan, self._finder.keep(image)))
        return made

    def _pose(self, image: np.ndarray, box: np.ndarray, marks: np.ndarray | None) -> np.ndarray:
        return self._finder.pose([image], [box], [marks], self._faces.detector)[0][0]

    def _described(
        self, image: np.ndarray, box: np.ndarray, five: np.ndarray | None, marks: np.ndarray | None
    ) -> np.ndarray:
        if self._faces.landmarks != "ert68" or marks is None:
            marks = self._ert68.place(image, box, five, self._faces.detector)
        return self._describe(image, [marks] if marks is not None else [np.zeros((68, 2))])[0]

    @cached_property
    def _ert68(self) -> landmarks.LandmarkModel:
        return landmarks.make("ert68", landmarks.Options(self._device))

    @cached_property
    def _describe(self) -> Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]:
        from fertool.faces.descriptor import Descriptor

        return Descriptor(self._device)


def _face(box: np.ndarray, score: float, cut: Cut, landmarks: np.ndarray | None = None) -> Face:
    return Face(box, float(score) if np.isfinite(score) else np.nan, cut.matrix, cut.pixels, cut.marks, landmarks)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def default_workers(images: int | None, gpus: Sequence[str], executor: Executor) -> int:
    """Return how many workers are worth it for so many images; None is a camera."""
    if images is None or images < _MANY:
        return 1
    return min(_GPU_WORKERS * len(gpus) or executor.cores(), executor.cores())


def one_by_one(search: FaceSearch, stream: Iterable[Picture], live: bool) -> Generator[Seen, None, None]:
    """Find faces in this process. Those of a camera at once: nobody waits for a batch."""
    for bundle in _bundles(stream, 1 if live else _BUNDLE):
        yield from search(bundle)


def in_workers(
    search: FaceSearch, stream: Iterable[Picture], workers: int, gpus: Sequence[str], executor: Executor
) -> Generator[Seen, None, None]:
    """Find faces in worker processes; images come back in order.

    Args:
        search: what a worker does.
        stream: images.
        workers: number of processes.
        gpus: names of the GPUs that they share.
        executor: where they run.

    Raises:
        DataError, OutOfMemoryError: a worker died; the message names images that it had.
    """
    waiting: dict[int, list[Seen]] = {}
    due = 0
    tasks = enumerate(_bundles(stream, _BUNDLE))
    *arguments, draw, _ = search.arguments
    work = (*arguments, draw, "cuda" if gpus else "cpu")
    try:
        with closing(executor.process(_make, work, tasks, workers=workers, chunk=1, gpus=gpus)) as results:
            for (index, bundle), found in results:
                waiting[index] = [_joined(*pair, draw) for pair in zip(bundle, found, strict=True)]
                while due in waiting:
                    yield from waiting.pop(due)
                    due += 1
    except pool.WorkerDied as e:
        names = some((picture.name for _, bundle in e.items for picture in bundle), 3)
        raise e.named(names, "use fewer --workers, or leave out that file") from e


def _bundles(stream: Iterable[Picture], most: int) -> Iterator[list[Picture]]:
    bundle: list[Picture] = []
    size = 0
    for picture in stream:
        bundle.append(picture)
        size += 0 if picture.pixels is None else picture.pixels.nbytes
        if len(bundle) == most or size >= _BUNDLE_BYTES:
            yield bundle
            bundle, size = [], 0
    if bundle:
        yield bundle


_Found = tuple[Picture | None, list[Face]]


def _joined(sent: Picture, found: _Found, draw: bool) -> Seen:
    picture, faces = found
    return Seen(picture or (sent if draw else replace(sent, pixels=None)), faces)


class _Bundles:
    """What a worker does: every image of a bundle and its faces. Frames, which its parent has, are not sent back."""

    def __init__(self, search: FaceSearch):
        self._search = search

    def __call__(self, tasks: Sequence[tuple[int, list[Picture]]]) -> Iterator[list[_Found]]:
        for _, bundle in tasks:
            found = zip(bundle, self._search(bundle), strict=True)
            yield [(None if sent.source.is_video else seen.picture, seen.faces) for sent, seen in found]


def _make(faces: DetectAlign, wanted: Predict, draw: bool, device: str) -> _Bundles:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return _Bundles(FaceSearch(faces, wanted, draw, device))
