"""The few landmarks that region geometry needs, out of the sets that detectors and datasets give.

Accepted sets: 68 points (iBUG order), 37 points (RAF-DB's automatic ones), 5 points (eye centres, nose tip, mouth
corners) and 42 points (RAF-DB's five set by hand, then its 37). "Left" is the left of the image. Whatever unit and
origin goes in comes out.
"""

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import ArtefactError

#: how many landmarks a set may have
KNOWN_SETS = (68, 42, 37, 5)

FIVE = ("left-eye", "right-eye", "nose", "left-mouth-corner", "right-mouth-corner")
EIGHT = (
    "nose",
    "left-eye-outer",
    "left-eye-inner",
    "right-eye-inner",
    "right-eye-outer",
    "left-mouth-corner",
    "right-mouth-corner",
    "lower-lip",
)

#: pixels: no landmark of an image lies further from its corner
FARTHEST = 1e6

_COINCIDE = 1e-3  # pixels: landmarks that lie closer together than this lie in one place
_EYE_HALF_WIDTH = 0.15  # of the distance between the eyes
_LOWER_LIP = 0.25  # below the middle of the mouth, of the mouth's width
_NOSE_TIP = 0.51  # of the way from between the eyes to the mouth: median of 1,207 hand-marked images (HELEN, AFW)

_OUTLINED = [1, 2, 3, 4, 7]  # those of the eight that only an outline holds: eye corners and lower lip

# RAF-DB's 37 automatic points, 0-based
_LEFT_EYE_37, _RIGHT_EYE_37, _MOUTH_37 = slice(13, 19), slice(19, 25), slice(25, 37)


def has_landmarks(faces: Artefact) -> bool:
    """Return whether any face of the file has landmarks."""
    return "landmarks" in faces and bool(np.isfinite(faces["landmarks"]).any())


def usable(landmarks: np.ndarray) -> np.ndarray:
    """Return (...) bool for landmarks (..., K, 2) in pixels: whether regions can be placed by them.

    They cannot where one is missing, where all lie in one place, or where one lies so far out that no image reaches it.
    """
    p = np.asarray(landmarks, dtype=np.float64)
    near = np.all(np.abs(p) < FARTHEST, axis=(-1, -2))  # false for NaN too
    return near & (np.ptp(np.where(near[..., None, None], p, 0), axis=-2).max(axis=-1) > _COINCIDE)


def landmarks_of(faces: Artefact, who_needs: str) -> np.ndarray:
    """Return the landmarks of a faces file, (N, K, 2).

    Raises:
        ArtefactError: no face has any.
    """
    if not has_landmarks(faces):
        raise ArtefactError(
            f"{who_needs} need landmarks, and no face in {faces.path} has any",
            "make the faces with landmarks: fertool detect-align ... --landmarks ert68",
        )
    return faces["landmarks"]


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Return eye centres, nose tip and mouth corners.

    Args:
        landmarks: (N, K, 2) x, y with K of `KNOWN_SETS`; NaN, or beyond `FARTHEST`, where a face has none.

    Returns:
        (N, 5, 2) in the order of `FIVE`; NaN where the landmarks they need are.

    Raises:
        ArtefactError: K is no set known here.
    """
    p = _checked(landmarks)
    if p.shape[1] in (5, 42):
        return p[:, :5]
    if p.shape[1] == 68:
        eyes = [p[:, 36:42].mean(axis=1), p[:, 42:48].mean(axis=1)]
        return np.stack([*eyes, p[:, 30], p[:, 48], p[:, 54]], axis=1)
    left, right = p[:, _LEFT_EYE_37].mean(axis=1), p[:, _RIGHT_EYE_37].mean(axis=1)
    corners = _x_extremes(p[:, _MOUTH_37])
    return np.stack([left, right, _nose_between((left + right) / 2, corners), *corners], axis=1)


def eight_points(landmarks: np.ndarray, lip: int = 57) -> np.ndarray:
    """Return MAN's eight landmarks l1..l8, with roles as Table 2 of the paper uses them.

    The lower lip (l8, whose role the paper does not name) is by default the middle of its lower edge, point 57 of 68:
    with the nose tip it spans "mouth with nose". From five points the eye corners are put 0.15 eye distances beside the
    eye centres and the lower lip a quarter of the mouth's width below its middle. The 37 points hold no nose tip; it is
    put on the line from between the eyes to the middle of the mouth. Of 42 points, eye corners and lower lip are those
    of the 37 where a face has them; all others are of the five set by hand.

    Args:
        landmarks: (N, K, 2) x, y with K of `KNOWN_SETS`; NaN, or beyond `FARTHEST`, where a face has none.
        lip: which of 68 points is l8, from 0.

    Returns:
        (N, 8, 2) in the order of `EIGHT`; NaN where the landmarks they need are.

    Raises:
        ArtefactError: K is no set known here.
    """
    p = _checked(landmarks)
    if p.shape[1] == 68:
        return p[:, [30, 36, 39, 42, 45, 48, 54, lip]]
    if p.shape[1] == 37:
        left, right, mouth = p[:, _LEFT_EYE_37], p[:, _RIGHT_EYE_37], p[:, _MOUTH_37]
        between = (left.mean(axis=1) + right.mean(axis=1)) / 2
        corners = _x_extremes(mouth)
        lower_lip = _take(mouth, mouth[..., 1].argmax(axis=1))
        return np.stack(
            [_nose_between(between, corners), *_x_extremes(left), *_x_extremes(right), *corners, lower_lip], axis=1
        )
    if p.shape[1] == 42:
        eight, automatic = eight_points(p[:, :5]), eight_points(p[:, 5:])[:, _OUTLINED]
        eight[:, _OUTLINED] = np.where(np.isnan(automatic), eight[:, _OUTLINED], automatic)
        return eight
    left, right, nose, left_corner, right_corner = np.moveaxis(p, 1, 0)
    half_eye = _EYE_HALF_WIDTH * (right - left)
    mouth = right_corner - left_corner
    down = np.stack([-mouth[:, 1], mouth[:, 0]], axis=1)  # the mouth's own "down", as long as the mouth is wide
    lower_lip = (left_corner + right_corner) / 2 + _LOWER_LIP * down
    eyes = [left - half_eye, left + half_eye, right - half_eye, right + half_eye]
    return np.stack([nose, *eyes, left_corner, right_corner, lower_lip], axis=1)


def _checked(landmarks: np.ndarray) -> np.ndarray:
    p = np.asarray(landmarks, dtype=np.float64)
    if p.ndim != 3 or p.shape[1] not in KNOWN_SETS:
        raise ArtefactError(
            f"regions cannot be placed by {p.shape[1] if p.ndim == 3 else 'such'} landmarks per face",
            f"make the faces with {', '.join(map(str, KNOWN_SETS[:-1]))} or {KNOWN_SETS[-1]} landmarks",
        )
    return np.where(np.abs(p) <= FARTHEST, p, np.nan)


def _take(points: np.ndarray, which: np.ndarray) -> np.ndarray:
    return points[np.arange(len(points)), which]


def _x_extremes(points: np.ndarray) -> list[np.ndarray]:
    return [_take(points, points[..., 0].argmin(axis=1)), _take(points, points[..., 0].argmax(axis=1))]


def _nose_between(between_eyes: np.ndarray, mouth_corners: list[np.ndarray]) -> np.ndarray:
    return between_eyes + _NOSE_TIP * ((mouth_corners[0] + mouth_corners[1]) / 2 - between_eyes)
