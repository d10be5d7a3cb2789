"""A small process beside each rank that outlives it.

A rank that is killed says nothing, and what the launcher says names neither the rank nor what it was doing; one that
leaves, or hangs, before MPI has begun may let the others wait for ever. So each rank notes what it does in memory that
it shares with a guardian (``guardian_process``), which sleeps until the rank has ended. If that rank took no leave, the
guardian says which it was, where and how it ended, and asks the launcher to end the job.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp.parallel import guardian_process
from lenet_mp.parallel.guardian_process import AT_WORK, IN_LINE, LAYOUT, LEFT, STARTING

if TYPE_CHECKING:
    from types import TracebackType

START = "start-up"
"""Phase before any other."""
RANKS = ("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
"""Variables by which a launcher tells a process its rank."""
LIMIT = "LENET_MP_START_TIMEOUT", 300.0
"""Variable with the seconds within which all ranks must have called ``MPI_Init``, and its default."""
PHASE = 251
"""Bytes of a phase that are kept."""
ANSWER = 0.3
"""Seconds to wait for the guardian to claim that this rank ends the job."""
TO_BE_IN_LINE = 0.7
"""Seconds after which the others are likely to be in ``MPI_Init``."""


class _Guardian:
    """The rank's side."""

    def __init__(self, rank: int) -> None:
        self._state, self._rank = STARTING, rank
        memory = os.memfd_create("lenet-mp-rank")
        os.truncate(memory, LAYOUT.size)
        self._notes = mmap.mmap(memory, LAYOUT.size)
        self.note(START)
        me = os.pidfd_open(os.getpid())
        self._line, its_end = socket.socketpair()
        descriptors = [me, its_end.fileno(), memory]
        program = [sys.executable, "-I", "-S", str(Path(guardian_process.__file__))]
        connection = os.environ.get("PMI_FD", "")
        # It holds what is the rank's, stdout too: a launcher that notices the end of the rank first may end the job
        # before a word was said. A session of its own, because launchers kill the rank's process group.
        self._process = subprocess.Popen(  # noqa: S603 - this Python, a file of this package
            [*program, *map(str, [os.getpid(), *descriptors, _limit()])],
            stdin=subprocess.DEVNULL,
            pass_fds=[*descriptors, *([int(connection)] if connection.isdecimal() else [])],
            start_new_session=True,
        )
        its_end.close()
        os.close(me)
        os.close(memory)

    def join(self, rank: int) -> None:
        self._state, self._rank = AT_WORK, rank

    def note(self, phase: str) -> None:
        LAYOUT.pack_into(self._notes, 0, self._state, self._rank, phase.encode(errors="replace")[:PHASE])

    def leave(self) -> None:
        self._state = LEFT
        self._notes[0] = LEFT

    def claim(self) -> None:
        self.leave()
        with contextlib.suppress(OSError):
            self._line.settimeout(ANSWER)
            self._line.send(b"?")
            self._line.recv(1)


def _limit() -> float:
    name, default = LIMIT
    try:
        return max(0.0, float(os.environ.get(name, default)))
    except ValueError:
        return default


_guardian: _Guardian | None = None


def start() -> None:
    """Start this rank's guardian, if a launcher started this process.

    As early as possible, for a rank may fail while it imports NumPy, and before MPI and OpenMP, which processes must
    not be started after: where MPI is there already, there will be no guardian, and none where Linux is too old.
    """
    global _guardian  # noqa: PLW0603 - there is one a process, and it is needed before there is anything to own it
    rank = next((os.environ[name] for name in RANKS if os.environ.get(name, "").isdecimal()), None)
    if _guardian or rank is None or "mpi4py.MPI" in sys.modules:
        return
    with contextlib.suppress(OSError):
        _guardian = _Guardian(int(rank))
    if "PMIX_RANK" in os.environ:
        sys.excepthook = _fail_late


def _fail_late(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception, and wait: Open MPI's launcher crashes if a rank leaves just when others connect to it."""
    sys.__excepthook__(kind, error, trace)
    time.sleep(TO_BE_IN_LINE)


def queue() -> None:
    """Note that MPI is about to begin, for which this process waits for all ranks."""
    note(IN_LINE.decode())


def join(rank: int) -> None:
    """Note that MPI has begun, in which this process is ``rank``: from now on the others need it."""
    if sys.excepthook is _fail_late:
        sys.excepthook = sys.__excepthook__
    if _guardian:
        _guardian.join(rank)


def note(phase: str) -> None:
    """Note what this rank does from now on."""
    if _guardian:
        _guardian.note(phase)


def leave() -> None:
    """Note that this process may end, however it does: nobody needs it any more."""
    if _guardian:
        _guardian.leave()


def claim() -> None:
    """Note that this rank ends the job and has said why: no guardian of this machine needs to speak."""
    if _guardian:
        _guardian.claim()
