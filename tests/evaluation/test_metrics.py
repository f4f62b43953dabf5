import math

import numpy as np
import pytest

from fertool.evaluation import metrics


def test_wilson_gives_the_published_interval():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert metrics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert metrics.wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_stays_inside_and_widens_with_confidence():
    assert metrics.wilson(0, 7)[0] == 0.0
    assert metrics.wilson(7, 7)[1] == 1.0
    assert metrics.wilson(7, 7)[0] < 1.0
    low, high = metrics.wilson(50, 100, 0.95)
    wider = metrics.wilson(50, 100, 0.99)
    assert wider[0] < low < 0.5 < high < wider[1]
    assert all(math.isnan(x) for x in metrics.wilson(0, 0))


def test_accuracy_keeps_the_counts():
    a = metrics.accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))
    assert (a.n_correct, a.n_total, a.value) == (3, 4, 0.75)
    assert a.low < 0.75 < a.high


def test_confusion_has_true_rows_and_predicted_columns():
    c = metrics.confusion_matrix(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2]), 3)
    assert c.tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 0]]


def test_macro_accuracy_is_the_mean_over_classes_that_have_faces():
    c = np.array([[1, 1, 0], [0, 3, 1], [0, 0, 0]])
    assert metrics.macro_accuracy(c) == pytest.approx((0.5 + 0.75) / 2)
    assert math.isnan(metrics.macro_accuracy(np.zeros((3, 3), int)))


def test_class_scores():
    c = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])
    s = metrics.class_scores(c)
    assert s.support.tolist() == [10, 5, 0]
    assert s.n_predicted.tolist() == [9, 6, 0]
    assert s.recall[:2] == pytest.approx([0.8, 0.8])
    assert s.precision[:2] == pytest.approx([8 / 9, 4 / 6])
    assert s.f1[:2] == pytest.approx([16 / 19, 8 / 11])
    assert np.isnan([s.recall[2], s.precision[2], s.f1[2]]).all()


def test_folds_are_pooled_and_averaged():
    folds = metrics.across_folds([np.array([[3, 1], [0, 4]]), np.array([[1, 1], [0, 0]])])
    assert (folds.pooled.n_correct, folds.pooled.n_total) == (8, 10)
    assert folds.mean == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert folds.sd_population == pytest.approx(3 / 16)
    assert folds.sd_sample == pytest.approx(3 / 16 * math.sqrt(2))
    assert folds.confusion.tolist() == [[4, 2], [0, 4]]


def test_a_class_absent_from_one_of_ten_folds_sums_to_ninety_percent():
    # what MAN's Table 6 shows in its row of fear
    full, without = np.diag([3, 2]), np.diag([3, 0])
    rows = metrics.across_folds([full] * 9 + [without]).confusion_mean.sum(1)
    assert rows == pytest.approx([1.0, 0.9])


def test_one_fold_has_no_sample_deviation():
    folds = metrics.across_folds([np.eye(2, dtype=int)])
    assert folds.sd_population == 0.0
    assert math.isnan(folds.sd_sample)


def _right(only_first, only_second, both=0):
    first = np.array([True] * only_first + [False] * only_second + [True] * both)
    second = np.array([False] * only_first + [True] * only_second + [True] * both)
    return first, second


def test_mcnemar_from_the_binomial_distribution():
    m = metrics.mcnemar(*_right(10, 2, both=50))
    assert (m.only_first, m.only_second) == (10, 2)
    assert m.p_exact == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert m.p_mid == pytest.approx((2 * (1 + 12 + 66) - 66) / 2**12)


def test_mcnemar_of_published_pairs():
    # Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13:91, table 1 (1 and 7 discordant pairs)
    m = metrics.mcnemar(*_right(1, 7, both=13))
    assert m.p_exact == pytest.approx(0.0703, abs=5e-5)
    assert m.p_mid == pytest.approx(0.0391, abs=5e-5)


def test_mcnemar_without_a_difference():
    assert metrics.mcnemar(*_right(0, 0, both=3)).p_exact == 1.0
    even = metrics.mcnemar(*_right(4, 4))
    assert (even.p_exact, even.p_mid) == (1.0, 1.0)


def test_mcnemar_of_many_faces_does_not_overflow():
    m = metrics.mcnemar(*_right(1600, 1400))
    assert 2e-4 < m.p_mid < m.p_exact < 3e-4  # chi-square with one degree of freedom gives 2.6e-4


def test_fusion_is_the_mean_of_probabilities_not_of_logits():
    sure, unsure = np.array([[9.0, 0.0]]), np.array([[0.0, 3.0]])
    fused = metrics.fuse([sure, unsure])
    expected = np.mean(
        [[1 / (1 + math.exp(-9)), 1 / (1 + math.exp(9))], [1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))]], 0
    )
    assert fused[0] == pytest.approx(expected)
    assert fused.sum() == pytest.approx(1)


def test_softmax_of_huge_logits():
    assert metrics.softmax(np.array([[1e4, 0.0]], "f4")).tolist() == [[1.0, 0.0]]
