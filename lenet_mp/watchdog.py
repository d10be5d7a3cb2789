"""A thread on every rank that ends a job in which a rank hangs.

A killed rank is noticed by the launcher. A rank that is stopped, loops or waits for a dead disk is not: the others
would wait in their next collective call for ever. So when a rank has not finished anything for a given time, its
watchdog asks the others' watchdogs what they are doing, prints who is where and who does not answer, and exits.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from lenet_mp.errors import PeerError
from lenet_mp.last_words import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lenet_mp.comm import Comm

PERIOD = 0.1
ROLL_CALL = 0.4
LAST_RESORT = 0.3
"""Seconds between looks at the clock, for the other ranks to answer, and for the launcher to end all."""


@contextlib.contextmanager
def watching(comm: Comm, seconds: float) -> Iterator[None]:
    """End the job with exit code 75 when this rank enters no new phase for ``seconds``; 0 turns it off."""
    done = threading.Event()
    if seconds:
        threading.Thread(target=_watch, args=(comm, seconds, done), name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(comm: Comm, seconds: float, done: threading.Event) -> None:
    while not done.wait(min(PERIOD, seconds / 4)):
        if time.monotonic() - comm.phase_began > seconds and not done.is_set():
            _bark(comm, seconds)


def _bark(comm: Comm, seconds: float) -> None:
    """Say who is where, show where this rank is in the program if it is not just waiting, and exit."""
    here = f"[rank {comm.rank}] nothing finished in {seconds:g} s: this rank is in {comm.phase}"
    if not comm.waiting:
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    say("\n".join([here, *_absent(comm)]))
    # Abort tells the launcher the code, which it would else take from the stuck rank that it kills; but MPI itself may
    # be what hangs.
    threading.Timer(LAST_RESORT, os._exit, [PeerError.exit_code]).start()
    comm.abort(PeerError.exit_code)


def _absent(comm: Comm) -> list[str]:
    """Return a line for every other rank that is stuck: it gives no answer, or is not waiting for others."""
    phases = comm.roll_call(ROLL_CALL)
    lines = []
    for rank in range(comm.size):
        if rank == comm.rank:
            continue
        if rank not in phases:
            lines.append(f"  rank {rank} does not answer: it is stopped, or hangs outside of Python")
        elif phases[rank]:
            lines.append(f"  rank {rank} is in {phases[rank]}")
    return lines
