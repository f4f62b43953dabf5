"""What surrounds the face: light, camera and background, drawn at random without regard to the expression."""

from dataclasses import dataclass

import cv2
import numpy as np

#: the points (in the frame of the head) about which a head turns, and at which the camera aims
PIVOT = np.array([0.0, 0.75, 1.2])
AIM = np.array([0.0, -0.1, 0.45])


@dataclass(frozen=True)
class Light:
    """Directions point from the face to the light; colours are linear RGB; softness: pixels of a 160-pixel image."""

    key: np.ndarray
    key_colour: np.ndarray
    softness: float
    fill: np.ndarray
    fill_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray

    @property
    def strength(self) -> float:
        """About how much light falls on a face turned to the camera."""
        key = self.key_colour.mean() * (0.15 + 0.5 * max(0.0, -self.key[2]))
        return float(key + 0.3 * self.fill_colour.mean() + 0.35 * (self.sky + self.ground).mean())


@dataclass(frozen=True)
class Camera:
    """A pinhole at the origin looking along +z; the head is moved in front of it.

    Attributes:
        focal: in sides of the image.
        offset: (3,) where the point aimed at is moved to.
    """

    focal: float
    offset: np.ndarray

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """Return (N, 2) pixels (the centre of the top-left one is (0, 0)) of points (N, 3) in camera space."""
        return (points[:, :2] / points[:, 2:] * self.focal + 0.5) * size - 0.5

    def rays(self, size: int) -> np.ndarray:
        """Return (size * size, 3) unit directions through the pixel centres, row by row."""
        at = (((np.arange(size) + 0.5) / size - 0.5) / self.focal).astype(np.float32)
        directions = np.ones((size, size, 3), np.float32)
        directions[..., 0], directions[..., 1] = at, at[:, None]
        directions /= np.sqrt(1 + at**2 + (at**2)[:, None])[..., None]
        return directions.reshape(-1, 3)


@dataclass(frozen=True)
class Scene:
    """Everything about an image but the person, the expression and what covers it.

    Attributes:
        exposure: brightness that a face of middling tone is brought towards.
        blur: standard deviation in pixels of a 160-pixel image. noise: that of the sensor, 0..1.
    """

    light: Light
    camera: Camera
    exposure: float
    blur: float
    noise: float


def draw(rng: np.random.Generator) -> Scene:
    """Return a scene, all of it from `rng`."""
    distance = rng.uniform(11, 20)
    side = rng.uniform(3.9, 4.9)  # how much of the world the picture spans at the face
    shift = np.array([rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.12), 0]) * side * 0.5
    camera = Camera(focal=distance / side, offset=np.array([0, 0, distance]) + shift)
    return Scene(
        light=_light(rng),
        camera=camera,
        exposure=float(rng.uniform(0.16, 0.30)),
        blur=float(rng.choice([0, rng.uniform(0.2, 0.9)])),
        noise=float(rng.uniform(0.003, 0.02)),
    )


def _light(rng: np.random.Generator) -> Light:
    def towards(azimuth: float, elevation: float) -> np.ndarray:
        a, e = np.radians([azimuth, elevation])
        return np.array([np.sin(a) * np.cos(e), -np.sin(e), -np.cos(a) * np.cos(e)])

    def tinted(warmth: float, strength: float) -> np.ndarray:
        return strength * np.array([1 + 0.18 * warmth, 1.0, 1 - 0.22 * warmth])

    azimuth = np.clip(rng.normal(0, 40), -80, 80)
    warmth = rng.normal(0, 0.6)
    ambient = rng.uniform(0.3, 0.75)
    return Light(
        key=towards(azimuth, rng.uniform(5, 60)),
        key_colour=tinted(warmth, rng.uniform(0.9, 1.6)),
        softness=float(rng.uniform(0.4, 2.0)),
        fill=towards(-azimuth + rng.normal(0, 30), rng.uniform(-10, 30)),
        fill_colour=tinted(rng.normal(0, 0.6), rng.uniform(0.0, 0.35)),
        sky=tinted(rng.normal(-0.3, 0.4), ambient),
        ground=tinted(rng.normal(0.3, 0.4), ambient * rng.uniform(0.3, 0.9)),
    )


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a (size, size, 3) linear RGB image: a wall, or an out-of-focus room or garden."""
    small = 48
    first, second = muted(rng), muted(rng)
    ramp = np.linspace(0, 1, small)[:, None, None]
    picture = np.broadcast_to(first + (second - first) * ramp, (small, small, 3)).astype(np.float32).copy()
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture.transpose(1, 0, 2))
    for _ in range(rng.choice([0, int(rng.integers(4, 16))], p=[0.35, 0.65])):
        colour = muted(rng).tolist()
        corner, extent = rng.integers(-8, small, 2), rng.integers(3, 26, 2)
        if rng.random() < 0.5:
            cv2.rectangle(picture, corner.tolist(), (corner + extent).tolist(), colour, -1)
        else:
            cv2.ellipse(picture, corner.tolist(), (extent // 2 + 1).tolist(), 0, 0, 360, colour, -1)
    blurred = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 4))
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def muted(rng: np.random.Generator) -> np.ndarray:
    """Return (3,) linear RGB of a wall, a cloth or a thing: any brightness, mostly not very colourful."""
    grey = rng.uniform(0.03, 0.8) ** 1.5
    return np.clip(grey * (1 + rng.beta(1, 2.5) * rng.uniform(-1, 1, 3)), 0.01, 1)
