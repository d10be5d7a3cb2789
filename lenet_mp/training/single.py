"""For commands that run in one process only: what they answer to several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from lenet_mp.parallel.comm import Comm


def refuse(command: str, world: Comm) -> int:
    """Say once, on rank 0, that there are too many processes; return the exit code of every rank."""
    if world.rank == 0:
        line = f"runs in one process with all threads, not under mpirun with {world.size}: start it without mpirun"
        print(f"lenet-mp {command}: error: {line}", file=sys.stderr, flush=True)
    world.rest()
    return UsageError.exit_code
