"""Which sample goes into which step, on which rank: pure arithmetic on counts, rank and size.

An epoch is a shuffled sequence of shards, their samples in file order. It is cut into S *streams*, contiguous
parts of that sequence. Every step takes the next few samples of every stream, in *groups* of at most 16, and rank
r of N works the streams s with s mod N = r. So each rank reads its own shards from front to back, and neither the
samples of a step nor the groups that their gradients are summed in depend on the number of ranks.

How many samples a stream gives to a step follows from the batch size alone: the step's groups are dealt to the
streams as evenly as whole groups allow. The streams' lengths are the sums of what their steps take. So streams end
together, in the last step, which may be short, and every sample is used exactly once an epoch.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.errors import UsageError
from lenet_mp.plan import GROUP_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEFAULT_STREAMS = 8


def default_streams(batch_size: int) -> int:
    """Eight, or fewer where a step would give a stream less than one full group."""
    return max(1, min(DEFAULT_STREAMS, batch_size // GROUP_SIZE))


@dataclass(frozen=True)
class Part:
    """The samples that one rank works in one step.

    Attributes
    ----------
    shards, rows : (n,) int64
        Where each sample lies: index of its shard in the data set, and its row there.
    samples : (n,) int64
        Number of each sample in the data set, whose shards come one after the other.
    group_starts : (G + 1,) int32
        Group g is samples ``group_starts[g]`` to ``group_starts[g + 1]``, all of one stream.
    """

    shards: NDArray[np.int64]
    rows: NDArray[np.int64]
    samples: NDArray[np.int64]
    group_starts: NDArray[np.int32]

    def describe(self) -> str:
        """Name the samples for people, by file and row (both from 0): ``rows 0-15 of 3.h5, 32-47 of 5.h5``."""
        breaks = np.flatnonzero((np.diff(self.shards) != 0) | (np.diff(self.rows) != 1)) + 1
        places = zip(np.split(self.shards, breaks), np.split(self.rows, breaks), strict=True)
        return "rows " + ", ".join(f"{rows[0]}-{rows[-1]} of {shards[0]}.h5" for shards, rows in places)


class Loader:
    """The steps of every epoch over shards of the given sizes.

    Parameters
    ----------
    counts : sequence of int
        Samples in each shard; none may be empty.
    batch_size : int
        Samples of a step over all ranks.
    streams : int
        Parts that an epoch is cut into; at most this many ranks have work.
    seed : int
        With the epoch, decides the order of the shards.

    Attributes
    ----------
    steps : int
        Steps an epoch; the last one may be short.
    steps_a_shard : int
        Steps that the largest shard lasts, from the first of its samples to the last.
    """

    def __init__(self, counts: Sequence[int], *, batch_size: int, streams: int, seed: int) -> None:
        if not counts or min(counts) < 1:
            raise UsageError("every shard needs at least one sample: prepare the data again")
        if batch_size < 1 or streams < 1:
            raise UsageError(f"batch size and streams must be at least 1, not {batch_size} and {streams}")
        self.samples = sum(counts)
        self.streams = streams
        self.steps = -(-self.samples // batch_size)
        self.steps_a_shard = -(-max(counts) * streams // batch_size)
        self._counts = np.asarray(counts, np.int64)
        self._firsts = np.cumsum(self._counts) - self._counts
        self._sequence = functools.lru_cache(maxsize=2)(self._make_sequence)
        self._seed = seed
        full, rest = divmod(self.samples, batch_size)
        self._quotas = np.array([deal(batch_size, streams)] * full + [deal(rest, streams)] * (rest > 0))
        """(steps, streams): samples that a stream gives to a step."""
        lengths = self._quotas.sum(axis=0)
        firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self._starts = firsts + np.cumsum(self._quotas, axis=0) - self._quotas
        """(steps, streams): place of the step's first sample of that stream in the epoch's sequence."""

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the shards in the order of ``epoch`` (counted from 1), by (seed, epoch) alone."""
        return np.random.Generator(np.random.Philox(key=[self._seed, epoch])).permutation(len(self._counts))

    def part(self, epoch: int, step: int, rank: int = 0, size: int = 1) -> Part:
        """Return what ``rank`` of ``size`` works in ``step`` (counted from 0) of ``epoch``."""
        order, ends = self._sequence(epoch)
        places, groups = [], []
        for stream in range(rank, self.streams, size):
            start, quota = self._starts[step, stream], self._quotas[step, stream]
            places.append(np.arange(start, start + quota))
            groups += _group_sizes(int(quota))
        place = np.concatenate(places) if places else np.empty(0, np.int64)
        position = np.searchsorted(ends, place, side="right")
        shards = order[position]
        rows = place - (ends[position] - self._counts[shards])
        starts = np.concatenate([[0], np.cumsum(groups)]).astype(np.int32)
        return Part(shards, rows, self._firsts[shards] + rows, starts)

    def _make_sequence(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Order of the epoch's shards, and where each one ends in the epoch's sequence of samples."""
        order = self.order(epoch)
        return order, np.cumsum(self._counts[order])


def deal(samples: int, streams: int) -> list[int]:
    """Deal ``samples`` to streams in whole groups of 16 (one may be short), as evenly as groups allow."""
    groups = -(-samples // GROUP_SIZE)
    bounds = [min(samples, GROUP_SIZE * (stream * groups // streams)) for stream in range(streams + 1)]
    return [high - low for low, high in itertools.pairwise(bounds)]


def _group_sizes(samples: int) -> list[int]:
    full, rest = divmod(samples, GROUP_SIZE)
    return [GROUP_SIZE] * full + [rest] * (rest > 0)
