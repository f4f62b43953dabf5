"""Illumination normalisation: the diffusion is solved exactly, and what it leaves is the face without its light."""

import numpy as np
import pytest

from fertool.faces.illumination import luminance, normalise

RNG = np.random.default_rng(0)


def laplacian(height, width):
    """The five-point Laplacian on pixels, row by row; nothing flows over the border."""
    index = np.arange(height * width).reshape(height, width)
    matrix = np.zeros((index.size, index.size))
    pairs = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    for a, b in ((a.ravel(), b.ravel()) for a, b in pairs):
        for p, q in ((a, b), (b, a)):
            matrix[p, q] += 1
            matrix[p, p] -= 1
    return matrix


@pytest.mark.parametrize("diffusion", [0.1, 7.0, 300.0])
@pytest.mark.parametrize("shape", [(12, 17), (17, 12), (1, 9), (6, 6), (1, 1)])
def test_the_light_solves_the_equation_of_diffusion(shape, diffusion):
    image = RNG.integers(0, 256, shape).astype(np.uint8)
    direct = np.linalg.solve(np.eye(image.size) - diffusion * laplacian(*shape), image.ravel().astype(float))
    assert np.abs(luminance(image, diffusion) - direct.reshape(shape)).max() < 1e-9


def test_a_large_picture_of_odd_sides_fulfils_the_equation():
    image = RNG.uniform(0, 255, (161, 125))
    light = luminance(image, 7.0)
    edged = np.pad(light, 1, mode="edge")
    delta = edged[2:, 1:-1] + edged[:-2, 1:-1] + edged[1:-1, 2:] + edged[1:-1, :-2] - 4 * light
    assert np.abs(light - 7.0 * delta - image).max() < 1e-9


@pytest.mark.parametrize("grey", [0, 1, 90, 255])
def test_a_constant_picture_stays_constant(grey):
    image = np.full((20, 31), grey, np.uint8)
    assert np.allclose(luminance(image, 7.0), grey)
    assert np.unique(normalise(image, 7.0)).size == 1


def test_light_from_the_side_is_taken_away():
    """The same face in even light and in light that falls from one side."""
    y, x = np.mgrid[:96, :80]
    face = 120 + 60 * np.sin(x / 2.5) * np.cos(y / 3.1)
    side = np.linspace(0.25, 1.2, 80)
    even, uneven = (np.clip(p, 0, 255).astype(np.uint8) for p in (face, face * side))

    def alike(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert alike(even, uneven) < 0.75
    assert alike(normalise(even, 7.0), normalise(uneven, 7.0)) > 0.97


def test_the_extremes_are_clipped_and_all_greys_used():
    image = RNG.normal(128, 20, (100, 100)).clip(0, 255).astype(np.uint8)
    out = normalise(image, 7.0)
    assert out.dtype == np.uint8
    for value in (0, 255):
        assert 0.003 < (out == value).mean() < 0.02
    black = np.zeros((40, 40), np.uint8)
    black[10:20, 10:20] = 200
    assert np.isfinite(luminance(black, 7.0)).all()
    assert normalise(black, 7.0)[15, 15] > normalise(black, 7.0)[0, 0]
