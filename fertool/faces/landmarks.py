"""Landmarks inside a found face: dlib's 68 points, MTCNN's five, and those of a supervised descent.

Each is placed on the face cut out at a fixed size, so that a face of 40 pixels is located to fractions of a pixel and
one of 4,000 is not slower. Coordinates are pixels of the image, the centre of the top-left one being (0, 0).
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from fertool.errors import UsageError
from fertool.faces import sdm
from fertool.faces.align import apply, crop, invert, similarity, warp
from fertool.pretrained.dlib_dat import model_file
from fertool.regions.points import five_points

#: how many points each kind has; a supervised descent has as many as it was taught
COUNTS = {"ert68": 68, "mtcnn5": 5}


class Placer(Protocol):
    """Places landmarks."""

    def place(self, image: np.ndarray, box: np.ndarray, points: np.ndarray | None, detector: str) -> np.ndarray:
        """(K, 2) landmarks of a face in an (H, W, 3) RGB image.

        Args:
            box: x0, y0, x1, y1 of the face, as `detector` draws it.
            points: (5, 2) eye centres, nose tip and mouth corners, or None.
        """
        ...


def make(name: str, device: str = "cpu", learnt: Path | str | None = None) -> Placer:
    """Return a landmark model by name: "ert68", "mtcnn5" or "sdm".

    Args:
        learnt: the file of a supervised descent.

    Raises:
        DeviceError: a package or model file is missing.
        UsageError, ArtefactError: there is no usable file of a supervised descent.
    """
    if name == "sdm":
        return Sdm(sdm.load(sdm_file(learnt)))
    return Ert68() if name == "ert68" else Mtcnn5(device)


def sdm_file(learnt: Path | str | None) -> Path:
    """Return the file of a supervised descent, if one is named.

    Raises:
        UsageError: none is.
    """
    if learnt is None:
        raise UsageError(
            "--landmarks sdm needs a file of steps that were learnt",
            "make one with: fertool fit-sdm FOLDER (images and .pts files), then add --sdm FILE",
        )
    return Path(learnt)


class Ert68:
    """An ensemble of regression trees (Kazemi & Sullivan, CVPR 2014): dlib's predictor of the 68 iBUG points.

    The trees were grown on the squares that dlib's HOG detector draws around upright faces, and are as good as what
    they get. So the first square is put where that detector would have drawn it, and landmarks are placed again on the
    square and turned upright by the first ones. On 250 images of HELEN and AFW with MTCNN's boxes this brings
    the faces whose mean error is over a tenth of the distance between the outer eye corners from 16 % to 1 %. With
    MTCNN's points four of five first squares are as good as the second.
    """

    _OF_68 = (0.035, 1.377)  # shift and side of dlib's square, relative to the landmarks (medians)
    _SIDE, _SIZE = 150, 225  # of dlib's square in the cut-out, and of the cut-out
    _SAME = 1 / 8  # of a side: how far the corners of a square as good may lie apart

    def __init__(self):
        import dlib

        self._predict = dlib.shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))
        first = (self._SIZE - self._SIDE) // 2
        self._box = dlib.rectangle(first, first, first + self._SIDE - 1, first + self._SIDE - 1)

    def place(self, image: np.ndarray, box: np.ndarray, points: np.ndarray | None, detector: str) -> np.ndarray:
        import cv2

        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        first = _by_box(box, detector) if points is None else _by_five(points)
        placed = self._place(image, first)
        second = self._by_68(placed)
        apart = np.linalg.norm(second - first, axis=1).max() / np.linalg.norm(second[1] - second[0])
        if points is not None and apart < self._SAME:
            return placed
        return self._place(image, second)

    def _by_68(self, points: np.ndarray) -> np.ndarray:
        tilt = _tilt(points[36:42].mean(axis=0), points[42:48].mean(axis=0))
        upright = points[17:] @ _turn(-tilt).T
        low, high = upright.min(axis=0), upright.max(axis=0)
        unit = np.sqrt(np.prod(high - low))
        down, side = self._OF_68
        return _square(_turn(tilt) @ ((low + high) / 2), down * unit, side * unit, tilt)

    def _place(self, image: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Landmarks on a square, given by its corners clockwise from the top left."""
        back = np.column_stack([square[1] - square[0], square[3] - square[0]]) / self._SIDE
        middle = (self._SIZE - 1) / 2
        to_photo = np.column_stack([back, square.mean(axis=0) - back @ (middle, middle)])
        found = self._predict(warp(image, invert(to_photo), self._SIZE), self._box)
        return apply(to_photo, np.array([(p.x, p.y) for p in found.parts()], dtype=np.float64))


def _square(centre: np.ndarray, down: float, side: float, tilt: float) -> np.ndarray:
    """Return the corners (4, 2), clockwise from the top left, of a square turned by `tilt` about `centre`, having been
    shifted down.
    """
    half = side / 2
    corners = np.array([(-half, down - half), (half, down - half), (half, down + half), (-half, down + half)])
    return corners @ _turn(tilt).T + centre


def _tilt(left: np.ndarray, right: np.ndarray) -> float:
    """Return the angle of the line from one point to another, in radians, clockwise as seen."""
    return float(np.arctan2(right[1] - left[1], right[0] - left[0]))


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


class Sdm:
    """A supervised descent that `fertool fit-sdm` learnt, see `fertool.faces.sdm`.

    The first cut-out is laid by the detector's five points or box, the second by the landmarks found in the first. On
    AFW, taught by 870 images of HELEN, this takes the faces whose mean error is over a tenth of the distance
    between the outer eye corners from 3.4 % to 3.1 % with MTCNN's points, and from 12.4 % to 5.3 % with its box alone.
    """

    def __init__(self, cascade: sdm.Cascade):
        self._cascade = cascade
        self._square = _by_five(five_points(cascade.mean[None])[0])

    def place(self, image: np.ndarray, box: np.ndarray, points: np.ndarray | None, detector: str) -> np.ndarray:
        import cv2

        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        first = _by_box(box, detector) if points is None else _by_five(points)
        placed = self._descend(image, similarity(first, self._square))
        return self._descend(image, similarity(placed, self._cascade.mean))

    def _descend(self, image: np.ndarray, to_cut_out: np.ndarray) -> np.ndarray:
        return apply(invert(to_cut_out), self._cascade.descend(warp(image, to_cut_out, sdm.SIZE)))


# dlib's square: shift and side, relative to where another detector's box or five points are (medians)
_OF_BOX = {"mtcnn": (0.067, 0.951), "dlib-cnn": (0.078, 1.095), "none": (0.05, 0.85)}
_OF_FIVE = (-0.019, 1.652)


def _by_box(box: np.ndarray, detector: str) -> np.ndarray:
    """Return the square (4, 2) that dlib's HOG detector would have drawn around a face, by another one's box."""
    down, side = _OF_BOX.get(detector, (0.0, 1.0))
    unit = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return _square((box[:2] + box[2:]) / 2, down * unit, side * unit, 0.0)


def _by_five(points: np.ndarray) -> np.ndarray:
    """Return that square by eye centres, nose tip and mouth corners."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    unit = np.hypot(np.linalg.norm(points[1] - points[0]), np.linalg.norm(mouth - eyes))
    down, side = _OF_FIVE
    return _square((eyes + mouth) / 2, down * unit, side * unit, _tilt(points[0], points[1]))


class Mtcnn5:
    """The last of MTCNN's three networks, which refines a box and places eye centres, nose tip and mouth corners."""

    _SIZE = 48

    def __init__(self, device: str = "cpu"):
        from facenet_pytorch.models.mtcnn import ONet

        self._net, self._device = ONet().eval().to(device), device

    def place(self, image: np.ndarray, box: np.ndarray, points: np.ndarray | None, detector: str) -> np.ndarray:
        if points is not None:
            return points
        import torch

        to_cut_out = crop(box, self._SIZE)
        pixels = torch.from_numpy(warp(image, to_cut_out, self._SIZE)).to(self._device)
        with torch.no_grad():
            _, points, _ = self._net((pixels.permute(2, 0, 1)[None].float() - 127.5) / 128)
        fractions = points[0].cpu().numpy().reshape(2, 5).T.astype(np.float64)
        return apply(invert(to_cut_out), fractions * self._SIZE - 0.5)
