"""Even lighting: what a face reflects, without the light that falls on it.

Gross & Brajovic, "An Image Preprocessing Algorithm for Illumination Invariant Face Recognition", AVBPA 2003, with
isotropic smoothing.
"""

import numpy as np

_GUARD = 1e-3 * 255  # grey levels added to the picture: black divided by black is then no edge
_FLAT = 1e-9  # a reflectance that varies less is constant but for rounding


def normalise(image: np.ndarray, diffusion: float, clip_fraction: float = 0.004) -> np.ndarray:
    """Return the reflectance I / L of an image, its extremes clipped and the rest spread over 0..255.

    Args:
        image: (H, W) uint8.
        diffusion: λ of `luminance`.
        clip_fraction: fraction of the pixels clipped at each end of the histogram. Neither number is in the paper of
            Sun et al.; 7 and 0.4 % are the INface toolbox's.

    Returns:
        (H, W) uint8; middle grey where the image is constant.
    """
    seen = image + _GUARD
    reflectance = seen / luminance(seen, diffusion)
    low, high = np.quantile(reflectance, (clip_fraction, 1 - clip_fraction))
    if high - low < _FLAT:
        return np.full(image.shape, 128, np.uint8)
    return np.rint(255 * np.clip((reflectance - low) / (high - low), 0, 1)).astype(np.uint8)


def luminance(image: np.ndarray, diffusion: float) -> np.ndarray:
    """Return the light L on an image I: the minimum of Σ(L − I)² + λ Σ|∇L|².

    That is (1 − λΔ)L = I with reflecting borders. Cosines diagonalise the five-point Δ (DCT-II), and the cosine
    transform of an image is the Fourier transform of the image mirrored at its borders: the solution is exact.

    Args:
        image: (H, W) numbers.
        diffusion: λ; the larger, the smoother the light.

    Returns:
        (H, W) float64.
    """
    height, width = image.shape
    mirrored = np.pad(np.asarray(image, dtype=np.float64), ((0, height), (0, width)), mode="symmetric")
    down = 2 - 2 * np.cos(np.pi * np.arange(2 * height) / height)
    across = 2 - 2 * np.cos(np.pi * np.arange(width + 1) / width)
    spectrum = np.fft.rfft2(mirrored) / (1 + diffusion * (down[:, None] + across))
    return np.fft.irfft2(spectrum, mirrored.shape)[:height, :width]
