"""The arithmetic of parallel speed: speed-up, efficiency, serial fraction, a line through message times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

COMPUTE, WAITING, ALLREDUCE, UPDATE, REST = "forward+backward", "waiting", "allreduce", "update", "rest"
PARTS = (COMPUTE, WAITING, ALLREDUCE, UPDATE, REST)
"""Parts of a step. Waiting: in the allreduce, until the slowest rank has come. Rest: loader, Python, checks."""


@dataclass(frozen=True)
class Setup:
    """On what a step is measured: ranks, threads of each, samples of the step over all ranks."""

    ranks: int
    threads: int
    batch_size: int

    @property
    def cores(self) -> int:
        """Threads in all; each is meant to have a core."""
        return self.ranks * self.threads

    def __str__(self) -> str:
        return f"{self.ranks} x {self.threads}"


@dataclass(frozen=True)
class Result:
    """Times of the steps of one setup.

    Attributes
    ----------
    seconds : (n,) float64
        Of each step, from all rounds.
    parts : dict
        Median seconds of each of ``PARTS``, means over the ranks; their sum need not be the median of the sums.
    granted : float
        Share of the computing time in which the threads were running: what other programs left of the cores.
    """

    setup: Setup
    seconds: NDArray[np.float64]
    parts: Mapping[str, float]
    granted: float = 1.0

    @property
    def median(self) -> float:
        """Median seconds of a step."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Seconds that a quarter and three quarters of the steps stay below."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.setup.batch_size / self.median


def speedup(result: Result, one: Result) -> float:
    """How many times the samples a second of ``one``; for equal batch sizes, the ratio of times."""
    return result.rate / one.rate


def efficiency(result: Result, one: Result) -> float:
    """Speed-up a core, 1 at best (or a little more, by luck and caches)."""
    return speedup(result, one) * one.setup.cores / result.setup.cores


def karp_flatt(result: Result, one: Result) -> float:
    """Serial fraction that Amdahl's law would need for the measured speed-up, by Karp and Flatt; NaN for one core.

    Where it grows with the cores, the loss is not serial work but overhead that grows with them.
    """
    cores = result.setup.cores
    return (1 / speedup(result, one) - 1 / cores) / (1 - 1 / cores) if cores > 1 else math.nan


def losses(result: Result, one: Result) -> dict[str, float]:
    """Core time of each part beyond what one core needs, as a share of the one core's step.

    Their sum is 1 / efficiency - 1, up to the difference of medians.
    """
    share = result.setup.cores * one.setup.batch_size / (result.setup.batch_size * one.median)
    return {part: share * result.parts[part] - one.parts[part] / one.median for part in PARTS}


@dataclass(frozen=True)
class Network:
    """Time of an allreduce of n bytes: ``latency + n / bandwidth``.

    Attributes
    ----------
    latency : float
        Seconds.
    bandwidth : float
        Bytes a second.
    error : float
        Median distance of the measured times from the line, as a share of the line.
    """

    latency: float
    bandwidth: float
    error: float = 0.0

    def seconds(self, size: float) -> float:
        """Time of ``size`` bytes."""
        return self.latency + size / self.bandwidth


def fit_network(sizes: Sequence[int], seconds: Sequence[float]) -> Network:
    """Fit the line with the least squares of relative errors, so that small messages count as much as large ones.

    ``sizes`` in bytes, at least two different ones. Neither latency nor time a byte is negative.
    """
    n, t = np.asarray(sizes, float), np.asarray(seconds, float)
    rows = np.stack([1 / t, n / t], axis=1)
    solution = np.linalg.lstsq(rows, np.ones(len(t)), rcond=None)[0]
    for column in np.flatnonzero(solution < 0):  # the other one alone, then
        kept = rows[:, 1 - column]
        solution = np.zeros(2)
        solution[1 - column] = kept.sum() / (kept @ kept)
    latency, byte = solution
    line = latency + byte * n
    return Network(float(latency), float(1 / byte) if byte else math.inf, float(np.median(np.abs(t / line - 1))))
