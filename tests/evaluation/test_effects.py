"""The statistics of the board: intervals that cover, tests that keep their level, values computed by hand."""

import math

import numpy as np
import pytest

from fertool.evaluation.board import effects
from fertool.evaluation.metrics import mcnemar, wilson


def draw(rng, seeds, faces, *, of_seeds):
    """Return (seeds, faces) bool: the easier a face and the luckier a seed, the more often right."""
    logit = 1.5 + faces[None, :] + of_seeds * rng.standard_normal((seeds, 1))
    return rng.random((seeds, len(faces))) < 1 / (1 + np.exp(-logit))


def test_one_seed_is_wilson_and_mcnemar():
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 80)) < 0.8, rng.random((1, 80)) < 0.6
    m = effects.mean(a)
    assert (m.low, m.high) == pytest.approx(wilson(int(a.sum()), 80))
    assert math.isnan(m.sd)
    g = effects.gap(a, b)
    assert g.p == pytest.approx(mcnemar(b[0], a[0]).p_exact)
    assert (g.gained, g.lost) == (int((a & ~b).sum()), int((b & ~a).sum()))
    assert g.value == pytest.approx(a.mean() - b.mean())


def test_variance_of_the_mean_by_hand():
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    # seeds: means 1/2, 1/4; faces: 1, 1/2, 0, 0; total 3/8
    ms_seeds = 4 * 2 * (1 / 8) ** 2 / 1
    ms_faces = 2 * ((5 / 8) ** 2 + (1 / 8) ** 2 + 2 * (3 / 8) ** 2) / 3
    ss_total = 3 * (5 / 8) ** 2 + 5 * (3 / 8) ** 2
    ms_rest = (ss_total - ms_seeds - 3 * ms_faces) / 3
    assert effects._mean_squares(right) == pytest.approx((ms_seeds, ms_faces, ms_rest))


def test_copies_of_a_seed_are_no_new_evidence():
    once = np.random.default_rng(1).random((1, 500)) < 0.8
    one, many = effects.mean(once), effects.mean(np.repeat(once, 5, axis=0))
    assert many.value == one.value
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=2e-3)
    assert many.sd == 0


def test_difference_has_a_sign_and_equal_systems_none():
    rng = np.random.default_rng(2)
    a, b = rng.random((3, 200)) < 0.8, rng.random((2, 200)) < 0.7
    there, back = effects.gap(a, b), effects.gap(b, a)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert (there.p, there.gained, there.lost) == pytest.approx((back.p, back.lost, back.gained))
    same = effects.gap(a, a)
    assert same.value == 0
    assert same.p == 1
    assert same.gained == same.lost > 0


def test_gained_minus_lost_is_the_difference_in_faces():
    rng = np.random.default_rng(3)
    a, b = rng.random((3, 90)) < 0.8, rng.random((4, 90)) < 0.7
    g = effects.gap(a, b)
    assert (g.gained - g.lost) / 90 == pytest.approx(g.value)


@pytest.mark.parametrize("of_seeds", [0.0, 0.05, 0.3])
def test_intervals_cover_the_truth_and_tests_keep_their_level(of_seeds):
    """Over other seeds and other faces, of which the system's true accuracy is the mean."""
    rng = np.random.default_rng(4)
    many = draw(rng, 200_000, np.zeros(1), of_seeds=math.hypot(2.0, of_seeds))
    truth, covered, equal = many.mean(), 0, 0
    for _ in range(300):
        faces = 2.0 * rng.standard_normal(600)
        a, b = (draw(rng, 3, faces, of_seeds=of_seeds) for _ in range(2))
        m, g = effects.mean(a), effects.gap(a, b)
        covered += m.low <= truth <= m.high
        equal += g.low <= 0 <= g.high
        assert (g.p >= 0.05) == (g.low <= 0 <= g.high)
    assert 0.88 <= covered / 300 <= 1
    assert 0.92 <= equal / 300 <= 1


def test_perfect_and_hopeless_systems_have_intervals():
    for right in (np.ones((3, 40), bool), np.zeros((3, 40), bool)):
        m = effects.mean(right)
        assert (m.low, m.high) == pytest.approx(wilson(int(right[0].sum()), 40))


def test_one_face_has_a_difference_and_no_interval():
    """Small subsets may hold a single face of the split."""
    a, b = np.array([[True], [False]]), np.array([[False], [False], [False]])
    for system, baseline in ((a, b), (a[:1], b), (a[:1], b[:1])):
        g = effects.gap(system, baseline)
        assert g.value == pytest.approx(system.mean())
        assert math.isnan(g.low)
        assert math.isnan(g.high)
        assert g.p == 1
    m = effects.mean(a)
    assert (m.value, m.sd) == pytest.approx((0.5, 0.5**0.5))
    assert 0 <= m.low < m.high <= 1


def test_holm():
    assert effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert effects.holm([0.9, 0.8]) == [1.0, 1.0]
    assert effects.holm([]) == []
