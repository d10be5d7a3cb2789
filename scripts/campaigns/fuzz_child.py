"""The process of a fuzz campaign that reads mutants, with limits on memory and on the time of each."""

from __future__ import annotations

import importlib
import json
import mmap
import random
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns import fuzzing

from lenet_mp.errors import LenetError

if TYPE_CHECKING:
    from campaigns.fuzzing import Target

OFTEN = 256
"""Mutants between two looks at the memory."""


def main() -> None:
    """Read the mutants that the command line tells; ends early, by a signal, where one of them kills."""
    name, seed, first, last, folder = sys.argv[2], *map(int, sys.argv[3:6]), Path(sys.argv[6])
    target = importlib.import_module(f"campaigns.{name}").make(folder)
    with (folder / "cells").open("r+b") as file:
        cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    _limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (folder / "failures").open("a", buffering=1) as failures:
        for place in range(first, last):
            cells[0] = place
            wrong = _attempt(target, generator(seed, place), cells)
            if wrong:
                failures.write(json.dumps(f"mutant {place} of seed {seed}: {wrong}") + "\n")
            if place % OFTEN == 0 or place == last - 1:
                cells[3] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    signal.setitimer(signal.ITIMER_PROF, 0)


def generator(seed: int, place: int) -> random.Random:
    """Return the generator of mutant ``place``, for who wants to make it again."""
    return random.Random(seed << 40 | place)


def _attempt(target: Target, rng: random.Random, cells: memoryview) -> str:
    """Feed one mutant; return what is wrong with its outcome."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    mutant = target.mutant(rng)
    # The default action ends the process even while it is in C code.
    signal.setitimer(signal.ITIMER_PROF, fuzzing.SECONDS)
    try:
        target.read(mutant)
    except LenetError as error:
        cells[1] += 1
        return "its reason is no line of text" if "\n" in str(error) or not str(error) else ""
    except Exception as error:  # noqa: BLE001 - to be told, whatever it is
        return f"{type(error).__name__}: {error}"[:500]
    cells[2] += 1
    return ""


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + fuzzing.SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
