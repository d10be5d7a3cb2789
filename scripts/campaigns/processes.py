"""The processes of a job, found in /proc: its launcher, its ranks, and what they hold."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

RANK_VARIABLES = re.compile(rb"(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)")
PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    """Return a process's state, such as ``R`` or ``Z``; nothing if there is none."""
    return _stat(pid)[0]


def descendants(pid: int) -> list[int]:
    """Return all processes below ``pid``."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            children.setdefault(_stat(int(entry.name))[1], []).append(int(entry.name))
    found, pending = [], [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def ranks(launcher: int) -> dict[int, int]:
    """Return the process of every rank below a launcher; helpers that a rank has started are not it."""
    by_pid = {pid: number for pid in descendants(launcher) if (number := _rank(pid)) is not None}
    return {number: pid for pid, number in by_pid.items() if by_pid.get(_stat(pid)[1]) != number}


def shared_memory(pids: list[int]) -> set[Path]:
    """Return the files of /dev/shm that these processes have mapped or open: killed MPI jobs leave theirs behind."""
    found: set[Path] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            text = (PROC / str(pid) / "maps").read_text(errors="replace")
            found |= {Path(name) for name in re.findall(r"/dev/shm/\S+", text)}  # noqa: S108 - who uses them
        with contextlib.suppress(OSError):
            for link in list((PROC / str(pid) / "fd").iterdir()):
                with contextlib.suppress(OSError):  # closed meanwhile
                    target = os.readlink(link).removesuffix(" (deleted)")  # noqa: PTH115 - no file need exist
                    if target.startswith("/dev/shm/"):  # noqa: S108 - as above
                        found.add(Path(target))
    return found


def kill(pid: int) -> bool:
    """Send SIGKILL; whether there was a living process to receive it."""
    if not is_alive(pid):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait until none of these processes is alive; return those that still are after so long."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _stat(pid: int) -> tuple[str, int]:
    """Return state and parent of a process; nothing and 0 if there is none."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[1])


def _rank(pid: int) -> int | None:
    try:
        match = RANK_VARIABLES.search((PROC / str(pid) / "environ").read_bytes())
    except OSError:
        return None
    return int(match[1]) if match else None
