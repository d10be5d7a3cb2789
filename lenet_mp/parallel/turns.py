"""More ranks than cores: those that share a core compute one after the other, and the last speaks for all of them.

Left to the operating system, such ranks would take turns every few milliseconds, each finding its data driven out of
the caches by the one before (a fifth more CPU time with two ranks a core), and in an MPI call each spins on the core
that another one needs to get there. Here a rank sleeps until the one before it on the core has computed, takes that
one's sums along with its own, and passes both on; only the last on every core meets the other cores in MPI's
allreduce. Integers add up to the same in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.parallel.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LONGEST_NAP, SENDING_NAP = 0.005, 0.0002
"""Seconds at most between looks: at what another rank will ring for, and at messages that are being sent, since some
MPI libraries go on with those only meanwhile."""
SUMS, RESULT = 1, 2
"""Tags of the messages: sums of a rank and those before it, sums of all ranks."""


def share_cores(masks: Sequence[set[int]]) -> dict[int, list[int]]:
    """Deal the ranks of a machine out to its cores: by core, in order, those that will share it.

    Parameters
    ----------
    masks : sequence of sets
        Cores that each rank may run on; each rank gets the one of them that has the fewest ranks so far, those with
        the least choice first.
    """
    columns: dict[int, list[int]] = {core: [] for core in sorted(set().union(*masks))}
    for rank, mask in sorted(enumerate(masks), key=lambda pair: len(pair[1])):
        columns[min(sorted(mask), key=lambda core: len(columns[core]))].append(rank)
    return {core: column for core, column in columns.items() if column}


class Turns:
    """A rank's place among those that share its core, and the exact allreduce through it.

    Parameters
    ----------
    mpi : module
        ``mpi4py.MPI``.
    world : mpi4py.MPI.Comm
        All ranks, each of which makes its own Turns at the same time.
    column : sequence of int
        The ranks, in ``world``, that share its core; in order of their turns, itself included.
    strict : bool
        Whether a rank begins only when the one before it has finished. Right where all cores have the same number of
        ranks; otherwise some would idle, and the operating system divides better.

    Attributes
    ----------
    length : int
        How many ranks share the core.
    asleep : float
        Seconds that this rank has slept so that others on its core could work.
    bell : Bell
        What this rank sleeps beside.
    """

    def __init__(self, mpi: Any, world: Any, column: Sequence[int], *, strict: bool) -> None:
        self._mpi = mpi
        self._talk = world.Dup()
        place = list(column).index(world.Get_rank())
        self._before = list(column[:place])
        self._after = list(column[place + 1 :])
        self._front = world.Split(mpi.UNDEFINED if self._after else 0, world.Get_rank())
        self._strict = strict
        self.bell = Bell()
        self._bells: list[bytes] = world.allgather(self.bell.name)
        self._received: NDArray[np.int64] | None = None  # sums of those before, until they are added
        self._buffer = np.empty(0, np.int64)
        self.length = len(column)
        self.asleep = 0.0

    def wait(self) -> None:
        """Sleep until this rank may compute: until those before it have sent their sums."""
        if self._strict and self._before and self._received is None:
            self._received = self._take(self._buffer, self._before[-1], SUMS)

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Replace ``totals``, which is contiguous, by its sum over all ranks."""
        totals = totals.reshape(-1)
        if self._before:
            if self._received is None:
                self._received = self._take(self._buffer, self._before[-1], SUMS)
            totals += self._received
            self._buffer, self._received = self._received, None
        if self._after:
            self._give(totals, [self._after[0]], SUMS)
            self._take(totals, self._after[-1], RESULT)
        else:
            self._front.Allreduce(self._mpi.IN_PLACE, totals)
            self._give(totals, self._before, RESULT)

    def _give(self, array: NDArray[np.int64], ranks: Sequence[int], tag: int) -> None:
        """Send an array to ranks on this core; asleep, for they need the core to receive it."""
        requests = [self._talk.Isend(array, dest=rank, tag=tag) for rank in ranks]
        for rank in ranks:
            self.bell.ring(self._bells[rank])
        self.bell.sleep_until(lambda: self._mpi.Request.Testall(requests), longest=SENDING_NAP)

    def _take(self, buffer: NDArray[np.int64], source: int, tag: int) -> NDArray[np.int64]:
        """Sleep until an array has come; receive it into the buffer, or into a new one if that is of another size."""
        status = self._mpi.Status()

        def come() -> bool:
            # Twice, because MPICH's first look only takes the message in.
            return any(self._talk.Iprobe(source=source, tag=tag, status=status) for _ in range(2))

        self.asleep += self.bell.sleep_until(come, longest=LONGEST_NAP)
        count = status.Get_count(self._mpi.INT64_T)
        array = buffer if buffer.size == count else np.empty(count, np.int64)
        self._talk.Recv(array, source=source, tag=tag)
        return array
