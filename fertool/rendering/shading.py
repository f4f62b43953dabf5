"""From points on a head to colours: what they reflect, and the light that reaches them. Colours are linear RGB."""

from functools import lru_cache

import cv2
import numpy as np

from fertool.rendering.head import EYE, SKIN, TEETH, TONGUE, Head
from fertool.rendering.paint import folds, sample, skin
from fertool.rendering.people import Person, above_hairline
from fertool.rendering.scene import Light

#: what a pixel can show
PARTS = ("background", "body", "face", "brows", "eyes", "nose", "mouth", "hair", "occluder")
_PART = {name: np.uint8(i) for i, name in enumerate(PARTS)}
SKIN_PARTS = np.array([_PART[name] for name in ("body", "face", "brows", "nose", "mouth")])

#: columns of the per-vertex masks that `Surface` takes
MASKS = ("lips", "eyelids", "inside-mouth", "lashes")

_IRIS, _PUPIL, _RIM = 26.0, 10.5, 3.0  # degrees from the eyeball's axis


class Surface:
    """Points on the head's own mesh: reflectance, gloss and part.

    Args:
        who: the subject. units: strengths of the face units (they fold the skin).
        rest: (N, 3) where the points lie on the base head.
        masks: (N, 4) the columns of `MASKS`. material: (N,) of `fertool.rendering.head`.

    Attributes:
        albedo: (N, 3). gloss: (N,). part: (N,) index into `PARTS`.
    """

    def __init__(self, who: Person, units: dict[str, float], rest: np.ndarray, masks: np.ndarray, material: np.ndarray):
        self._who, self._rest, self._material = who, rest, material
        self._skin = material == SKIN
        painted = sample(skin(who.seed), rest[:, 0], rest[:, 1])
        depth = sample(folds(who.age, units), rest[:, 0], rest[:, 1])
        self.albedo = painted[:, :3] * (1 - depth * np.array([0.40, 0.48, 0.50], np.float32))
        self.gloss = np.full(len(rest), 0.10, np.float32)
        self.part = np.full(len(rest), _PART["face"])
        self._face(masks, beard=painted[:, 3])
        self._body()
        self._hair()
        self._eyes_and_teeth()

    def _cover(self, amount: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
        here = np.flatnonzero(amount)
        colour = np.asarray(colour, np.float32)
        if colour.ndim == 2:
            colour = colour[here]
        self.albedo[here] += amount[here, None] * (colour - self.albedo[here])

    def _face(self, masks: np.ndarray, beard: np.ndarray) -> None:
        who, (x, y, z) = self._who, self._rest.T
        lips, lids, inside, lashes = masks.T
        on_jaw = np.clip((1.0 - z) / 0.12, 0, 1) * np.clip((2.15 - y - 0.6 * z) / 0.35, 0, 1)
        self._cover(beard * on_jaw, who.hair)
        lip = np.clip((lips - 0.35) / 0.3, 0, 1)
        self._cover(lip * 0.85, who.lips * (0.9 + 0.2 * noise(x * 6, y * 1.5))[:, None])
        self.gloss += 0.12 * lip
        self._cover(np.clip(lashes * 1.3 - 0.2, 0, 0.85), who.hair * 0.25)
        self.albedo *= (1 - 0.12 * lids)[:, None]
        self._cover(np.clip(inside * 1.5 - 0.3, 0, 1), (0.12, 0.025, 0.025))

        nose = (np.abs(x) < 0.12 + 0.28 * np.clip(y, 0, 0.8)) & (y > -0.1) & (y < 0.82) & (z < -0.3)
        mouth = ((lips > 0.4) | (inside > 0.5) | np.isin(self._material, (TEETH, TONGUE))) & (z < 0.3)
        line = np.interp(np.abs(x), [0.17, 0.26, 0.42, 0.67, 0.87], [-0.2, -0.28, -0.3, -0.264, -0.208])
        brows = (np.abs(y - line) < 0.08) & (np.abs(x) > 0.12) & (np.abs(x) < 0.92) & (z < 0.1)
        for where, name in ((nose, "nose"), (brows, "brows"), (mouth, "mouth")):
            self.part[where] = _PART[name]

    def _body(self) -> None:
        x, y, z = self._rest.T
        self.part[(y + 0.6 * z > 2.2) | ((np.abs(x) > 1.1) & (z > 0.95)) | (z > 1.2)] = _PART["body"]
        cloth = self._skin * np.clip((y + 0.25 * z - 2.75) / 0.03, 0, 1)
        self._cover(cloth, self._who.cloth)
        self.gloss *= 1 - cloth

    def _hair(self) -> None:
        who, (x, y, z) = self._who, self._rest.T
        if who.hairline is None:
            return
        strand = noise(x * 2.5 + z * 2.5, y * 0.35, 0.5)
        ears = (np.abs(x) > 1.08) & (y > -0.15) & (z > 0.9) & (z < 1.6)
        amount = np.clip((above_hairline(self._rest, who.hairline) + 0.12 * (strand - 0.5)) / 0.1, 0, 1)
        amount *= self._skin & ~ears & (y < 1.3)
        self._cover(amount, who.hair * (0.65 + 0.7 * strand)[:, None])
        self.gloss *= 1 - 0.4 * amount
        self.part[amount > 0.5] = _PART["hair"]

    def _eyes_and_teeth(self) -> None:
        self.albedo[self._material == TEETH] = (
            0.95,
            0.90,
            0.80,
        )  # brighter than they are: light also comes through them
        self.gloss[self._material == TEETH] = 0.25
        self.albedo[self._material == TONGUE] = (0.35, 0.10, 0.09)
        eye = self._material == EYE
        self.albedo[eye] = _eyeball(self._rest[eye], self._who.iris)
        self.gloss[eye] = 0.9
        self.part[eye] = _PART["eyes"]


def _eyeball(rest: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """Return pupil, iris and white of points on the eyeballs, by the angle from the eyeball's axis."""
    outward = rest - np.where(rest[:, :1] > 0, 0.5, -0.5) * np.array([1, 0, 0], np.float32)
    angle = np.degrees(np.arccos(np.clip(-outward[:, 2] / np.linalg.norm(outward, axis=1), -1, 1)))
    spokes = 0.75 + 0.5 * noise(np.arctan2(outward[:, 1], outward[:, 0]) * 3, angle * 0.05)
    white = np.array([0.66, 0.61, 0.58], np.float32)
    colour = np.where((angle < _IRIS)[:, None], iris * spokes[:, None], white)
    dark = np.clip(1 - np.abs(angle - _IRIS) / _RIM, 0, 1) * 0.75
    dark = np.maximum(dark, np.clip((_PUPIL + 1 - angle) / 2, 0, 1))
    return colour * (1 - dark[:, None]) + 0.004


def lit(
    light: Light,
    albedo: np.ndarray,
    gloss: np.ndarray,
    normal: np.ndarray,
    ahead: np.ndarray,
    lit_share: np.ndarray,
    open_sky: np.ndarray,
    is_skin: np.ndarray,
) -> np.ndarray:
    """Return (N, 3) light that points send to the camera.

    Args:
        albedo, gloss: what they reflect. normal: (N, 3) unit. ahead: (N, 3) unit, from the camera to the point.
        lit_share: (N,) how much of the key light is not shadowed. open_sky: (N,) how much of the sky is seen.
        is_skin: (N,) bool. Light that enters skin comes out beyond the terminator, red most.
    """
    key = light.key.astype(np.float32)
    toward_key = normal @ key
    wrap = np.where(is_skin[:, None], np.array([0.30, 0.14, 0.08], np.float32), np.float32(0.05))
    diffuse = np.clip((toward_key[:, None] + wrap) / (1 + wrap), 0, None)
    total = diffuse * lit_share[:, None] * light.key_colour.astype(np.float32)
    fill = np.clip(normal @ light.fill.astype(np.float32), 0, None) * open_sky
    total += fill[:, None] * light.fill_colour.astype(np.float32)
    upward = (0.5 - 0.5 * normal[:, 1]) * open_sky
    total += open_sky[:, None] * light.ground.astype(np.float32)
    total += upward[:, None] * (light.sky - light.ground).astype(np.float32)

    half = key - ahead
    half /= np.sqrt(np.einsum("nc,nc->n", half, half))[:, None]
    shine = np.clip(np.einsum("nc,nc->n", normal, half), 0, 1)
    for _ in range(4):
        shine = shine * shine
    tight = np.where(gloss > 0.5, shine**8, shine)
    edge = 1 - np.clip(-np.einsum("nc,nc->n", normal, ahead), 0, 1)
    highlight = gloss * (tight * lit_share + 0.2 * (edge * edge) ** 2 * open_sky)
    return albedo * total * np.float32(0.8) + highlight[:, None] * light.key_colour.astype(np.float32)


def mask_columns(head: Head) -> np.ndarray:
    """Return (V, 4) the head's masks that `Surface` takes, side by side."""
    return np.stack([head.masks[name] for name in MASKS], axis=1)


def noise(x: np.ndarray, y: np.ndarray, smooth: float = 0.0) -> np.ndarray:
    """Return fixed noise 0..1 over the plane, 64 cells per unit; `smooth` 0..1 prefers its coarse form."""
    fine, coarse = _noise_tables()
    at = ((y * 64).astype(np.int32) & 255, (x * 64).astype(np.int32) & 255)
    return (1 - smooth) * fine[at] + smooth * coarse[at] if smooth else fine[at]


@lru_cache(1)
def _noise_tables() -> tuple[np.ndarray, np.ndarray]:
    white = np.tile(np.random.default_rng(5).random((256, 256)).astype(np.float32), (3, 3))
    tables = []
    for sigma in (1.0, 4.0):
        soft = cv2.GaussianBlur(white, (0, 0), sigma)[256:512, 256:512]
        tables.append(np.clip(0.5 + (soft - soft.mean()) / (4 * soft.std()), 0, 1))
    return tables[0], tables[1]
