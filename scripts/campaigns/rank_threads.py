"""Several ranks in one process, each a thread: what a case of a campaign takes falls from seconds to milliseconds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.errors import LenetError
from lenet_mp.parallel.comm import Solo

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LIMIT = 60.0  # seconds that a rank waits for the others: far more than any step here


class Ended(Exception):  # noqa: N818 - nothing went wrong here
    """Another rank has failed, which under MPI would have ended this one."""


class Table:
    """Where the ranks of one job lay down what the others take up."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.places: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """Return the values of all ranks; :class:`Ended` if one of them is gone."""
        try:
            self.places[rank] = value
            self.barrier.wait(LIMIT)
            values = list(self.places)
            self.barrier.wait(LIMIT)
        except threading.BrokenBarrierError as error:
            raise Ended from error
        return values


class RankThread(Solo):
    """A communicator of one of several ranks that are threads."""

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__()
        self.rank, self.size, self.table = rank, len(table.places), table

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Add up."""
        np.sum(self.table.exchange(self.rank, totals.copy()), axis=0, out=totals)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's."""
        return self.table.exchange(self.rank, value)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return all."""
        return self.table.exchange(self.rank, value)

    def rest(self) -> None:
        """Wait."""
        self.table.exchange(self.rank, None)


def together(ranks: int, work: Callable[[RankThread], None]) -> list[BaseException | None]:
    """Let every rank do ``work``; return what each ended with, None where it came to its end."""
    table, ends = Table(ranks), [None] * ranks

    def one(rank: int) -> None:
        try:
            work(RankThread(rank, table))
        except (LenetError, Ended, ArithmeticError, ValueError, TypeError, RuntimeError, AssertionError) as error:
            ends[rank] = error  # type: ignore[call-overload]
            table.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends  # type: ignore[return-value]
