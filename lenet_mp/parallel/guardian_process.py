"""The process beside a rank: it waits for the rank's end, says how it came, and has the launcher end the job.

A program of its own, run without site-packages, so that it is small and soon there. Its arguments are the rank's
process id, three descriptors (the rank by ``pidfd_open``, a socket to it, and the memory in which it notes what it
does), and the seconds within which MPI must have begun; 0 for any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

LAYOUT = struct.Struct("=Bi251s")
"""The rank's notes: its state, its number, its phase in UTF-8."""
STARTING, AT_WORK, LEFT = range(3)
"""States: before MPI has begun; after that; when others need this rank no more, or it ends the job itself."""
IN_LINE = b"the wait for all ranks to start"
"""Phase of a rank that has called ``MPI_Init``, which returns when all have."""
LOST = 75
"""``PeerError.exit_code``; of a job, too, whose rank left with 0 before the work was done."""

_LAUNCHERS = ("hydra_pmi_proxy", "prterun", "prted", "orted", "mpirun", "mpiexec", "slurmstepd")
_LAUNCHER_ACTS = 2.0
"""Seconds that a launcher may take to end the other ranks, whose guardians must be silent then."""
_TO_PASS_IT_ON = 0.1
_TO_BE_READ = 1.0
_HEAD_START = 0.5
"""Seconds for the guardian of a rank that hangs at the start to speak, before those of the ranks that wait for it."""
_GET_INFO, _INFO_EXIT, _INFO_SIZE = 0xC040FF0B, 1 << 3, 64
"""linux/pidfd.h: asks for, and marks, the exit status of a process that is gone (Linux 6.15)."""
_EXIT_CODE = 49
"""Field of /proc/PID/stat, counted from the state."""


def main(pid: int, rank: int, line: int, memory: int, limit: float) -> None:
    """Wait for the rank's end; where it is the first of its machine, and took no leave, speak and act for it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # what launchers and terminals send is for the rank
    os.chdir("/")
    launcher = _launcher_of(pid)
    with mmap.mmap(memory, LAYOUT.size, prot=mmap.PROT_READ) as notes:
        claim = _see_off(_Rank(pid, rank, notes), socket.socket(fileno=line), launcher, limit)
    if claim:
        _linger(launcher)


def _see_off(rank: _Rank, line: socket.socket, launcher: int, limit: float) -> socket.socket | None:
    """Wait and speak; the claim, if this rank was the first to end."""
    claim = _wait(rank, line, launcher, limit)
    state, number, phase = rank.state()
    where = phase.decode(errors="replace")
    if rank.lives():
        claim = _claim(launcher)
        if claim:
            _say(f"[rank {number}] nothing finished in {limit:.3g} s: this rank is in {where}: all ranks end")
            _end_job(LOST, rank.pid)
        return claim
    status = rank.exit_status()
    if state == LEFT or (state == STARTING and status == 0):  # without MPI, a rank may be done before the others
        return claim
    claim = claim or _claim(launcher)
    if claim:
        _say(f"[rank {number}] {_how(status)} in {where}: all ranks end")
        _end_job(_code(status))
    return claim


class _Rank:
    """The process that is looked after."""

    def __init__(self, pid: int, descriptor: int, notes: mmap.mmap) -> None:
        self.pid, self.descriptor, self._notes = pid, descriptor, notes

    def state(self) -> tuple[int, int, bytes]:
        """Return what it noted last: state, number, phase."""
        state, number, phase = LAYOUT.unpack(self._notes[:])
        return state, number, phase.rstrip(b"\0")

    def lives(self) -> bool:
        return not select.select([self.descriptor], [], [], 0)[0]

    def exit_status(self) -> int | None:
        """Return its status as ``os.waitpid`` does; None where the launcher has fetched it and Linux is old."""
        fields = _stat(self.pid)[2]
        if fields and fields[0] == "Z":
            return int(fields[_EXIT_CODE])
        # The launcher has fetched it; only from then on it stands here.
        info = bytearray(_INFO_SIZE)
        struct.pack_into("=Q", info, 0, _INFO_EXIT)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.descriptor, _GET_INFO, info)
            if struct.unpack_from("=Q", info)[0] & _INFO_EXIT:
                return int(struct.unpack_from("=i", info, _INFO_SIZE - 4)[0])
        return None


def _launcher_of(pid: int) -> int:
    """Return the process that started the ranks of this machine: the rank's parent, unless a program lies between."""
    parent = ancestor = _stat(pid)[1]
    while ancestor > 1:
        name, above, _ = _stat(ancestor)
        if name in _LAUNCHERS:
            return ancestor
        ancestor = above
    return parent


def _stat(pid: int) -> tuple[str, int, list[str]]:
    """Return a process's name, its parent, and all that /proc tells after its name; parent 0 where there is no such."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0, []
    name, _, rest = text.partition("(")[2].rpartition(") ")
    fields = rest.split()
    return name, int(fields[1]), fields


def _wait(rank: _Rank, line: socket.socket, launcher: int, limit: float) -> socket.socket | None:
    """Return when the rank has ended, or MPI has not begun within ``limit`` seconds.

    Returns the claim, if the rank asked for it, as it does before it ends the job itself.
    """
    claim = None
    began = time.monotonic()
    poll = select.poll()
    poll.register(rank.descriptor, select.POLLIN)
    poll.register(line, select.POLLIN)
    while True:
        state, _, phase = rank.state()
        due = began + limit + _HEAD_START * (phase == IN_LINE) if limit and state == STARTING else math.inf
        left = due - time.monotonic()
        ready = {descriptor for descriptor, _ in poll.poll(None if math.isinf(due) else 1e3 * max(left, 0))}
        if line.fileno() in ready:
            if line.recv(1):
                claim = claim or _claim(launcher)
                line.send(b"!")
            else:
                poll.unregister(line)
        elif rank.descriptor in ready or left < 0:
            return claim


def _claim(launcher: int) -> socket.socket | None:
    """Claim to be the first rank of this machine and job to end; None where another was: that is why this one did.

    The claim is a name that one process at a time can hold, and that goes with the process.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0lenet-mp-{os.getuid()}-{launcher}")
    except OSError:
        claim.close()
        return None
    return claim


def _how(status: int | None) -> str:
    if status is None:
        return "died"
    if not os.WIFSIGNALED(status):
        return f"left with exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    why = " (by hand, by a batch system, or for want of memory)" if number == signal.SIGKILL else ""
    return f"was killed by {name}{why}"


def _say(words: str) -> None:
    """Print to stderr, where somebody reads it; together with Linux's pipes that is all or nothing."""
    poll = select.poll()
    poll.register(sys.stderr.fileno(), select.POLLOUT)
    with contextlib.suppress(OSError):
        if poll.poll(1e3 * _TO_BE_READ):
            os.write(sys.stderr.fileno(), f"{words}\n".encode(errors="replace"))


def _code(status: int | None) -> int:
    """Return the exit code of a job that a rank ended with this status."""
    code = os.waitstatus_to_exitcode(status) if status else LOST
    return code if code > 0 else 128 - code


def _end_job(code: int, hanging: int = 0) -> None:
    """Ask the launcher, in the rank's place, to end the job with ``code``.

    That is the way of MPICH and its kin (PMI-1). Their launchers notice the end of a rank by themselves only if it had
    called ``MPI_Init``, and all copies of its connection are closed. Other launchers wait for their children: one that
    is ``hanging`` is killed.
    """
    connection = os.environ.get("PMI_FD", "")
    if connection.isdecimal():
        select.select([], [], [], _TO_PASS_IT_ON)  # for the launcher to read the words first
        with contextlib.suppress(OSError):
            os.write(int(connection), b"cmd=abort exitcode=%d\n" % code)
    elif hanging:
        os.kill(hanging, signal.SIGKILL)


def _linger(launcher: int) -> None:
    """Keep the claim until the launcher has ended, but not the job from ending: let go of all that was the rank's."""
    with contextlib.suppress(OSError):
        waited_for = os.pidfd_open(launcher)
        os.closerange(0, 3)
        if os.environ.get("PMI_FD", "").isdecimal():
            os.close(int(os.environ["PMI_FD"]))
        poll = select.poll()
        poll.register(waited_for, select.POLLIN)
        poll.poll(1e3 * _LAUNCHER_ACTS)


if __name__ == "__main__":
    pid, rank, line, memory = map(int, sys.argv[1:5])
    main(pid, rank, line, memory, float(sys.argv[5]))
