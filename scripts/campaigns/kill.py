"""Kill a training run with SIGKILL at random times and resume it elsewhere: the results must be the same bits.

Each attempt is a run that is killed one to three times: a random rank, all ranks, or the launcher, at any moment of its
life, more often once it saves. It goes on with the same command on another number of ranks, alone or under another MPI,
until it ends by itself. Weights, momentum, figures and pictures must then equal those of a run that nobody disturbed. A
kill counts if its target was alive and the job did not end well; a run that no kill has hit is begun again.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaigns import processes, small_job
from campaigns.tally import Tally

from lenet_mp.parallel.launch import MPICH, OPEN_MPI
from lenet_mp.training import run_folder

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns.small_job import Place

SMALL, FULL = 2, 300
RANKS = (1, 2, 3, 4)
TARGETS = ("a rank", "all ranks", "the launcher")
LONE = "a lone process"
STARTS = ("starts alone", f"starts {MPICH}", f"starts {OPEN_MPI}")
MOST_KILLS = 3
ONCE_IT_SAVES = 0.75
"""Share of the kills that wait for a checkpoint first: most of so short a run is its start."""
GONE_WITHIN = 10.0
PAUSE = 0.002


@dataclass(frozen=True)
class Kill:
    """What is killed, how long after the start, or after the first checkpoint that the job writes."""

    target: str
    after: float
    once_it_saves: bool


class Campaign:
    """Runs attempts in ``folder`` and counts them.

    Parameters
    ----------
    folder : Path
    seed : int
        What is killed and when, and where the run goes on, follow from it and the attempt's number; what the job is
        doing at that moment depends on the machine as well.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._places = small_job.places(RANKS)
        self.tally = Tally()
        for name in ("kills", *(f"of {target}" for target in (*TARGETS, LONE)), *STARTS):
            self.tally.count(name, 0)
        small_job.prepare(folder)
        self._expected, self._duration = self._undisturbed()

    def attempt(self, number: int) -> None:
        """Disturb and finish one run."""
        for again in range(100):
            chance = random.Random(f"{self._seed} {number} {again}")
            out = self._folder / f"run-{number}"
            kills, failure = self._disturb(chance, out)
            failure = failure or self._judge(out)
            shutil.rmtree(out, ignore_errors=True)
            if kills or failure:
                self.tally.attempt(f"run {number} of seed {self._seed} ({kills} kills): {failure}" if failure else "")
                return
        raise AssertionError("a hundred runs ended before they could be killed")

    def _undisturbed(self) -> tuple[dict[str, object], float]:
        out = self._folder / "undisturbed"
        start = time.monotonic()
        job = self._places[0].start(small_job.arguments(self._folder, out), self._folder)
        if job.wait(small_job.TIME_LIMIT):
            raise SystemExit(f"the undisturbed run failed:\n{self._output()}")
        return small_job.results(out), time.monotonic() - start

    def _disturb(self, chance: random.Random, out: Path) -> tuple[int, str]:
        """Start, kill and resume a run until it ends; return how many kills hit it, and what went wrong."""
        hits = 0
        plan = [self._draw(chance) for _ in range(chance.randint(1, MOST_KILLS))]
        for kill in [*plan, None]:
            place = chance.choice(self._places)
            self.tally.count(f"starts {place.mpi}")
            job = place.start(small_job.arguments(self._folder, out), self._folder)
            hit, left = self._strike(kill, place, job, out, chance) if kill else (False, [])
            try:
                code = job.wait(small_job.TIME_LIMIT)
            except subprocess.TimeoutExpired:
                processes.kill(job.pid)
                return hits, f"{place.ranks} ranks, {place.mpi}: hangs after {kill}\n{self._output()}"
            if code == 0:
                return hits, ""
            if not hit:
                return hits, f"{place.ranks} ranks, {place.mpi}: exit code {code}\n{self._output()}"
            if left:
                return hits, f"{place.ranks} ranks, {place.mpi}: processes {left} are left after {kill}"
            hits += 1
            self.tally.count("kills")
            self.tally.count(f"of {kill.target if place.launcher else LONE}")
        return hits, ""

    def _draw(self, chance: random.Random) -> Kill:
        once_it_saves = chance.random() < ONCE_IT_SAVES
        return Kill(chance.choice(TARGETS), chance.uniform(0, self._duration), once_it_saves)

    def _strike(
        self, kill: Kill, place: Place, job: subprocess.Popen[str], out: Path, chance: random.Random
    ) -> tuple[bool, list[int]]:
        """Carry out a kill; return whether a target was alive, and which processes of the job live on too long."""
        if kill.once_it_saves:
            before = _saved(out)
            while job.poll() is None and _saved(out) == before:
                time.sleep(PAUSE)
        # After the first checkpoint about half of the run is left.
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(kill.after / 2 if kill.once_it_saves else kill.after)
            return False, []
        below = processes.descendants(job.pid)
        ranks = list(processes.ranks(job.pid).values()) if place.launcher else []
        targets = {"a rank": [chance.choice(ranks)] if ranks else [], "all ranks": ranks}.get(kill.target, [job.pid])
        memory = processes.shared_memory(below)
        # The launcher itself, where it has started no rank yet.
        hits = [processes.kill(pid) for pid in targets or [job.pid]]
        if not any(hits):
            return False, []
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(GONE_WITHIN)
        left = processes.wait_until_gone(below, GONE_WITHIN)
        for path in memory:
            path.unlink(missing_ok=True)
        return True, left

    def _judge(self, out: Path) -> str:
        try:
            different = small_job.differences(self._expected, small_job.results(out))
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        left = small_job.leftovers(out)
        return "; ".join([*(f"{name} differs" for name in different), *(f"{name} is left" for name in left)])

    def _output(self) -> str:
        return (self._folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-2000:]


def _saved(out: Path) -> int:
    """Return when the last checkpoint was written; 0 if there is none."""
    try:
        return (out / run_folder.LAST).stat().st_mtime_ns
    except OSError:
        return 0


def run(size: int, seed: int, folder: Path) -> Tally:
    """Kill and resume ``size`` runs."""
    campaign = Campaign(folder, seed)
    for number in range(size):
        campaign.attempt(number)
    return campaign.tally
