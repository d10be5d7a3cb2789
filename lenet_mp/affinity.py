"""Cores that this process may run on, as they were when it began: a thread may be bound to fewer for a while."""

from __future__ import annotations

import contextlib
import os

ALL = frozenset(os.sched_getaffinity(0))


def roam() -> None:
    """Let this thread run on all of them, whatever the one that started it is bound to."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, ALL)
