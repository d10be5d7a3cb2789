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
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
GONE_WITHIN = 30.0
AT_ONCE = 4
PAUSE = 0.002


@dataclass(frozen=True)
class Kill:
    """What is killed, how long after the start, or after the first checkpoint that the job writes."""

    target: str
    after: float
    once_it_saves: bool


@dataclass
class Outcome:
    """What became of one run: how many kills hit it, what went wrong, and further counts."""

    hits: int = 0
    failure: str = ""
    counts: Counter[str] = field(default_factory=Counter)


class Campaign:
    """Makes attempts in ``folder``.

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
        small_job.prepare(folder)
        start = time.monotonic()
        job = self._places[0].start(small_job.arguments(folder, folder / "run"), folder)
        if job.wait(small_job.TIME_LIMIT):
            raise SystemExit(f"the undisturbed run failed:\n{_said(folder)}")
        self._duration = time.monotonic() - start
        self._expected = small_job.results(folder / "run")

    def attempt(self, number: int) -> Outcome:
        """Disturb and finish one run."""
        for again in range(100):
            name = f"{self._seed}-{number}-{again}"
            place = self._folder / name
            place.mkdir()
            outcome = self._disturb(random.Random(name), place)
            outcome.failure = outcome.failure or self._judge(place / "run")
            shutil.rmtree(place, ignore_errors=True)
            if outcome.hits or outcome.failure:
                return outcome
        raise AssertionError("a hundred runs ended before they could be killed")

    def _disturb(self, chance: random.Random, folder: Path) -> Outcome:
        """Start, kill and resume a run in ``folder`` until it ends."""
        outcome = Outcome()
        for kill in [*(self._draw(chance) for _ in range(chance.randint(1, MOST_KILLS))), None]:
            place = chance.choice(self._places)
            outcome.counts[f"starts {place.mpi}"] += 1
            job = place.start(small_job.arguments(self._folder, folder / "run"), folder)
            hit, left = _strike(kill, place, job, folder / "run", chance) if kill else (False, [])
            try:
                code = job.wait(small_job.TIME_LIMIT)
            except subprocess.TimeoutExpired:
                processes.kill(job.pid)
                code = None
            if code == 0:
                return outcome
            if not hit or left:
                what = f"processes {left} are left after {kill}" if left else f"exit code {code} (None: hangs)"
                outcome.failure = f"{place.ranks} ranks, {place.mpi}: {what}\n{_said(folder)}"
                return outcome
            outcome.hits += 1
            outcome.counts["kills"] += 1
            outcome.counts[f"of {kill.target if place.launcher else LONE}"] += 1
        return outcome

    def _draw(self, chance: random.Random) -> Kill:
        once_it_saves = chance.random() < ONCE_IT_SAVES
        # After the first checkpoint about half of the run is left.
        after = chance.uniform(0, self._duration / (2 if once_it_saves else 1))
        return Kill(chance.choice(TARGETS), after, once_it_saves)

    def _judge(self, run: Path) -> str:
        try:
            different = small_job.differences(self._expected, small_job.results(run))
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        left = small_job.leftovers(run)
        return "; ".join([*(f"{name} differs" for name in different), *(f"{name} is left" for name in left)])


def _strike(
    kill: Kill, place: Place, job: subprocess.Popen[str], run: Path, chance: random.Random
) -> tuple[bool, list[int]]:
    """Carry out a kill; return whether a target was alive, and which processes of the job live on too long."""
    if kill.once_it_saves:
        before = _saved(run)
        while job.poll() is None and _saved(run) == before:
            time.sleep(PAUSE)
    with contextlib.suppress(subprocess.TimeoutExpired):
        job.wait(kill.after)
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


def _saved(run: Path) -> int:
    """Return when the last checkpoint was written; 0 if there is none."""
    try:
        return (run / run_folder.LAST).stat().st_mtime_ns
    except OSError:
        return 0


def _said(folder: Path) -> str:
    return (folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-2000:]


def run(size: int, seed: int, folder: Path) -> Tally:
    """Kill and resume ``size`` runs, some at once: each waits most of its time."""
    campaign, tally = Campaign(folder, seed), Tally()
    for name in ("kills", *(f"of {target}" for target in (*TARGETS, LONE)), *STARTS):
        tally.count(name, 0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, outcome in enumerate(pool.map(campaign.attempt, range(size))):
            told = f"run {number} of seed {seed} ({outcome.hits} kills): {outcome.failure}"
            tally.attempt(told if outcome.failure else "")
            for name, count in outcome.counts.items():
                tally.count(name, count)
    return tally
