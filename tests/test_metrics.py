"""Figures of a classifier against their definitions."""

from __future__ import annotations

import numpy as np

from lenet_mp.results import metrics


def test_softmax_is_right_for_large_logits():
    """Probabilities add up to 1 and equal their definition, also where exp alone would overflow."""
    logits = np.array([[0, 1, 2], [1000, 999, 0], [-1000, -1000, -1000]], np.float32)
    found = metrics.softmax(logits)
    e = np.e
    expected = [
        [1 / (1 + e + e * e), e / (1 + e + e * e), e * e / (1 + e + e * e)],
        [e / (1 + e), 1 / (1 + e), 0],
        [1 / 3] * 3,
    ]
    # A handful of float64 roundings each.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_equal_logits_rank_by_number():
    """Of classes with the same logit the one with the lower number comes first."""
    assert metrics.ranking(np.array([[1, 3, 3, 2]], np.float32), 3).tolist() == [[1, 2, 3]]
    assert metrics.ranking(np.zeros((2, 3), np.float32), 9).tolist() == [[0, 1, 2]] * 2


def test_confusion_matrix_counts_every_pair():
    """Rows are labels, columns predictions, and every sample is in exactly one cell."""
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 5, 1000).astype(np.int32), rng.integers(0, 5, 1000)
    found = metrics.confusion_matrix(labels, predictions, 6)
    expected = [[((labels == i) & (predictions == j)).sum() for j in range(6)] for i in range(6)]
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == 1000


def test_class_figures_follow_their_definitions():
    """Precision, recall and F1 of a matrix worked out by hand; shares of nothing are NaN, not 0."""
    figures = metrics.class_figures(np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]]))
    assert figures.samples.tolist() == [10, 10, 0]
    assert figures.right.tolist() == [8, 6, 0]
    np.testing.assert_array_equal(figures.precision, [8 / 12, 6 / 8, np.nan])
    np.testing.assert_array_equal(figures.recall, [0.8, 0.6, np.nan])
    np.testing.assert_array_equal(figures.f1, [16 / 22, 12 / 18, np.nan])
