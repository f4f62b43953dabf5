"""Base class of face detectors, and what several of them share.

Images are RGB, boxes are in their pixels: edges x0, y0, x1, y1, the centre of the top-left pixel being (0, 0), so that
the whole image is (-0.5, -0.5, W - 0.5, H - 0.5).

A detector gets an image as it is unless it is very small or very large (`view`). Tiny images are mostly crops filled
by a face: if their shorter side is under `smallest` they are enlarged to that and get a border of a repeated edge,
because detectors want some surroundings. Images over `LARGEST` pixels wide or high are shrunk to that.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from fertool.errors import out_of_memory

#: longest side at which images are searched; dlib's doubling stops there, too
LARGEST = 1600

#: border of enlarged images, as a fraction of their shorter side
BORDER = 0.15

Item = TypeVar("Item")
Result = TypeVar("Result")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Faces:
    """Faces detected in one image.

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
        """Return the faces with at least this score."""
        keep = self.scores >= score
        return Faces(self.boxes[keep], self.scores[keep], None if self.points is None else self.points[keep])

    def largest(self) -> int:
        """Return the index of the face with the largest box."""
        return int(((self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])).argmax())


#: no face
NOTHING = Faces(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))


@dataclass(frozen=True)
class Options:
    """Options that every detector is given; it uses those that it has.

    Attributes:
        device: of its network.
        upsample: how often dlib's detectors double an image (tiny images are enlarged instead).
        threshold: score above which dlib's detectors return a face; below 0 they return more.
        box: x0, y0, x1, y1 in pixels, instead of the boxes of the dataset.
    """

    device: str = "cpu"
    upsample: int = 1
    threshold: float = 0.0
    box: Box | None = None


DEFAULTS = Options()


class Detector(ABC):
    """Base class of face detectors.

    Attributes:
        name: what `--detector` takes.
        batch: how many images of one size are worth detecting together.
        uses_torch: whether it runs a network that is worth a GPU.
        dlib_square: shift down and side of the square that dlib's HOG detector draws around the same face, as
            fractions of the side of this detector's box (medians); landmark models begin there.
        head: shift from the middle of the box down to the head's, and distance between the eyes, as fractions of the
            side of the box (medians over rendered heads); the head pose estimator begins there.
        options: see `Options`.
    """

    name: ClassVar[str] = ""
    batch: int = 1
    uses_torch: ClassVar[bool] = False
    dlib_square: ClassVar[tuple[float, float]] = (0.0, 1.0)
    head: ClassVar[tuple[float, float]] = (0.047, 0.381)

    def __init__(self, options: Options = DEFAULTS):
        self.options = options

    @abstractmethod
    def detect(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterable[Faces]:
        """Return the faces in each of some images.

        Args:
            images: (H, W, 3) uint8 RGB, all of one size.
            boxes: the dataset's own box of each image, None where it has none; empty without a dataset.

        Raises:
            OutOfMemoryError: the memory does not suffice even for one image.
        """


@dataclass(frozen=True)
class View:
    """An image prepared for a detector: scaled, then with a border of some pixels."""

    pixels: np.ndarray
    scale: float
    border: int

    @property
    def enlarged(self) -> bool:
        """Return whether it was enlarged."""
        return self.scale > 1

    def back(self, xy: np.ndarray) -> np.ndarray:
        """Return points (..., 2) of the view in pixels of the image."""
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


def doublings(v: View, wanted: int) -> int:
    """Return how often dlib doubles a view: not if it was enlarged already, and not beyond LARGEST."""
    if v.enlarged:
        return 0
    room = int(np.log2(LARGEST / max(v.pixels.shape[:2])))
    return min(wanted, max(room, 0))


def from_rectangles(v: View, rectangles: Sequence[Any] | np.ndarray, scores: Sequence[float] | np.ndarray) -> Faces:
    """Return the faces of a view by dlib's rectangles: (n, 4) first and last column and row inside."""
    edges = np.asarray(rectangles, dtype=np.float64).reshape(-1, 2, 2) + ((-0.5, -0.5), (0.5, 0.5))
    return Faces(v.back(edges).reshape(-1, 4), np.asarray(scores, dtype=np.float64))


def in_halves(run: Callable[[Sequence[Item]], list[Result]], images: Sequence[Item]) -> list[Result]:
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
