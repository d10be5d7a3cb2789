"""Mean and standard deviation of pixels, from exact sums."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIGITS = 6
_VALUES = np.arange(256, dtype=np.int64)


def sums(counts: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Sums of the values and of their squares, by channel, from how often each of 0..255 occurs, (C, 256)."""
    return (counts @ _VALUES).tolist(), (counts @ _VALUES**2).tolist()


def mean_and_deviation(totals: Sequence[int], squares: Sequence[int], pixels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation by channel, rounded, of so many pixels with these sums and sums of squares."""
    mean = [total / pixels for total in totals]
    # n * sum(x^2) - sum(x)^2 in integers: nothing cancels.
    variances = [(pixels * square - total**2) / pixels**2 for total, square in zip(totals, squares, strict=True)]
    return [round(value, DIGITS) for value in mean], [round(math.sqrt(value), DIGITS) for value in variances]
