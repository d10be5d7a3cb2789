"""Loss and accuracy over whole splits, shared out over the ranks, in exact integers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data.batches import Batches
from lenet_mp.plan import COUNTS, LOSS, QUANTUM, REFUSED, SAMPLES, TOP1, TOP5, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from lenet_mp.data.shards import Split
    from lenet_mp.parallel.comm import Comm

    Counts = list[int]
    Parameters = NDArray[np.float32]

CHUNK = 512
"""Samples of one call to the engine: enough to feed many threads, few enough to let signals in between."""


@dataclass(frozen=True)
class Scores:
    """Figures over ``samples`` samples: mean cross-entropy, and shares of samples (0..1) right at rank 1 and 5.

    The loss is infinite where that of any sample was not finite or beyond all measure.
    """

    samples: int
    loss: float
    top1: float
    top5: float

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the figures for JSON, which has no infinity: None stands for it."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}

    @classmethod
    def from_counts(cls, counts: Counts) -> Scores:
        """Divide the summed counts of a plan."""
        samples = counts[SAMPLES]
        if not samples:
            return cls(0, math.nan, math.nan, math.nan)
        loss = math.inf if counts[REFUSED] else counts[LOSS] * QUANTUM / samples
        return cls(samples, loss, counts[TOP1] / samples, counts[TOP5] / samples)


def add(counts: Counts, more: NDArray[np.int64]) -> Counts:
    """Add a plan's counts; Python's integers hold the loss of any number of samples."""
    return [old + int(new) for old, new in zip(counts, more, strict=True)]


def evaluate(plan: Plan, parameters: Parameters, splits: Sequence[Split], comm: Comm) -> Scores:
    """Return the scores over all samples of ``splits``, each counted once.

    Every rank takes a contiguous part of the samples and adds up integers; so the result does not depend on the
    number of ranks. All ranks get it.
    """
    samples = sum(split.count for split in splits)
    first, last = samples * comm.rank // comm.size, samples * (comm.rank + 1) // comm.size
    counts = [0] * COUNTS
    chunk = np.zeros(COUNTS, np.int64)
    for images, labels in _chunks(splits, first, last):
        comm.enter("evaluation")
        plan.evaluate(parameters, images, labels, totals=chunk)
        counts = add(counts, chunk)
    comm.enter("the sum of an evaluation", waiting=True)
    return Scores.from_counts(_sum_over_ranks(counts, comm))


def _sum_over_ranks(counts: Counts, comm: Comm) -> Counts:
    """Add up counts that may need more than 64 bits: their high and low halves apart."""
    halves = np.array([divmod(count, 1 << 32) for count in counts], np.int64)
    comm.allreduce(halves)
    return [(int(high) << 32) + int(low) for high, low in halves]


def logits(plan: Plan, parameters: Parameters, split: Split) -> NDArray[np.float32]:
    """Return the logits (N, classes) of all samples of ``split``."""
    result = [plan.forward(parameters, images) for images, _ in _chunks([split], 0, split.count)]
    return np.concatenate(result)


def _chunks(
    splits: Sequence[Split], first: int, last: int
) -> Iterator[tuple[NDArray[np.uintp], NDArray[np.int32]]]:
    """Yield addresses and labels of samples ``first`` to ``last`` of the splits' sequence."""
    ends = np.cumsum([split.count for split in splits])
    starts = ends - [split.count for split in splits]
    batches = Batches(splits)
    for low in range(first, last, CHUNK):
        place, next_place = (np.arange(start, min(start + CHUNK, last)) for start in (low, low + CHUNK))
        index = np.searchsorted(ends, place, side="right")
        batches.prefetch(np.searchsorted(ends, next_place, side="right"))
        yield batches.gather(index, place - starts[index])
    batches.release()
