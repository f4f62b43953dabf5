"""From landmarks or a box to a face of fixed size: templates, transforms, and warping without aliasing.

Transforms are (2, 3) matrices that take pixels of the source to pixels of the output, the centre of the top-left
pixel being (0, 0) in both.
"""

from dataclasses import dataclass

import numpy as np

from fertool.errors import UsageError
from fertool.regions.points import five_points, usable


@dataclass(frozen=True)
class Template:
    """Where chosen landmarks should lie in the output.

    Attributes:
        about: which landmarks they are, and where the numbers come from.
        points: (n, 2) x, y as fractions of the side of a square output, edge to edge. Of another output it is the
            square as wide as the output, half-way down.
        of: which of the 68 landmarks they are, or () for points derived from any set of landmarks.
    """

    about: str
    points: tuple[tuple[float, float], ...]
    of: tuple[int, ...] = ()


_EYES = ((0.30, 0.35), (0.70, 0.35))

TEMPLATES: dict[str, Template] = {
    "eyes-mouth": Template("eye centres and the middle of the mouth (as used for MAN)", (*_EYES, (0.50, 0.78))),
    "eyes": Template("eye centres (as used for WS-LGRN)", _EYES),
    "dlib-chip": Template(
        "eye corners and nose base as in dlib's face chips with a padding of a quarter (as used for RAN)",
        ((0.247, 0.309), (0.389, 0.319), (0.597, 0.319), (0.740, 0.309), (0.493, 0.585)),
        (36, 39, 42, 45, 33),
    ),
}


def check(template: str, landmarks: int, kind: str) -> None:
    """Refuse a template that cannot be reached with so many landmarks, or by a transform of that kind.

    Raises:
        UsageError: the message says what is needed.
    """
    chosen = TEMPLATES[template]
    if kind == "frontal" and landmarks != 68:
        raise UsageError(
            f"a frontal view is drawn by 68 landmarks, not {landmarks}", "use --landmarks ert68, or another --align"
        )
    if chosen.of and landmarks != 68:
        raise UsageError(
            f"the template {template} needs 68 landmarks, not {landmarks}", "use --landmarks ert68 or another template"
        )
    if kind == "affine" and len(chosen.points) < 3:
        raise UsageError(
            f"the {len(chosen.points)} points of the template {template} do not determine an affine transform",
            "use --align similarity, or --template eyes-mouth",
        )


def align(landmarks: np.ndarray, template: str, size: int, kind: str, height: int | None = None) -> np.ndarray | None:
    """Return the transform that brings landmarks (K, 2) to a template, of kind "similarity" or "affine".

    Args:
        size: width of the output. height: of the output, if it is no square.

    Returns:
        (2, 3), or None if the landmarks are missing or coincide.
    """
    chosen = TEMPLATES[template]
    if chosen.of:
        source = landmarks[list(chosen.of)]
    else:
        five = five_points(landmarks[None])[0]
        source = np.stack([five[0], five[1], (five[3] + five[4]) / 2])[: len(chosen.points)]
    target = np.array(chosen.points) * size - 0.5 + (0, ((height or size) - size) / 2)
    if not usable(source):
        return None
    matrix = (similarity if kind == "similarity" else affine)(source, target)
    scale = np.linalg.det(matrix[:, :2])
    return matrix if np.isfinite(scale) and scale > 1e-9 else None


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return least-squares rotation, uniform scale and shift from (n, 2) to (n, 2) points, without mirroring.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eqs. 40-42.
    Coinciding points give scale 0.
    """
    from_centre, to_centre = source.mean(axis=0), target.mean(axis=0)
    p, q = source - from_centre, target - to_centre
    spread = (p**2).sum()
    if spread == 0:
        return np.column_stack([np.zeros((2, 2)), to_centre])
    u, d, vt = np.linalg.svd(q.T @ p)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = (d * sign).sum() / spread * (u * sign) @ vt
    return np.column_stack([turn, to_centre - turn @ from_centre])


def affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return least-squares affine transform from (n, 2) to (n, 2) points, n >= 3."""
    known = np.column_stack([source, np.ones(len(source))])
    return np.linalg.lstsq(known, target, rcond=None)[0].T


def crop(box: np.ndarray, size: int, margin: float = 0.0, height: int | None = None) -> np.ndarray:
    """Return the transform that brings a box to the output, unturned and whole.

    Args:
        box: x0, y0, x1, y1, edges in source pixels; one side is widened to the shape of the output.
        size: width of the output. height: of the output, if it is no square.
        margin: how far the widened box is widened further on each side, as a fraction of its sides.
    """
    x0, y0, x1, y1 = box
    output = np.array([size, height or size])
    sides = np.maximum((x1 - x0, y1 - y0), 1.0)  # a box without an area is a pixel
    scale = min(output / sides) / (1 + 2 * margin)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    shift = (output - 1) / 2 - scale * centre
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (..., 2) under a (2, 3) transform."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the (2, 3) transform that undoes another."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


_FINEST = 4096  # longer side of the enlarged drawing, at most


def warp(image: np.ndarray, matrix: np.ndarray, size: int, height: int | None = None) -> np.ndarray:
    """Return the (height, size[, 3]) uint8 output of a transform; a square one without `height`.

    When the face shrinks it is drawn several times as large first and averaged down, so that every source pixel
    counts. Beyond the image its edge is repeated.
    """
    import cv2

    shrinks = 1 / np.sqrt(max(abs(np.linalg.det(matrix[:, :2])), 1e-12))  # 1e-12: nothing is left of a face in it
    height = height or size
    k = max(1, min(int(np.ceil(shrinks - 1e-6)), _FINEST // max(size, height)))
    finer = matrix * k
    finer[:, 2] += (k - 1) / 2
    how = cv2.INTER_CUBIC if k == 1 else cv2.INTER_LINEAR
    drawn = cv2.warpAffine(image, finer, (size * k, height * k), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return drawn if k == 1 else cv2.resize(drawn, (size, height), interpolation=cv2.INTER_AREA)


def remap(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return an image (H, W[, C]) at places (h, w, 2) float32 x, y, linear between pixels; beyond it its edge."""
    import cv2

    # OpenCV's stubs do not say that one map of pairs takes no second map
    return cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
