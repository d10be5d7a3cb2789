"""The one door to MPI: a communicator of one process, or MPI's.

``mpi4py`` is imported only under a launcher, so that a single process needs no MPI library at all. Both kinds of
communicator answer the same calls; size 1 is an ordinary case.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lenet_mp.errors import LenetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")
"""Variables by which launchers (Open MPI, MPICH and its kin, Slurm) tell a process how many they started."""
LONGEST_NAP = 0.005
HEAD_START = 0.3


class Comm(Protocol):
    """What the trainer asks of the other ranks.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    local_size : int
        How many of them share this machine.
    """

    rank: int
    size: int
    local_size: int
    library: str

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Replace ``totals`` on every rank by its sum over all ranks; exact, so the order does not matter."""

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's ``value`` on every rank; for small Python objects, outside of steps."""

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's ``value`` in the order of ranks, on every rank."""

    def rest(self) -> None:
        """Wait for all ranks, asleep: a rank that works alone keeps its core."""

    def abort(self, code: int) -> None:
        """End all ranks at once with exit code ``code``."""


class Solo:
    """A communicator of one process."""

    rank = 0
    size = 1
    local_size = 1
    library = ""

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Leave ``totals`` as it is."""

    def broadcast(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Return ``[value]``."""
        return [value]

    def rest(self) -> None:
        """Return at once."""

    def abort(self, code: int) -> None:
        """End the process."""
        raise SystemExit(code)


class Mpi:
    """MPI's world, through mpi4py."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI  # noqa: PLC0415
        except (ImportError, RuntimeError) as error:
            raise UsageError(
                "started by an MPI launcher, but mpi4py finds no MPI library "
                f"({str(error).splitlines()[0]}): pip install 'lenet-mp[mpi]', or load your site's MPI module"
            ) from error
        self._mpi = MPI
        self._world = MPI.COMM_WORLD
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()
        self.library = _short(MPI.Get_library_version())
        node = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_size = node.Get_size()
        node.Free()

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Sum ``totals`` in place; its type is checked here because MPI would overrun a wrong buffer silently."""
        if totals.dtype != np.int64 or not totals.flags.c_contiguous:
            raise TypeError(f"allreduce needs contiguous int64, got {totals.dtype}")
        self._world.Allreduce(self._mpi.IN_PLACE, totals)

    def broadcast(self, value: Any) -> Any:
        """Send rank 0's ``value`` to all."""
        return self._world.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Collect every rank's ``value``."""
        return list(self._world.allgather(value))

    def rest(self) -> None:
        """Wait in naps of up to 5 ms: MPI's own barrier burns a core on every rank that waits in it."""
        request = self._world.Ibarrier()
        nap = LONGEST_NAP / 64
        while not request.Test():
            time.sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)

    def abort(self, code: int) -> None:
        """End all ranks through the launcher."""
        self._world.Abort(code)
        os._exit(code)  # where a launcher lets Abort return


def _short(version: str) -> str:
    """Return name and number of an MPI library: its full version text may fill a page."""
    first_line = version.partition("\n")[0].partition(",")[0].rstrip("\0")
    return " ".join(first_line.replace("Version:", "").split())


def connect() -> Comm:
    """Return MPI's world under a launcher, else a communicator of one.

    Raises
    ------
    UsageError
        If a launcher started several processes that MPI does not join: each would train alone and write the same
        files. The launcher then belongs to another MPI than the library that mpi4py loads.
    """
    sizes = [os.environ[name] for name in LAUNCHER_SIZES if os.environ.get(name, "").isdigit()]
    if not sizes and "PMI_RANK" not in os.environ and "PMIX_RANK" not in os.environ:
        return Solo()
    comm = Mpi()
    started = max((int(size) for size in sizes), default=1)
    if comm.size == 1 and started > 1:
        raise UsageError(
            f"the launcher started {started} processes, but each is rank 0 of 1: it belongs to another MPI than "
            f"the library in use ({comm.library}); use the launcher of that MPI (command -v mpirun shows yours)"
        )
    return comm


@contextlib.contextmanager
def ending_together(comm: Comm, program: str) -> Iterator[None]:
    """Let an exception on one rank end the whole job, with its text and exit code.

    Without this the other ranks would wait for ever in their next collective call. Where rank 0 fails in the same
    way, as for a missing file, its message alone is shown: the others give it a head start.
    """
    try:
        yield
    except BaseException as error:
        if comm.size == 1 or (isinstance(error, SystemExit) and not error.code):
            raise
        if comm.rank:
            time.sleep(HEAD_START)
        print(_last_words(error, comm.rank, program), file=sys.stderr, flush=True)
        comm.abort(exit_code(error))
        raise


def exit_code(error: BaseException) -> int:
    """Exit code for a process that ``error`` ends."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, LenetError) else 1


def _last_words(error: BaseException, rank: int, program: str) -> str:
    who = f"[rank {rank}] " if rank else ""
    if isinstance(error, LenetError):
        return f"{who}{program}: error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return f"{who}{program}: interrupted"
    return f"[rank {rank}] {''.join(traceback.format_exception(error)).rstrip()}"
