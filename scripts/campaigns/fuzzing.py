"""Feeding a reader a great many mutants, in processes that may die of one.

A campaign's module has ``make(folder)``, which returns its Target. Mutant number i of a seed is the same on every
machine, however many processes share the work. A process that dies names the mutant by a counter in shared memory;
another one goes on after it. It is no failure where the product says itself that a library crashed on the file, and
ends as it does for any that is damaged, as long as that is rare: then it is the library's mistake, and is told.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from campaigns.tally import Tally

from lenet_mp.errors import DataError

if TYPE_CHECKING:
    import random

SECONDS = 1.0
"""Processor time of one attempt: a busy machine does not make an innocent reader late."""
SPARE_BYTES = 1 << 30
"""Address space beside what a process has before its first attempt."""
STALLED_SECONDS = 300
"""Without the processor and without an end: it waits for something that will not come."""
LIBRARY_CRASHED = "library crashed on it"
"""What the product says before it ends for that reason."""
RARE = 1 / 50_000
"""Share of the mutants on which a library may crash."""
CELLS = ("place", "refused", "accepted", "peak")
"""Counters that a process shares: the mutant in work, outcomes so far, and the most memory in MB."""

_START = "import sys; sys.path[:0] = sys.argv[1].split(':'); from campaigns import fuzz_child; fuzz_child.main()"


class Target(Protocol):
    """What is fed, and how it is judged."""

    def mutant(self, rng: random.Random) -> bytes:
        """Return a mutant; the same one from the same generator."""

    def read(self, mutant: bytes) -> None:
        """Let the product read it: return if it was accepted, rightly; LenetError refuses it; anything else fails."""


class MemoryFile:
    """A regular file, on no disk unless a ``folder`` is given, whose content changes fast; for readers of paths.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder:
            self.path = folder / "mutant"
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        else:
            self._descriptor = os.memfd_create("mutant")
            self.path = Path(f"/proc/self/fd/{self._descriptor}")

    def fill(self, data: bytes) -> None:
        """Give it this content."""
        os.ftruncate(self._descriptor, len(data))
        os.pwrite(self._descriptor, data, 0)


def fuzz(name: str, size: int, seed: int, folder: Path) -> Tally:
    """Feed ``size`` mutants to the target of the campaign module ``name`` and count what came of them."""
    processes = min(len(os.sched_getaffinity(0)), 1 + size // 1000)
    bounds = [size * number // processes for number in range(processes + 1)]
    with ThreadPoolExecutor(processes) as pool:
        workers = [
            _Worker(name, seed, folder / str(number), bounds[number], bounds[number + 1])
            for number in range(processes)
        ]
        list(pool.map(_Worker.work, workers))
    failures = [failure for worker in workers for failure in worker.failures()]
    crashes = [f"mutant {place} of seed {seed}: a library crashed" for worker in workers for place in worker.contained]
    print("".join(f"{name}: {crash}\n" for crash in crashes), end="", flush=True)
    if len(crashes) > max(1, size * RARE):
        failures += crashes
    tally = Tally(tried=size - len(failures))
    for failure in failures:
        tally.attempt(failure)
    for cell in ("refused", "accepted"):
        tally.count(cell, sum(worker.counts[cell] for worker in workers))
    tally.count("crashes of a library, told", len(crashes))
    tally.count("most MB of a process", max(worker.counts["peak"] for worker in workers))
    return tally


class _Worker:
    """One part of the mutants, and the processes that try it, one after the other as they die."""

    def __init__(self, name: str, seed: int, folder: Path, first: int, last: int) -> None:
        self.counts = dict.fromkeys(CELLS, 0)
        self._name, self._seed, self._folder, self._first, self._last = name, seed, folder, first, last
        self.contained: list[int] = []
        self._deaths: list[str] = []

    def work(self) -> None:
        """Try every mutant of the part."""
        self._folder.mkdir()
        first = self._first
        while first < self._last:
            first = self._process(first)

    def failures(self) -> list[str]:
        """Return what is to be told of every mutant that failed."""
        told = self._folder / "failures"
        lines = told.read_text().splitlines() if told.exists() else []
        return [*(str(json.loads(line)) for line in lines), *self._deaths]

    def _process(self, first: int) -> int:
        """Start a process at the mutant ``first``; return the one after the last that was tried."""
        shared = self._folder / "cells"
        shared.write_bytes(bytes(8 * len(CELLS)))
        with shared.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        cells = memoryview(memory).cast("Q")
        cells[0] = first
        here = Path(__file__).resolve()
        path = ":".join(map(str, (here.parents[2], here.parents[2] / "tests", here.parents[1])))
        command = [sys.executable, "-c", _START, path, self._name, self._seed, first, self._last, self._folder]
        process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
        how = self._wait(process, cells)
        _, said = process.communicate()
        place = cells[0]
        for number, cell in enumerate(CELLS[1:], 1):
            both = (self.counts[cell], cells[number])
            self.counts[cell] = max(both) if cell == "peak" else sum(both)
        if process.returncode == 0:
            return self._last
        if place == first and "in make" in said:
            raise SystemExit(f"{self._name}: the campaign cannot begin: {said}")
        if process.returncode == DataError.exit_code and LIBRARY_CRASHED in said:
            self.contained.append(place)
            return place + 1
        self._deaths.append(f"mutant {place} of seed {self._seed}: {how or _end(process.returncode)}: {said[-500:]}")
        return place + 1

    @staticmethod
    def _wait(process: subprocess.Popen[str], cells: memoryview) -> str:
        """Wait for the end of a process; kill one that stands still."""
        place, since = cells[0], time.monotonic()
        while True:
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                if cells[0] != place:
                    place, since = cells[0], time.monotonic()
                elif time.monotonic() - since > STALLED_SECONDS:
                    process.kill()
                    return "waits for ever"
            else:
                return ""


def _end(code: int) -> str:
    if code == -signal.SIGPROF:
        return f"takes more than {SECONDS:g} s"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
