"""Colours and patterns of drawn things. Colours are sRGB between 0 and 1; coordinates are in units of the face."""

import cv2
import numpy as np


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: float) -> np.ndarray:
    """Return (h, w) smooth noise between about -1 and 1, with so many bumps along the longer side."""
    h, w = shape
    scale = cells / max(h, w)
    small = rng.normal(0, 0.6, (max(2, round(h * scale)) + 2, max(2, round(w * scale)) + 2)).astype(np.float32)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)


def wander(rng: np.random.Generator, u: np.ndarray, bumps: float, *, reach: float = 3.0) -> np.ndarray:
    """Return one-dimensional smooth noise at u, between about -1 and 1, `bumps` per unit, for |u| < reach."""
    knots = rng.normal(0, 0.6, max(4, int(2 * reach * bumps)) + 1)
    fine = np.linspace(0, len(knots) - 1, 16 * len(knots))
    at = np.arange(len(knots))
    smooth = np.convolve(np.pad(np.interp(fine, at, knots), 8, mode="edge"), np.hanning(17) / 8, mode="valid")
    return np.interp(u, np.linspace(-reach, reach, len(smooth)), smooth).astype(np.float32)


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Return a colour (3,) of clothes and things: any brightness, mostly not very colourful."""
    bright = rng.uniform(0.08, 0.92)
    return np.clip(bright + rng.normal(0, 0.1 if rng.random() < 0.6 else 0.22, 3), 0.03, 0.97).astype(np.float32)


def hair_colour(rng: np.random.Generator) -> np.ndarray:
    """Return a hair colour (3,) from black over brown and red to blond and grey."""
    colours = [(0.07, 0.06, 0.06), (0.2, 0.13, 0.09), (0.36, 0.23, 0.14), (0.5, 0.25, 0.12), (0.7, 0.56, 0.36)]
    colours.append((0.6, 0.6, 0.6))
    return np.array(colours[rng.choice(6, p=[0.3, 0.25, 0.2, 0.08, 0.12, 0.05])], np.float32) * rng.uniform(0.8, 1.15)


def coloured(colour: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) a colour under a shading (h, w)."""
    return (colour * shade[..., None]).astype(np.float32)


def step(value: np.ndarray, edge: float, soft: float) -> np.ndarray:
    """Return 0 below the edge, 1 above it."""
    return np.clip((value - edge) / soft + 0.5, 0, 1)


def rounded(position: np.ndarray) -> np.ndarray:
    """Return light on a cylinder at a position across it between -1 and 1."""
    return 0.62 + 0.42 * np.sqrt(np.clip(1 - 0.92 * position**2, 0, 1)) - 0.06 * position
