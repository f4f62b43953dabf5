"""Base class of landmark models, and where they begin.

Landmarks are found in the face cut out at a fixed size, so that a face of 40 pixels is located to fractions of a pixel
and one of 4,000 is not slower. Coordinates are pixels of the image, the centre of the top-left one being (0, 0).

Models begin with the square that dlib's HOG detector would draw around the face, see `square_of`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fertool.detectors import detector_class


@dataclass(frozen=True)
class Options:
    """Options that every landmark model is given; it uses those that it has.

    Attributes:
        device: of its network.
        sdm: file written by fit-sdm.
    """

    device: str = "cpu"
    sdm: Path | str | None = None


DEFAULTS = Options()


class LandmarkModel(ABC):
    """Base class of landmark models.

    Attributes:
        name: what `--landmarks` takes.
        points: number of landmarks; 0 where it depends on a file or the dataset.
        uses_torch: whether it runs a network that is worth a GPU.
        options: see `Options`.
    """

    name: ClassVar[str] = ""
    points: ClassVar[int] = 0
    uses_torch: ClassVar[bool] = False

    def __init__(self, options: Options = DEFAULTS):
        self.options = options

    @abstractmethod
    def place(
        self,
        image: np.ndarray,
        box: np.ndarray,
        points: np.ndarray | None,
        detector: str,
        given: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Return the landmarks (K, 2) of a face, or None if there are none.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: x0, y0, x1, y1 of the face.
            points: (5, 2) eye centres, nose tip and mouth corners by the detector, or None.
            detector: name of the detector that the box and points are from.
            given: (K, 2) landmarks of the dataset, or None.
        """


# shift and side of dlib's square, relative to five points (medians)
_OF_FIVE = (-0.019, 1.652)


def square_of(box: np.ndarray, points: np.ndarray | None, detector: str) -> np.ndarray:
    """Return the corners (4, 2) of the square that dlib's HOG detector would draw around a face.

    Args:
        box: x0, y0, x1, y1 of the face.
        points: (5, 2), which say more than a box; or None.
        detector: name of the detector that they are from.
    """
    if points is not None:
        return square_of_five(points)
    down, side = detector_class(detector).dlib_square
    unit = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return square((box[:2] + box[2:]) / 2, down * unit, side * unit, 0.0)


def square_of_five(points: np.ndarray) -> np.ndarray:
    """Return that square by eye centres, nose tip and mouth corners (5, 2)."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    unit = np.hypot(np.linalg.norm(points[1] - points[0]), np.linalg.norm(mouth - eyes))
    down, side = _OF_FIVE
    return square((eyes + mouth) / 2, down * unit, side * unit, tilt(points[0], points[1]))


def square(centre: np.ndarray, down: float, side: float, angle: float) -> np.ndarray:
    """Return the corners (4, 2) of a square that is shifted down and then rotated by `angle` about `centre`.

    They go clockwise from the top left.
    """
    half = side / 2
    corners = np.array([(-half, down - half), (half, down - half), (half, down + half), (-half, down + half)])
    return corners @ turn(angle).T + centre


def tilt(left: np.ndarray, right: np.ndarray) -> float:
    """Return the angle of the line from one point to another, in radians, clockwise as seen."""
    return float(np.arctan2(right[1] - left[1], right[0] - left[0]))


def turn(angle: float) -> np.ndarray:
    """Return the (2, 2) rotation by an angle in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
