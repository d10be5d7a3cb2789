"""Kill prepare with SIGKILL at random times and start it again: the data set must be the same bytes.

Each attempt prepares the same lists into a new folder, or over another data set, as pixels or as JPEG, with one to
three workers or on two ranks, and is killed one to four times: the whole job or its first process alone, at a random
time or once a random number of files is there. A folder whose manifest is there must be whole at that moment; in the
end files and manifest must equal those of a run that nobody disturbed, and nothing may lie beside them.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pictures
import programs
from campaigns.tally import Tally

from lenet_mp.data import journal, manifest

if TYPE_CHECKING:
    from pathlib import Path

    Bytes = dict[str, str]

SMALL, FULL = 3, 200
KINDS = ((), ("--store", "jpeg"), ("--overwrite",))
FILES = 12
MOST_KILLS = 4
AT_ONCE = 0.4
"""Share of the kills that come at a time, not with a file."""
TIME_LIMIT = 120


class Campaign:
    """Makes attempts in ``folder``; what they do follows from ``seed``, when they do it from the machine as well."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._lists = pictures.write_lists(folder, counts=(4 * (FILES - 1), 6, 6))
        self._expected: dict[tuple[str, ...], Bytes] = {}
        start = time.monotonic()
        for kind in KINDS:
            out = folder / f"undisturbed{len(self._expected)}"
            self._wait(self._start(out, kind, workers=1))
            self._expected[kind] = contents(out)
        self._duration = (time.monotonic() - start) / len(KINDS)

    def attempt(self, tally: Tally) -> str:
        """Disturb and finish one preparation; return how it broke the promise, if it did."""
        out, kind = self._folder / "data", self._chance.choice(KINDS)
        shutil.rmtree(out, ignore_errors=True)
        if "--overwrite" in kind:
            self._wait(self._start(out, ("--seed", "5", "--shard-size", "3"), workers=2))
        before = contents(out)
        wanted = self._chance.randint(1, MOST_KILLS)
        hits = 0
        while hits < wanted:
            hit = self._kill(out, kind, tally)
            hits += hit
            if not hit and hits:
                break
            if (out / manifest.NAME).exists() and contents(out) not in (before, self._expected[kind]):
                return f"{kind}: a manifest beside files that it does not describe"
            if not hit:  # it came too late: once more from the beginning
                shutil.rmtree(out)
        code = self._wait(self._start(out, kind, workers=2))
        left = sorted(path.name for path in out.iterdir() if path.name not in contents(out) and path.name != ".lock")
        if code or left or contents(out) != self._expected[kind]:
            return f"{kind}: exit code {code}, left over {left}, or other bytes"
        return ""

    def _kill(self, out: Path, kind: tuple[str, ...], tally: Tally) -> bool:
        """Start and kill once; whether it was hit before its end."""
        files = self._chance.choice([0, *range(FILES)])
        after = self._chance.uniform(0, self._duration) if self._chance.random() < AT_ONCE else 0.0
        ranks = 2 if programs.MPIRUN and self._chance.random() < 0.25 else 0
        job = self._start(out, kind, workers=self._chance.randint(1, 3), ranks=ranks)
        if after:
            time.sleep(after)
        else:
            _wait_for_files(out, files, job)
            time.sleep(self._chance.uniform(0, 0.01))
        hit = job.poll() is None
        whole_job = bool(ranks) or self._chance.random() < 0.7
        if hit:
            (os.killpg if whole_job else os.kill)(job.pid, signal.SIGKILL)
            tally.count("kills")
        job.wait(TIME_LIMIT)
        return hit

    def _start(self, out: Path, kind: tuple[str, ...], *, workers: int, ranks: int = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lenet_mp.prepare", "--lists", *map(str, self._lists), "--out", str(out)]
        command += ["--size", "10x12", "--shard-size", "4", "--workers", str(workers), *kind]
        if ranks:
            command = [str(programs.MPIRUN), "-n", str(ranks), *command]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, stdout=quiet, stderr=quiet, env=programs.environment(), start_new_session=True
        )

    @staticmethod
    def _wait(job: subprocess.Popen[bytes]) -> int:
        return job.wait(TIME_LIMIT)


def contents(out: Path) -> Bytes:
    """SHA-256 of every file of a data set, by name."""
    found = out.iterdir() if out.exists() else ()
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.suffix in {".h5", ".json", ".txt"} and path.name[0] != "."
    }


def _wait_for_files(out: Path, count: int, job: subprocess.Popen[bytes]) -> None:
    """Wait until so many files are finished, or the journal is there for none, or the job ends."""
    limit = time.monotonic() + TIME_LIMIT
    while job.poll() is None and time.monotonic() < limit:
        if len(list(out.glob("*.h5"))) >= count and journal.journals(out):
            return
        time.sleep(0.001)


def run(size: int, seed: int, folder: Path) -> Tally:
    """Disturb ``size`` preparations."""
    tally = Tally()
    campaign = Campaign(folder, seed)
    for _ in range(size):
        tally.attempt(campaign.attempt(tally))
    return tally
