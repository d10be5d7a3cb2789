"""How many OpenMP threads this rank should use, and how they should wait."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from lenet_mp.parallel.comm import Comm


def cores() -> int:
    """Cores that this process may run on (its affinity mask)."""
    return len(os.sched_getaffinity(0))


def choose(comm: Comm) -> int:
    """Return the threads of this rank: what the environment says, else its share of the cores of its machine.

    ``OMP_NUM_THREADS`` and ``SLURM_CPUS_PER_TASK`` are honoured in this order. Where the ranks of this machine would
    have more threads than cores, OpenMP's threads are told to wait asleep; that works only before the engine is
    loaded.

    Raises
    ------
    UsageError
        If one of the variables is set and no positive number.
    """
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text:
            if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= 4096:  # noqa: PLR2004 - far above any machine
                raise UsageError(f"{name}={text} is no number of threads: set it to 1 or more, or unset it")
            threads = int(text)
            break
    else:
        threads = max(1, int(comm.share + 1e-9))
    if threads * comm.local_size > comm.cores:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return threads
