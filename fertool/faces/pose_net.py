"""Head pose from pixels: what MTCNN's last network sees of a face, and two small networks that tell the turn from it.

The features come from photographs (`fertool.faces.onet`); what they mean for the pose was learnt from rendered heads
only, whose turn is known (`tests/bench/teach_pose.py`). The rough network puts right where the head is, how large it
is and how far it leans; the fine one looks at it again, upright and in the middle. Every look is a mean of the face
and its mirror image, so the mirror image of a photograph has exactly the mirrored pose.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fertool.faces import onet
from fertool.faces.align import warp
from fertool.regions.points import FARTHEST

#: side of the square that is looked at, in distances between the eyes of the same head seen from the front
SQUARE = 3.0

#: outputs: pitch, yaw, roll in units of 45 degrees; how far the head lies off the middle (x, y) in half squares; the
#: logarithm of its size; logarithms of the errors expected of the three angles. Signs of a mirrored face:
MIRRORED = np.array([1, -1, -1, -1, 1, 1, 1, 1, 1], np.float32)

_UNIT = 45.0

# in sides of a detector's box: from its middle down to the head's, and the distance between the eyes (medians over
# rendered heads; of whole pictures and of dlib's CNN by way of dlib's squares, see `fertool.faces.landmarks`)
_OF_BOX = {"mtcnn": (0.047, 0.381), "dlib-hog": (0.059, 0.409), "dlib-cnn": (0.143, 0.448), "none": (0.1, 0.348)}

_STEPS = ("rough", "fine", "fine")


def estimate(image: np.ndarray, box: np.ndarray, detector: str) -> tuple[tuple[float, float, float], float]:
    """Pose of the face in a box.

    Args:
        image: (H, W) or (H, W, 3) RGB photograph.
        box: x0, y0, x1, y1 in its pixels, as `detector` draws it.

    Returns:
        (pitch, yaw, roll) in degrees, and the error to expect: the mean of what pitch and yaw are likely to be off.
        All NaN for a box without an area.

    Raises:
        DeviceError: facenet-pytorch is missing.
    """
    import cv2

    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    down, eyes = _OF_BOX.get(detector, _OF_BOX["mtcnn"])
    if not (np.abs(box).max() < FARTHEST and (box[2:] > box[:2]).all()):
        return (np.nan, np.nan, np.nan), np.nan
    side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    middle, size, lean = (box[:2] + box[2:]) / 2 + (0, down * side), eyes * side, 0.0
    for name in _STEPS:
        told = _look(image, middle, SQUARE * size, lean, _networks()[name])
        roll = lean + _UNIT * told[2]
        middle = middle + SQUARE * size / 2 * (_turn(lean) @ told[3:5])
        size *= float(np.exp(np.clip(told[5], -1, 1)))
        lean = float(np.clip(roll, -60, 60))
    pitch, yaw = np.clip(_UNIT * told[:2], -90, 90)
    error = _UNIT * float(np.exp(told[6:8]).mean())
    return (float(pitch), float(yaw), float((roll + 180) % 360 - 180)), error


def _look(image: np.ndarray, middle: np.ndarray, side: float, lean: float, network: "_Network") -> np.ndarray:
    """The outputs (9,) for a square of the photograph that leans by so many degrees."""
    scale = onet.SIDE / side
    matrix = scale * _turn(-lean)
    seen = warp(image, np.column_stack([matrix, (onet.SIDE - 1) / 2 - matrix @ middle]), onet.SIDE)
    face, mirror = network(onet.features(np.stack([seen, seen[:, ::-1]])))
    return (face + MIRRORED * mirror) / 2


def _turn(degrees: float) -> np.ndarray:
    """(2, 2), clockwise as seen."""
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


@dataclass(frozen=True)
class _Network:
    """Three layers, each a matrix (inputs, outputs) and a bias."""

    layers: list[tuple[np.ndarray, np.ndarray]]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for i, (matrix, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ matrix + bias
        return x


@lru_cache(1)
def _networks() -> dict[str, _Network]:
    with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as stored:
        values = {name: stored[name].astype(np.float32) for name in stored.files}
    return {
        name: _Network([(values[f"{name}.{i}.weight"], values[f"{name}.{i}.bias"]) for i in range(3)])
        for name in ("rough", "fine")
    }
