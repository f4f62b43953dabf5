"""Head pose: who estimates it, and one way, from 68 landmarks: the turn of a mean head whose points best fall on them.

The camera is a perspective one a metre from the head and pointed at it, because a crop of an image no longer
tells its camera; for faces further away or nearer this matters little. The angles are those of `head_points.rotation`.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fertool.errors import UsageError
from fertool.faces.mean_head import POINTS, angles
from fertool.regions.points import usable

#: from the camera to the head, in distances between the eyes (62 mm)
_DISTANCE = 16.0

# On a turned head the jaw slides to the outline, and mouth and brows move with the expression. Without the jaw the turn
# is lost in the shape of the nose: its weight was chosen on rendered heads with landmarks found by ERT.
_TRUST = np.ones(68)
_TRUST[:17] = 0.3
_TRUST[17:27] = _TRUST[48:] = 0.5

_STEPS = 15
_ENOUGH = 1e-3  # radians, a twentieth of a degree, and fractions of the face's size


class Estimator(Protocol):
    """Estimates the pose of some heads at once."""

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[np.ndarray],
        landmarks: Sequence[np.ndarray | None],
        detector: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, 3) pitch, yaw and roll in degrees, and (n,) errors; NaN where unknown.

        Args:
            images: an (H, W, 3) RGB image for each head.
            boxes: of its face, x0, y0, x1, y1, as `detector` draws it.
            landmarks: its (K, 2) landmarks, or None.
        """
        ...


def make(name: str, weights: str | None = None, device: str = "cpu") -> Estimator:
    """Return an estimator by name.

    "learned" sees pixels and needs no landmarks; its error is in degrees (`fertool.faces.pose_net`). "landmarks" fits a
    mean head to 68 landmarks and knows nothing of faces with others; its error is that of `estimate`. "sixd" is
    6DRepNet with `weights`, and gives no error.

    Raises:
        UsageError: weights for an estimator that takes none, or none for one that does.
        DeviceError: a package is missing, or the file does not hold 6DRepNet's weights.
    """
    if (weights is not None) != (name == "sixd"):
        raise UsageError(
            f"pose {name} " + ("takes no weights" if weights else "needs 6DRepNet's published weights"),
            "add --pose sixd --set detect-align.pose_weights=FILE",
        )
    if weights is not None:
        from fertool.faces.sixd import SixDRepNet

        return SixDRepNet(weights, device)
    if name == "landmarks":
        return _by_landmarks
    from fertool.faces import pose_net

    return lambda images, boxes, landmarks, detector: pose_net.estimate(images, boxes, detector, device)


def _by_landmarks(
    images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], landmarks: Sequence[np.ndarray | None], detector: str
) -> tuple[np.ndarray, np.ndarray]:
    known = [estimate(m) if m is not None and len(m) == 68 else (_UNKNOWN, np.nan) for m in landmarks]
    return np.array([angles for angles, _ in known]).reshape(-1, 3), np.array([error for _, error in known])


_UNKNOWN = (np.nan, np.nan, np.nan)


def estimate(landmarks: np.ndarray) -> tuple[tuple[float, float, float], float]:
    """Pose of one face.

    Args:
        landmarks: (68, 2) x, y in pixels of the source image, iBUG order.

    Returns:
        (pitch, yaw, roll) in degrees, and the error: the root mean square distance between the landmarks and the
        head's points drawn over them, weighted as in the fit, as a fraction of the distance between the eyes that the
        fitted head would show when frontal. All NaN where landmarks are missing or fall together.
    """
    nothing = (np.nan, np.nan, np.nan), np.nan
    seen = np.asarray(landmarks, dtype=np.float64)
    if not usable(seen) or np.ptp(seen, axis=0).min() < 1e-6:
        return nothing
    seen = (seen - seen.mean(axis=0)) / seen.std()
    turn, scale, shift = _start(seen)
    for _ in range(_STEPS):
        drawn, turned, depth = _project(turn, scale, shift)
        rest = seen - drawn
        apart = np.sqrt((rest**2).sum(axis=1))
        weight = _TRUST * np.minimum(1, 1.5 * np.median(apart) / np.maximum(apart, 1e-9))  # Huber
        jacobian = _jacobian(turned, depth, scale)
        weighted = (jacobian * weight).reshape(6, -1)
        step = np.linalg.solve(weighted @ jacobian.reshape(6, -1).T + 1e-9 * np.eye(6), weighted @ rest.T.ravel())
        turn = _rotation(step[:3]) @ turn
        scale *= np.exp(np.clip(step[3], -1, 1))
        shift = shift + step[4:]
        if np.abs(step).max() < _ENOUGH:
            break
    squares = ((seen - _project(turn, scale, shift)[0]) ** 2).sum(axis=1)
    error = float(np.sqrt(np.average(squares, weights=_TRUST)) / scale)
    return (angles(turn), error) if np.isfinite(error) else nothing


def _start(seen: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Turn, scale and shift of the best scaled orthographic projection."""
    weight = np.sqrt(_TRUST)[:, None]
    known = np.column_stack([POINTS, np.ones(len(POINTS))])
    solved = np.linalg.lstsq(known * weight, seen * weight, rcond=None)[0]
    u, d, vt = np.linalg.svd(solved[:3].T, full_matrices=False)
    x, y = u @ vt
    return np.stack([x, y, np.cross(x, y)]), float(d.mean()), solved[3]


def _project(turn: np.ndarray, scale: float, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the head's points as drawn (68, 2), turned (68, 3), and how much nearness enlarges each."""
    turned = POINTS @ turn.T
    depth = _DISTANCE / (_DISTANCE + turned[:, 2])
    return scale * depth[:, None] * turned[:, :2] + shift, turned, depth


def _jacobian(turned: np.ndarray, depth: np.ndarray, scale: float) -> np.ndarray:
    """Return (6, 2, 68): how drawn points move with a small turn (3), the logarithm of the scale, and the shift (2)."""
    x, y, z = turned.T
    none, one, flat = np.zeros_like(x), np.ones_like(x), scale * depth
    nearer = depth / _DISTANCE
    # a small turn w moves a point p by w × p; what comes nearer grows
    return np.array(
        [
            (-flat * nearer * x * y, flat * (-z - nearer * y * y)),
            (flat * (z + nearer * x * x), flat * nearer * x * y),
            (-flat * y, flat * x),
            (flat * x, flat * y),
            (one, none),
            (none, one),
        ]
    )


def _rotation(w: np.ndarray) -> np.ndarray:
    """Return the rotation about the axis w by |w| radians (Rodrigues)."""
    angle = np.sqrt(w @ w)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = w / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
