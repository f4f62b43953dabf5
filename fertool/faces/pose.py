"""Head pose from 68 landmarks: the turn of a mean head whose points best fall on them.

The camera is a perspective one a metre from the head and pointed at it, because a crop of a photograph no longer
tells its camera; for faces further away or nearer this matters little. The angles are those of `head_points.rotation`.
"""

import numpy as np

from fertool.faces.head_points import POINTS, angles

#: from the camera to the head, in distances between the eyes (62 mm)
_DISTANCE = 16.0

# The jaw slides along the outline on a turned head, mouth and brows move with the expression.
_WEIGHTS = np.ones(68)
_WEIGHTS[0:17] = 0.0
_WEIGHTS[17:27] = 0.5
_WEIGHTS[48:68] = 0.5

_STEPS = 20


def estimate(landmarks: np.ndarray) -> tuple[tuple[float, float, float], float]:
    """Pose of one face.

    Args:
        landmarks: (68, 2) x, y in pixels of the source photograph, iBUG order.

    Returns:
        (pitch, yaw, roll) in degrees, and the error: the root mean square distance between the landmarks and the
        head's points drawn over them, as a fraction of the distance between the eyes that the fitted head would show
        when frontal (the jaw left out, as in the fit). All NaN where landmarks are missing or fall together.
    """
    nothing = (np.nan, np.nan, np.nan), np.nan
    used = _WEIGHTS > 0
    seen, head, trust = landmarks[used].astype(np.float64), POINTS[used], _WEIGHTS[used]
    if not np.isfinite(seen).all() or np.ptp(seen, axis=0).min() < 1e-6:
        return nothing
    centre, unit = seen.mean(axis=0), seen.std()
    seen = (seen - centre) / unit
    turn, scale, shift = _start(head, seen, trust)
    for _ in range(_STEPS):
        drawn, turned, depth = _project(head, turn, scale, shift)
        rest = seen - drawn
        size = np.linalg.norm(rest, axis=1)
        weight = trust * np.minimum(1, 1.5 * np.median(size) / np.maximum(size, 1e-9))  # Huber
        jacobian = _jacobian(turned, depth, scale)
        left = np.einsum("n,nci,ncj->ij", weight, jacobian, jacobian)
        right = np.einsum("n,nci,nc->i", weight, jacobian, rest)
        step = np.linalg.solve(left + 1e-9 * np.eye(6), right)
        turn = _rotate(step[:3]) @ turn
        scale *= np.exp(np.clip(step[3], -1, 1))
        shift = shift + step[4:]
        if np.abs(step).max() < 1e-6:
            break
    rest = seen - _project(head, turn, scale, shift)[0]
    error = float(np.sqrt((rest**2).sum(axis=1).mean()) / scale)
    return (angles(turn), error) if np.isfinite(error) else nothing


def _start(head: np.ndarray, seen: np.ndarray, trust: np.ndarray):
    """Turn, scale and shift of the best scaled orthographic projection."""
    known = np.column_stack([head, np.ones(len(head))])
    weight = np.sqrt(trust)[:, None]
    solved = np.linalg.lstsq(known * weight, seen * weight, rcond=None)[0]
    u, d, vt = np.linalg.svd(solved[:3].T, full_matrices=False)
    x, y = u @ vt
    return np.stack([x, y, np.cross(x, y)]), float(d.mean()), solved[3]


def _project(head, turn, scale, shift):
    turned = head @ turn.T
    depth = _DISTANCE / (_DISTANCE + turned[:, 2])
    return scale * depth[:, None] * turned[:, :2] + shift, turned, depth


def _jacobian(turned: np.ndarray, depth: np.ndarray, scale: float) -> np.ndarray:
    """(n, 2, 6) of the drawn points by a small turn (3), log scale and shift (2)."""
    x, y, z = turned.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    # a small turn w moves a point p by w x p
    moves = np.stack([np.stack([zero, z, -y], 1), np.stack([-z, zero, x], 1), np.stack([y, -x, zero], 1)], 1)
    flat = scale * depth[:, None]
    by_turn = flat[..., None] * (
        moves[:, :2] - (depth / _DISTANCE)[:, None, None] * turned[:, :2, None] * moves[:, 2:3]
    )
    by_scale = (flat * turned[:, :2])[..., None]
    by_shift = np.stack([np.stack([one, zero], 1), np.stack([zero, one], 1)], 1)
    return np.concatenate([by_turn, by_scale, by_shift], axis=2)


def _rotate(w: np.ndarray) -> np.ndarray:
    """The rotation about the axis w by |w| radians (Rodrigues)."""
    angle = np.linalg.norm(w)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = w / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
