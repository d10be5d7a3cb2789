"""Figures of a classifier from its predictions: confusion matrix, precision, recall, F1, probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Shares = NDArray[np.float64]


@dataclass(frozen=True)
class ClassFigures:
    """Figures of every class, each (K,); NaN where a share would be one of nothing.

    Attributes
    ----------
    samples, right : int64
        Samples of the class, and those of them that were recognised.
    precision : float64
        Share of the class among the samples that were taken for it.
    recall : float64
        Share of the class's samples that were recognised.
    f1 : float64
        Harmonic mean of the two.
    """

    samples: Counts
    right: Counts
    precision: Shares
    recall: Shares
    f1: Shares


def softmax(logits: NDArray[np.floating]) -> Shares:
    """Probabilities (N, K) of logits (N, K), in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    probabilities: Shares = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def ranking(logits: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Return the ``count`` most likely classes of each sample, (N, count); of equals, the lower number comes first."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: int) -> Counts:
    """Count samples by label (row) and prediction (column): (K, K)."""
    cells = labels.astype(np.int64) * classes + predictions
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def class_figures(confusion: Counts) -> ClassFigures:
    """Figures of every class of a confusion matrix (K, K)."""
    samples, taken, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion).copy()
    return ClassFigures(
        samples=samples,
        right=right,
        precision=_share(right, taken),
        recall=_share(right, samples),
        f1=_share(2 * right, samples + taken),
    )


def _share(part: Counts, whole: Counts) -> Shares:
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
