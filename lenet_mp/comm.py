"""The one door to MPI: a communicator of one process, or MPI's.

``mpi4py`` is imported only under a launcher, so that a single process needs no MPI library at all. Both kinds of
communicator answer the same calls; size 1 is an ordinary case.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")
"""Variables by which launchers (Open MPI, MPICH and its kin, Slurm) tell a process how many they started."""
SHORTEST_NAP, LONGEST_NAP = 50e-6, 0.002
"""Seconds between looks at a call that other ranks must join."""


class Comm(Protocol):
    """What the trainer asks of the other ranks.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    local_size : int
        How many of them share this machine.
    library : str
        Name and version of the MPI library; empty without one.
    phase, phase_began, waiting
        What this rank is doing, since when (``time.monotonic``), and whether it waits for other ranks.
    """

    rank: int
    size: int
    local_size: int
    library: str
    phase: str
    phase_began: float
    waiting: bool

    def enter(self, phase: str, *, waiting: bool = False) -> None:
        """Note what this rank does from now on, and whether it waits for others in it."""

    def roll_call(self, seconds: float) -> dict[int, str]:
        """Ask the other ranks, from a thread, what they do; the answers that come within ``seconds``.

        An answer is the rank's phase, or nothing where it is only waiting for others.
        """

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


class _Phases:
    """Remembers what a rank is doing, for its last words and its watchdog."""

    def __init__(self) -> None:
        self.enter("start-up")

    def enter(self, phase: str, *, waiting: bool = False) -> None:
        self.phase = phase
        self.waiting = waiting
        self.phase_began = time.monotonic()


class Solo(_Phases):
    """A communicator of one process."""

    rank = 0
    size = 1
    local_size = 1
    library = ""

    def roll_call(self, seconds: float) -> dict[int, str]:  # noqa: ARG002 - nobody to ask
        """Return nothing: there is no other rank."""
        return {}

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
        os._exit(code)


class Mpi(_Phases):
    """MPI's world, through mpi4py."""

    def __init__(self) -> None:
        super().__init__()
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
        # More ranks than cores: one that spins, as MPI's calls do, takes the core from one that still computes.
        self._crowded = self.local_size > len(os.sched_getaffinity(0))
        self._calls = self._world.Dup()  # a space of its own for the watchdogs' messages

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Sum ``totals`` in place; its type is checked here because MPI would overrun a wrong buffer silently."""
        if totals.dtype != np.int64 or not totals.flags.c_contiguous:
            raise TypeError(f"allreduce needs contiguous int64, got {totals.dtype}")
        if self._crowded:
            _doze_until(self._world.Iallreduce(self._mpi.IN_PLACE, totals))
        else:
            self._world.Allreduce(self._mpi.IN_PLACE, totals)

    def broadcast(self, value: Any) -> Any:
        """Send rank 0's ``value`` to all."""
        return self._world.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Collect every rank's ``value``."""
        return list(self._world.allgather(value))

    def rest(self) -> None:
        """Wait asleep: MPI's own barrier burns a core on every rank that waits in it."""
        _doze_until(self._world.Ibarrier())

    def roll_call(self, seconds: float) -> dict[int, str]:
        """Tell all other ranks this one's phase and collect theirs; only where MPI allows calls from threads."""
        if self._mpi.Query_thread() < self._mpi.THREAD_MULTIPLE:
            return {}
        mine = "" if self.waiting else self.phase
        others = [rank for rank in range(self.size) if rank != self.rank]
        self._sent = [self._calls.isend(mine, dest=rank) for rank in others]
        answers = {rank: self._calls.irecv(source=rank) for rank in others}
        phases: dict[int, str] = {}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(phases) < len(others):
            for rank in set(answers) - set(phases):
                arrived, phase = answers[rank].test()
                if arrived:
                    phases[rank] = str(phase)
            time.sleep(LONGEST_NAP)
        return phases

    def abort(self, code: int) -> None:
        """End all ranks through the launcher."""
        self._world.Abort(code)
        os._exit(code)  # where a launcher lets Abort return


def _doze_until(request: Any) -> None:
    """Wait for a non-blocking call in naps that grow to 2 ms."""
    nap = SHORTEST_NAP
    while not request.Test():
        time.sleep(nap)
        nap = min(2 * nap, LONGEST_NAP)


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
