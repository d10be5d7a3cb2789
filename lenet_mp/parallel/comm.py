"""The one door to MPI: a communicator of one process, or MPI's.

``mpi4py`` is imported only under a launcher, so that a single process needs no MPI library at all. Both kinds of
communicator answer the same calls; size 1 is an ordinary case.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lenet_mp import affinity
from lenet_mp.errors import UsageError
from lenet_mp.parallel import guardian, mpi_library, shared_bytes
from lenet_mp.parallel.turns import Turns, share_cores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")
"""Variables by which launchers (Open MPI, MPICH and its kin, Slurm) tell a process how many they started."""
LONGEST_NAP = 0.002
"""Seconds at most between looks at what other ranks do."""
ASK, TELL = 1, 2
"""Tags of the watchdogs' messages."""


class Comm(Protocol):
    """What the trainer asks of the other ranks.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    local_size : int
        How many of them share this machine.
    cores : int
        Cores of this machine that they may run on, together.
    share : float
        This rank's part of those cores: a core that several ranks may run on counts in parts.
    library : str
        Name and version of the MPI library; empty without one.
    phase, phase_began, waiting
        What this rank is doing, since when (``time.monotonic``), and whether it waits for other ranks.
    longest_step : float
        Seconds that this rank, and those that share its core, computed for a step at most.
    asleep : float
        Seconds that this rank has slept so that others on its core could work.
    """

    rank: int
    size: int
    local_size: int
    cores: int
    share: float
    library: str
    phase: str
    phase_began: float
    waiting: bool
    longest_step: float

    @property
    def asleep(self) -> float:
        """See above."""

    def shared_bytes(self, count: int, subject: str) -> NDArray[np.uint8]:
        """Return bytes, zero at first, of memory that ranks of this machine share which name the same subject.

        They are for hints: a rank may get some of its own. All ranks call this at the same time.
        """

    def settled(self, threads: int) -> AbstractContextManager[None]:
        """Keep this thread, if its rank computes with one thread, meanwhile on the core whose turns it takes."""

    def wait_for_turn(self) -> None:
        """Sleep until this rank may compute its part of a step: after others that share its core."""

    def step_computed(self) -> None:
        """Note that the phase that ends now was the computing of a step."""

    def enter(self, phase: str, *, waiting: bool = False) -> None:
        """Note what this rank does from now on, and whether it waits for others in it."""

    def answer(self) -> None:
        """Tell ranks that call the roll what this one does; for the watchdog's thread, again and again."""

    def roll_call(self, seconds: float) -> dict[int, str] | None:
        """Ask the other ranks, from a thread, what they do; the answers that come within ``seconds``.

        An answer is the rank's phase, or nothing where it is only waiting for others. None where MPI does not allow
        it to be asked.
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
        self.longest_step = 0.0
        self.enter(guardian.START)

    def step_computed(self) -> None:
        self.longest_step = max(self.longest_step, time.monotonic() - self.phase_began)

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
    asleep = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.cores = len(os.sched_getaffinity(0))
        self.share = float(self.cores)

    def shared_bytes(self, count: int, subject: str) -> NDArray[np.uint8]:  # noqa: ARG002 - nobody to share with
        """Return bytes of this process."""
        return np.zeros(count, np.uint8)

    def settled(self, threads: int) -> AbstractContextManager[None]:  # noqa: ARG002 - there are no turns
        """Do nothing: the system knows best where a lone process runs."""
        return contextlib.nullcontext()

    def wait_for_turn(self) -> None:
        """Return at once."""

    def answer(self) -> None:
        """Do nothing: nobody asks."""

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
        guardian.queue()
        self._mpi = MPI = mpi_library.start()
        self._world = MPI.COMM_WORLD
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()
        guardian.join(self.rank)
        self.enter(self.phase)
        atexit.register(guardian.leave)
        self.library = mpi_library.short(MPI.Get_library_version())
        self._node = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_size = self._node.Get_size()
        self._share_cores(self._node)
        self._calls = self._world.Dup()  # a space of its own for the watchdogs' messages
        self._threads = MPI.Query_thread() == MPI.THREAD_MULTIPLE

    def enter(self, phase: str, *, waiting: bool = False) -> None:
        """Let the guardian know too."""
        super().enter(phase, waiting=waiting)
        guardian.note(phase)

    def _share_cores(self, node: Any) -> None:
        """Work out the cores of this machine and this rank's share, from the affinity masks of its ranks."""
        masks = [set(mask) for mask in node.allgather(sorted(os.sched_getaffinity(0)))]
        ranks = node.allgather(self.rank)
        me = node.Get_rank()
        self.cores = len(set.union(*masks))
        self.share = sum(1 / sum(core in mask for mask in masks) for core in masks[me])
        # More ranks than cores: one that spins, as MPI's calls do, takes the core from one that still computes.
        crowded = self.local_size > self.cores
        columns = share_cores(masks) if crowded else {rank: [rank] for rank in range(self.local_size)}
        core, column = next((core, column) for core, column in columns.items() if me in column)
        even = all(len(other) == len(column) for other in columns.values())
        self._turns = Turns(self._mpi, self._world, [ranks[rank] for rank in column], strict=even)
        self._core = core if crowded and even else -1

    @property
    def asleep(self) -> float:
        """Seconds that this rank has slept so that others on its core could work."""
        return self._turns.asleep

    def shared_bytes(self, count: int, subject: str) -> NDArray[np.uint8]:
        """Share bytes with the ranks of this machine that name the same subject."""
        return shared_bytes.share(self._node, count, subject)

    @contextlib.contextmanager
    def settled(self, threads: int) -> Iterator[None]:
        """Stay on the core whose turns this rank takes: awake on another one, it would halve somebody else's turn."""
        before = os.sched_getaffinity(0)
        stays = self._core in before and threads == 1
        try:
            affinity.bind({self._core} if stays else before)
            yield
        finally:
            affinity.bind(before)

    def wait_for_turn(self) -> None:
        """Sleep while others on this core compute, where all cores have the same number of ranks."""
        self._turns.wait()

    def step_computed(self) -> None:
        """Count the step as often as ranks share the core: so long may one of them wait for its turn."""
        self.longest_step = max(self.longest_step, self._turns.length * (time.monotonic() - self.phase_began))

    def allreduce(self, totals: NDArray[np.int64]) -> None:
        """Sum ``totals`` in place; its type is checked here because MPI would overrun a wrong buffer silently."""
        if totals.dtype != np.int64 or not totals.flags.c_contiguous:
            raise TypeError(f"allreduce needs contiguous int64, got {totals.dtype}")
        self._turns.allreduce(totals)

    def broadcast(self, value: Any) -> Any:
        """Send rank 0's ``value`` to all."""
        return self._world.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Collect every rank's ``value``."""
        return list(self._world.allgather(value))

    def rest(self) -> None:
        """Wait asleep: MPI's own barrier burns a core on every rank that waits in it."""
        self._turns.bell.sleep_until(self._world.Ibarrier().Test, longest=LONGEST_NAP)

    def answer(self) -> None:
        """Answer every question that has arrived."""
        status = self._mpi.Status()
        while self._threads and self._calls.iprobe(tag=ASK, status=status):
            self._calls.recv(source=status.Get_source(), tag=ASK)
            self._calls.isend("" if self.waiting else self.phase, dest=status.Get_source(), tag=TELL)

    def roll_call(self, seconds: float) -> dict[int, str] | None:
        """Ask all other ranks and collect their answers, answering them meanwhile."""
        if not self._threads:
            return None
        for rank in range(self.size):
            if rank != self.rank:
                self._calls.isend(None, dest=rank, tag=ASK)
        phases: dict[int, str] = {}
        deadline = time.monotonic() + seconds
        status = self._mpi.Status()
        while time.monotonic() < deadline and len(phases) < self.size - 1:
            self.answer()
            while self._calls.iprobe(tag=TELL, status=status):
                phases[status.Get_source()] = str(self._calls.recv(source=status.Get_source(), tag=TELL))
            time.sleep(LONGEST_NAP)
        return phases

    def abort(self, code: int) -> None:
        """End all ranks through the launcher."""
        guardian.claim()
        self._world.Abort(code)
        os._exit(code)  # where a launcher lets Abort return


def connect() -> Comm:
    """Return MPI's world under a launcher, else a communicator of one.

    Raises
    ------
    UsageError
        If a launcher started several processes that MPI does not join: each would train alone and write the same
        files. The launcher then belongs to another MPI than the library that mpi4py loads.
    """
    sizes = [int(os.environ[name]) for name in LAUNCHER_SIZES if re.fullmatch("[0-9]+", os.environ.get(name, ""))]
    started = max(sizes, default=1)
    if not sizes and "PMI_RANK" not in os.environ and "PMIX_RANK" not in os.environ:
        return Solo()
    guardian.start()
    try:
        comm = Mpi()
    except UsageError:
        if started == 1:  # a shell in a batch job, say: one process needs no MPI
            return Solo()
        raise
    if comm.size == 1 and started > 1:
        guardian.leave()
        raise UsageError(
            f"the launcher started {started} processes, but each is rank 0 of 1: it belongs to another MPI than "
            f"the library in use ({comm.library}); use the launcher of that MPI (command -v mpirun shows yours)"
        )
    return comm
