"""What is painted on the skin: eyebrows, beard, freckles, blush, and the folds an expression makes.

The painting is an image over the x, y plane of the base head, so it moves with the skin whatever the face does.
"""

from functools import lru_cache

import cv2
import numpy as np

from fertool.faces.mean_head import VERTICES
from fertool.rendering.head import load_head
from fertool.rendering.people import Person, person

SCALE = 160  # painted pixels per interocular distance
_LEFT, _TOP, _RIGHT, _BOTTOM = -1.35, -1.4, 1.35, 2.0
_WIDTH, _HEIGHT = round((_RIGHT - _LEFT) * SCALE), round((_BOTTOM - _TOP) * SCALE)

# folds: (points for the picture's right half, half width, units that deepen it, depth it has with age)
_FOLDS = (
    ([(0.07, -0.12), (0.09, -0.36)], 0.022, ("browDownLeft", "browDownRight"), 0.25),
    ([(0.0, -0.52), (0.3, -0.54), (0.55, -0.47)], 0.022, ("browInnerUp",), 0.3),
    ([(0.0, -0.66), (0.35, -0.68), (0.62, -0.6)], 0.022, ("browInnerUp",), 0.3),
    ([(0.3, -0.56), (0.6, -0.55), (0.82, -0.44)], 0.02, ("browOuterUpLeft", "browOuterUpRight"), 0.1),
    ([(0.0, -0.02), (0.13, 0.05)], 0.018, ("noseSneerLeft", "noseSneerRight"), 0.0),
    ([(0.0, 0.08), (0.14, 0.15)], 0.018, ("noseSneerLeft", "noseSneerRight"), 0.0),
    ([(0.09, 0.2), (0.19, 0.32)], 0.018, ("noseSneerLeft", "noseSneerRight"), 0.0),
    ([(0.27, 0.66), (0.38, 0.78), (0.47, 0.95)], 0.022, ("mouthSmileLeft", "mouthSmileRight"), 0.4),
    ([(0.26, 0.62), (0.36, 0.74), (0.44, 0.95)], 0.03, ("noseSneerLeft", "noseSneerRight"), 0.2),
    ([(0.8, 0.0), (0.94, -0.06)], 0.014, ("cheekSquintLeft", "cheekSquintRight"), 0.35),
    ([(0.8, 0.05), (0.95, 0.06)], 0.014, ("cheekSquintLeft", "cheekSquintRight"), 0.35),
    ([(0.3, 0.2), (0.5, 0.27), (0.68, 0.2)], 0.025, ("cheekSquintLeft", "eyeSquintRight"), 0.35),
)


def sample(painting: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the (N, C) values of a painting (H, W, C) at points of the base head."""
    width = 256  # OpenCV samples at pictures of points, none of whose sides may be very long
    count = -(-len(x) // width) * width
    u = np.zeros(count, np.float32)
    v = np.zeros(count, np.float32)
    u[: len(x)] = (x - _LEFT) * SCALE
    v[: len(y)] = (y - _TOP) * SCALE
    got = cv2.remap(
        painting, u.reshape(-1, width), v.reshape(-1, width), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return got.reshape(count, -1)[: len(x)]


def folds(age: float, units: dict[str, float]) -> np.ndarray:
    """Return (H, W, 1) float32: how deep the skin is folded, 0 to 1, by age and by face units of these strengths."""
    lines = []
    for points, width, names, aged in _FOLDS:
        depth = 0.6 * float(np.mean([max(0.0, units.get(n, 0.0)) for n in names])) + 0.5 * aged * age
        if depth > 0.08:
            lines.append((min(depth, 1.0), width, points))
    depths = np.zeros((_HEIGHT, _WIDTH), np.uint8)
    for depth, width, points in sorted(lines):
        for mirror in (-1, 1):
            line = ((np.array(points) * [mirror, 1] - [_LEFT, _TOP]) * SCALE * 16).astype(np.int32)
            thick = max(1, int(width * SCALE))
            cv2.polylines(depths, [line], False, round(255 * depth), thick, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(depths, (0, 0), 1.3)[..., None] / np.float32(255)


@lru_cache(64)
def skin(seed: int) -> np.ndarray:
    """Return (H, W, 4) float32: a subject's skin at rest, linear RGB reflectance, and how much beard covers it."""
    who = person(seed)
    rng = np.random.default_rng([seed, 2])
    x = _LEFT + np.arange(_WIDTH, dtype=np.float32) / SCALE
    y = (_TOP + np.arange(_HEIGHT, dtype=np.float32) / SCALE)[:, None]

    grain = rng.normal(0, 1, (_HEIGHT, _WIDTH)).astype(np.float32)
    tone = 1 + 0.018 * grain + 0.5 * cv2.GaussianBlur(grain, (0, 0), 12)
    bare = who.skin.astype(np.float32) * tone[..., None]

    def spot(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return np.exp(-(((np.abs(x) - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)

    red = who.blush * (spot(0.66, 0.55, 0.3, 0.26) + 0.7 * spot(0, 0.6, 0.22, 0.16) + 0.3 * spot(0, 1.6, 0.3, 0.2))
    bare *= 1 - red[..., None] * np.array([0.04, 0.2, 0.18], np.float32)
    socket = 0.14 * spot(0.45, 0.16, 0.3, 0.1) + 0.12 * spot(0.3, -0.05, 0.12, 0.16)
    bare *= 1 - (1 + who.age) * socket[..., None]
    if who.freckles > 0.02:
        dots = cv2.GaussianBlur((rng.random((_HEIGHT, _WIDTH)) < 0.012).astype(np.float32), (0, 0), 1.0)
        amount = np.clip(dots * 8, 0, 1) * who.freckles * np.clip(spot(0.4, 0.45, 0.55, 0.35), 0, 1)
        bare *= 1 - amount[..., None] * np.array([0.35, 0.5, 0.6], np.float32)
    brows = _eyebrows(who, rng)[..., None]
    bare += brows * (who.hair * 0.6 - bare)
    return np.dstack([bare, _beard(x, y, grain) * who.beard]).astype(np.float32)


def _beard(x: np.ndarray, y: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Return where a beard grows, 0..1: moustache, chin and jaw."""
    cheek = 0.78 + 0.25 * np.clip(1 - np.abs(x) / 0.5, 0, 1) - 0.85 * np.clip((np.abs(x) - 0.55) / 0.6, 0, 1)
    lower = np.clip((y - np.where(np.abs(x) < 0.42, 0.84, cheek + 0.1)) / 0.12, 0, 1)
    bare = np.exp(-((x / 0.3) ** 2) - ((y - 1.38) / 0.09) ** 2) * 0.5
    return np.clip(lower * (1 - bare) * (0.75 + 0.2 * grain), 0, 1)


def _eyebrows(who: Person, rng: np.random.Generator) -> np.ndarray:
    """Return how much eyebrow covers the skin, 0..1: single hairs along the brow landmarks, over a soft shadow."""
    head = load_head()
    points = head.rest[head.vertex(np.array(VERTICES[22:27]))][:, :2]  # inner to outer end, the picture's right brow
    hairs = np.zeros((_HEIGHT, _WIDTH), np.uint8)
    for mirror in (-1, 1):
        curve = points * [mirror, 1]
        for t in rng.random(150):
            at = np.array([np.interp(t * 4, range(5), curve[:, k]) for k in range(2)])
            ahead = np.array([np.interp(min(t * 4 + 0.3, 4), range(5), curve[:, k]) for k in range(2)]) - at
            half = who.brow * (1.15 if t < 0.65 else 1.15 * (1 - 0.75 * (t - 0.65) / 0.35))
            root = at + [0, rng.uniform(-1, 1) * half]
            tip = root + ahead * rng.uniform(0.6, 1.4) + [0, -0.035 * (1 - t)]
            ends = [tuple(int(c) for c in ((p - [_LEFT, _TOP]) * SCALE * 16)) for p in (root, tip)]
            cv2.line(hairs, ends[0], ends[1], int(rng.integers(128, 256)), 2, cv2.LINE_AA, shift=4)
    cover = hairs / np.float32(255)
    soft = cv2.GaussianBlur(cover, (0, 0), 2.5)
    return np.clip(0.65 * cover + 0.6 * soft, 0, 1) * who.brow_density
