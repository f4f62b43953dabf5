"""What covers a face: the four kinds of the occlusion lists of RAN (Wang et al. 2020, section IV-A).

"glasses-mask" sits on the head; "left-right", "upper" and "bottom" are things, hands, hats and scarves that hide that
part of the face.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from fertool.rendering.people import Person
from fertool.rendering.scene import muted

OCCLUSIONS = ("glasses-mask", "left-right", "upper", "bottom")


@dataclass(frozen=True)
class Thing:
    """A mesh of one colour.

    Attributes:
        vertices: (N, 3). triangles: (M, 3).
        colour: (3,) linear RGB. gloss: strength of its highlight.
        on_head: vertices are in the head's frame and turn with it; otherwise they are in camera directions, relative
            to the head's origin.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    colour: np.ndarray
    gloss: float
    on_head: bool


def make(
    kind: str, rng: np.random.Generator, who: Person, skin: np.ndarray, marks: np.ndarray, posed: np.ndarray
) -> list[Thing]:
    """Return the things that cover a face in the way `kind`.

    Args:
        kind: one of `OCCLUSIONS`.
        rng: source of all variation.
        who: the subject (hands have their skin).
        skin: (V, 3) vertices in the head's frame. marks: which of them are the 68 landmarks.
        posed: (68, 3) the landmarks turned as in the image.
    """
    face = skin[marks]
    if kind == "glasses-mask":
        return _mask(rng, face, skin) if is_mask(rng) else _glasses(rng, face)
    if kind == "upper" and rng.random() < 0.35:
        return [_hat(rng, face)]
    if kind == "bottom" and rng.random() < 0.35:
        return [_scarf(rng, face)]
    return _object(kind, rng, who, posed)


def is_mask(rng: np.random.Generator) -> bool:
    """Return which of the two a "glasses-mask" is: the first number that `make` draws."""
    return rng.random() < 0.5


def _object(kind: str, rng: np.random.Generator, who: Person, posed: np.ndarray) -> list[Thing]:
    """Return a hand or a thing before the face."""
    brows, mouth = posed[17:27].mean(0), posed[48:68].mean(0)
    if kind == "upper":
        centre, half = brows + [0, -0.2, 0], rng.uniform([1.0, 0.45], [1.4, 0.65])
    elif kind == "bottom":
        centre, half = mouth + [0, 0.25, 0], rng.uniform([0.75, 0.5], [1.2, 0.75])
    else:
        right = rng.random() < 0.5
        part = posed[[42, 45, 54, 35, 13, 11]] if right else posed[[36, 39, 48, 31, 3, 5]]
        centre, half = part.mean(0) + [0.2 if right else -0.2, 0, 0], rng.uniform([0.55, 1.0], [0.75, 1.5])
    centre = centre + np.array([*rng.normal(0, 0.07, 2), 0])
    depth = rng.uniform(0.06, 0.4)
    centre[2] = posed[:, 2].min() - 0.08 - depth
    turn = np.radians(rng.normal(0, 12))

    if rng.random() < 0.4:
        return _hand(rng, who, centre, half, turn)
    exponent = rng.choice([0.25, 0.4, 1.0])
    vertices, triangles = _solid(np.array([*half, depth]), exponent)
    return [Thing(_turned(vertices, turn) + centre, triangles, muted(rng), rng.uniform(0, 0.6), False)]


def _hand(rng: np.random.Generator, who: Person, centre: np.ndarray, half: np.ndarray, turn: float) -> list[Thing]:
    """Return a flat hand: palm, fingers and thumb, large enough to cover `half`, fingers along the longer side."""
    long, wide = max(half), min(max(half) * 0.62, min(half) * 1.1)
    if half[0] > half[1]:
        turn += np.pi / 2 * rng.choice([-1, 1])
    elif rng.random() < 0.3:
        turn += np.pi
    pieces = [(np.array([wide, long * 0.55, 0.14]), np.array([0, long * 0.5, 0]), 0.6, 0.0)]
    for k, reach in enumerate((0.85, 1.0, 0.95, 0.75)):
        x = (k - 1.5) * wide * 0.5
        length = long * 0.62 * reach
        pieces.append(
            (np.array([wide * 0.24, length, 0.12]), np.array([x, 0.1 * long - length, 0]), 0.7, 0.05 * (k - 1.5))
        )
    pieces.append((np.array([wide * 0.26, long * 0.42, 0.12]), np.array([wide * 1.0, long * 0.25, 0]), 0.7, 0.6))
    mirror = np.array([rng.choice([-1, 1]), 1, 1])
    vertices, triangles, count = [], [], 0
    for half_axes, at, exponent, lean in pieces:
        v, t = _solid(half_axes, exponent)
        vertices.append(_turned(_turned(v, lean) + at, 0.0) * mirror)
        triangles.append(t + count)
        count += len(v)
    colour = who.skin * rng.uniform(0.85, 1.1)
    return [Thing(_turned(np.concatenate(vertices), turn) + centre, np.concatenate(triangles), colour, 0.1, False)]


def _hat(rng: np.random.Generator, face: np.ndarray) -> Thing:
    """Return a woollen hat pulled down over the eyebrows."""
    edge = face[36:48, 1].mean() - rng.uniform(0.02, 0.16)
    vertices, triangles = _solid(np.array([1.42, 1.75, 1.75]), 0.85)
    vertices = vertices + [0, -0.45, 0.98]
    vertices[:, 1] = np.minimum(vertices[:, 1], edge)
    return Thing(vertices, triangles, muted(rng), 0.0, True)


def _scarf(rng: np.random.Generator, face: np.ndarray) -> Thing:
    """Return a scarf drawn up over the mouth."""
    edge = face[33, 1] + rng.uniform(-0.1, 0.12)
    front = face[27:68, 2].min() - 0.05
    vertices, triangles = _solid(np.array([1.32, 1.6, 0.9 - front]), 0.8)
    vertices = vertices + [0, 1.9, 0.9]
    vertices[:, 1] = np.maximum(vertices[:, 1], edge)
    return Thing(vertices, triangles, muted(rng), 0.0, True)


def _mask(rng: np.random.Generator, face: np.ndarray, skin: np.ndarray) -> list[Thing]:
    """Return a medical mask from the bridge of the nose to below the chin, with its ear loops."""
    top = face[28, 1] + rng.uniform(-0.05, 0.12)
    chin, side = face[8, 1] + 0.1, np.ptp(face[[2, 14], 0]) / 2
    u, v = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(0, 1, 33))
    x = u * side * (1.0 - 0.28 * np.abs(v - 0.35) ** 1.5)
    bend = 0.3 * np.abs(u) ** 1.5
    y = top + bend + (chin - 0.8 * bend - top - bend) * v
    z = _draped(x, y, skin) - 0.05
    sheet = np.stack([x, y, z], -1).reshape(-1, 3)
    at = np.arange(u.size).reshape(u.shape)
    a, b, c, d = at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    colours = np.array([(0.75, 0.8, 0.82), (0.25, 0.5, 0.62), (0.02, 0.02, 0.025), (0.8, 0.5, 0.55), (0.3, 0.5, 0.4)])
    colour = colours[rng.integers(5)] * rng.uniform(0.8, 1.1)
    things = [Thing(sheet, triangles, colour, 0.0, True)]
    for x in (-1, 1):
        for start in (0.3, 0.85):
            edge = sheet[at[int(start * 32), -1]] * [x, 1, 1]
            ear = np.array([x * (side + 0.08), start * 0.5, 1.2])
            things.append(Thing(*_tube(np.array([edge, ear]), 0.016, closed=False), colour, 0.0, True))
    return things


def _draped(x: np.ndarray, y: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Return depth of a cloth over the front of the face at (x, y): it lies on what stands out and spans the rest."""
    cells, reach = 64, 2.2
    at = ((skin[:, :2] + reach) / (2 * reach) * cells).astype(int)
    near = (at >= 0).all(1) & (at < cells).all(1) & (skin[:, 2] < 1.0)
    depth = np.full((cells, cells), 1.0, np.float32)
    np.minimum.at(depth, (at[near, 1], at[near, 0]), skin[near, 2])
    smooth = cv2.GaussianBlur(cv2.erode(depth, np.ones((5, 5))), (0, 0), 1.6)
    u, v = (((p + reach) / (2 * reach) * cells - 0.5).astype(np.float32) for p in (x, y))
    return cv2.remap(smooth, u, v, cv2.INTER_LINEAR)


def _glasses(rng: np.random.Generator, face: np.ndarray) -> list[Thing]:
    """Return sunglasses, or spectacles with a heavy frame."""
    dark = rng.random() < 0.65
    rx, ry = rng.uniform([0.36, 0.22], [0.44, 0.34]) if dark else rng.uniform([0.36, 0.24], [0.42, 0.32])
    power = rng.choice([0.5, 0.75, 1.0])
    front = min(face[27, 2], face[17:27, 2].min()) - 0.06
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    rim = np.stack([_power(np.cos(angle), power) * rx, _power(np.sin(angle), power) * ry], -1)
    frame = rng.uniform(0.022, 0.05)
    frame_colour = rng.choice([(0.01, 0.01, 0.01), (0.08, 0.03, 0.015), (0.3, 0.3, 0.32), (0.25, 0.02, 0.03)])
    things = []
    for eye in (face[36:42].mean(0), face[42:48].mean(0)):
        out = np.sign(eye[0])
        centre = np.array([out * max(abs(eye[0]), rx + 0.07), eye[1] + 0.03, 0])
        loop = np.stack([centre[0] + rim[:, 0], centre[1] + rim[:, 1], np.zeros(len(rim))], -1)
        loop[:, 2] = front + 0.16 * np.maximum(0, np.abs(loop[:, 0]) - 0.3) ** 1.5
        things.append(Thing(*_tube(loop, frame, closed=True), frame_colour, 0.6, True))
        if dark:
            middle = np.append(loop, loop.mean(0, keepdims=True) - [[0, 0, 0.03]], axis=0)
            n = len(loop)
            fan = np.stack([np.arange(n), (np.arange(n) + 1) % n, np.full(n, n)], -1)
            tint = rng.choice([(0.008, 0.008, 0.01), (0.03, 0.015, 0.008), (0.01, 0.02, 0.03)])
            things.append(Thing(middle, fan, tint, 1.2, True))
        hinge = loop[np.argmax(np.abs(loop[:, 0]))]
        temple = np.array([hinge, [out * 1.2, hinge[1] - 0.02, 1.05]])
        things.append(Thing(*_tube(temple, frame * 0.8, closed=False), frame_colour, 0.4, True))
    inner = max(abs(face[36:42, 0].mean()), rx + 0.07) - rx
    bridge = np.array([[-inner, face[36:48, 1].mean(), front], [0, face[36:48, 1].mean() - 0.05, front - 0.05]])
    bridge = np.concatenate([bridge, bridge[:1] * [-1, 1, 1]])
    things.append(Thing(*_tube(bridge, frame, closed=False), frame_colour, 0.6, True))
    return things


def _solid(half: np.ndarray, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a superellipsoid: exponent 1 is an ellipsoid, small ones are boxes with round edges."""
    around, down = 40, 21
    a = np.linspace(0, 2 * np.pi, around, endpoint=False)
    b = np.linspace(-np.pi / 2, np.pi / 2, down)[:, None]
    ring = _power(np.cos(b), exponent)
    z_free = np.broadcast_to(_power(np.sin(b), exponent), (down, around))
    points = np.stack([ring * _power(np.cos(a), exponent), z_free, ring * _power(np.sin(a), exponent)], -1)
    at = np.arange(down * around).reshape(down, around)
    right = np.roll(at, -1, axis=1)
    p, q, r, s = at[:-1], right[:-1], right[1:], at[1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((p, q, r), (p, r, s))])
    return points.reshape(-1, 3) * half, triangles


def _tube(line: np.ndarray, radius: float, *, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a tube of 8 sides around a line of points."""
    ahead = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    ahead = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    aside = np.cross(ahead, np.where(np.abs(ahead[:, 2:]) < 0.9, [[0, 0, 1.0]], [[0, 1.0, 0]]))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    other = np.cross(ahead, aside)
    a = np.linspace(0, 2 * np.pi, 8, endpoint=False)[None, :, None]
    rings = line[:, None] + radius * (np.cos(a) * aside[:, None] + np.sin(a) * other[:, None])
    at = np.arange(len(line) * 8).reshape(len(line), 8)
    following = np.roll(at, -1, 0) if closed else at[1:]
    at = at if closed else at[:-1]
    right, far = np.roll(at, -1, 1), np.roll(following, -1, 1)
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((at, right, far), (at, far, following))])
    return rings.reshape(-1, 3), triangles


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(values) * np.abs(values) ** exponent
