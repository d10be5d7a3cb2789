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
from lenet_mp.parallel.last_words import TO_PASS_IT_ON, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lenet_mp.parallel.comm import Comm

PERIOD = 0.1
LONGEST_TICK = 0.5
ROLL_CALL = 0.4
LAST_RESORT = 0.3
"""Seconds between looks at the clock, that one look counts at most, for others to answer, for the launcher to act."""
PATIENCE = 10


@contextlib.contextmanager
def watching(comm: Comm, seconds: float) -> Iterator[None]:
    """End the job with exit code 75 when this rank stays in one phase for too long; 0 turns it off.

    Too long is ``seconds``, or ten times the longest step so far where that is more: a slow machine or a huge batch is
    no hang.
    """
    done = threading.Event()
    if seconds:
        threading.Thread(target=_watch, args=(comm, seconds, done), name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(comm: Comm, seconds: float, done: threading.Event) -> None:
    began, elapsed = comm.phase_began, 0.0
    tick = time.monotonic()
    while not done.wait(PERIOD):
        now = time.monotonic()
        # A long tick means that this process was stopped and continued; that time is no sign of a hang.
        elapsed += min(now - tick, LONGEST_TICK)
        tick = now
        if comm.phase_began != began:
            began, elapsed = comm.phase_began, 0.0
        limit = max(seconds, PATIENCE * comm.longest_step)
        if elapsed > limit:
            _bark(comm, limit)
        comm.answer()


def _bark(comm: Comm, seconds: float) -> None:
    """Say who is where, show where this rank is in the program if it is not just waiting, and exit."""
    # Armed first: MPI, or the terminal, may be what hangs.
    last_resort = threading.Timer(ROLL_CALL + TO_PASS_IT_ON + LAST_RESORT, os._exit, [PeerError.exit_code])
    last_resort.daemon = True
    last_resort.start()
    try:
        here = f"[rank {comm.rank}] nothing finished in {seconds:.3g} s: this rank is in {comm.phase}"
        words = "\n".join([here, *_absent(comm)])
        if not comm.waiting:
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        say(words)
    finally:
        # Abort tells the launcher the code, which it would else take from the stuck rank that it kills.
        comm.abort(PeerError.exit_code)


def _absent(comm: Comm) -> list[str]:
    """Return a line for every other rank that is stuck: it gives no answer, or is not waiting for others."""
    phases = comm.roll_call(ROLL_CALL)
    if phases is None:
        return []
    lines = []
    for rank in set(range(comm.size)) - {comm.rank}:
        if rank not in phases:
            lines.append(f"  rank {rank} does not answer: it is stopped, or hangs outside of Python")
        elif phases[rank]:
            lines.append(f"  rank {rank} is in {phases[rank]}")
    return lines
