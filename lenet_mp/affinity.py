"""Cores that this process may run on, as they were when it began: a thread may be bound to fewer for a while."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL = frozenset(os.sched_getaffinity(0))


def bind(cores: Iterable[int]) -> None:
    """Let this thread run on these cores alone, where the system allows it."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)


def roam() -> None:
    """Let this thread run on all of them, whatever the one that started it is bound to."""
    bind(ALL)
