"""Signal training runs at random times: the checkpoint must hold every step that was worked, the exit code be right.

Each attempt is a run on 1 to 8 ranks that gets SIGTERM, SIGUSR1 or SIGINT, sent to its launcher or to one of its ranks
at any moment after its first step: in a step, an evaluation, a checkpoint. Within an epoch nothing is saved but for the
signal. Open MPI's launcher ends its ranks half a second after SIGTERM and SIGINT, so it gets SIGUSR1 alone.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaigns import processes, small_job
from campaigns.tally import Tally

from lenet_mp.errors import LenetError
from lenet_mp.parallel.launch import OPEN_MPI
from lenet_mp.training import checkpoint, run_folder

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns.small_job import Place

SMALL, FULL = 3, 100
RANKS = (1, 2, 3, 4, 5, 8)
CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130}
LATEST = 1.5
"""Seconds from the first step to the signal, at most: many epochs."""
TIME_LIMIT = 120.0
AT_ONCE = 2
PAUSE = 0.002
STEPS, ENDLESS = "steps.txt", "100000"
TRAIN = f"""
import sys
from lenet_mp.training.recorder import RunRecorder
RunRecorder.draw_curves = RunRecorder._save_feature_maps = lambda *_: None  # seconds, on a busy machine
show = RunRecorder.step_done
def step_done(self, trainer):
    with open({STEPS!r}, "a") as file:
        print(trainer.epoch, trainer.step, file=file)
    show(self, trainer)
RunRecorder.step_done = step_done
from lenet_mp.train import main
raise SystemExit(main(sys.argv[1:]))
"""
"""Rank 0 writes down every step that all ranks have worked."""


@dataclass(frozen=True)
class Attempt:
    """A run, the signal that it gets, and when.

    Attributes
    ----------
    place : Place
    number : signal.Signals
    rank : int or None
        None for the launcher, or for the process of a run without one.
    after : float
        Seconds from its first step.
    """

    place: Place
    number: signal.Signals
    rank: int | None
    after: float

    def __str__(self) -> str:
        target = "the launcher" if self.rank is None else f"rank {self.rank}"
        return f"{self.number.name} to {target} of {self.place.ranks}, {self.place.mpi}, after {self.after:.3f} s"


def draw(chance: random.Random, places: list[Place]) -> Attempt:
    """Draw an attempt."""
    place = chance.choice(places)
    ranks = [None, chance.randrange(place.ranks)] if place.launcher else [None]
    rank = chance.choice(ranks)
    numbers = [signal.SIGUSR1] if place.mpi == OPEN_MPI and rank is None else list(CODES)
    return Attempt(place, chance.choice(numbers), rank, chance.uniform(0, LATEST))


def carry_out(attempt: Attempt, data: Path, folder: Path) -> str:
    """Train in ``folder`` on what lies in ``data``, and signal; return what was wrong."""
    folder.mkdir()
    options = small_job.arguments(data, folder / "run", "--epochs", ENDLESS, "--save-every", "0", "--lr", "1e-5")[2:]
    job = attempt.place.start(["-c", TRAIN, *options], folder)
    below: list[int] = []
    try:
        while not (folder / STEPS).exists():
            if job.poll() is not None:
                return "ends before its first step"
            time.sleep(PAUSE)
        below = processes.descendants(job.pid)
        target = job.pid if attempt.rank is None else processes.ranks(job.pid)[attempt.rank]
        time.sleep(attempt.after)
        os.kill(target, attempt.number)
        code = job.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return "goes on"
    finally:
        for pid in [job.pid, *below]:
            processes.kill(pid)
        job.wait()
    return _judge(attempt, code, folder)


def _judge(attempt: Attempt, code: int, folder: Path) -> str:
    """Return what is wrong with the end of a run."""
    if code != CODES[attempt.number]:
        return f"exit code {code}, not {CODES[attempt.number]}"
    worked = tuple(map(int, (folder / STEPS).read_text(encoding="utf-8").splitlines()[-1].split()))
    try:
        saved = checkpoint.load(folder / "run" / run_folder.LAST)
    except LenetError as error:
        return str(error)
    left = small_job.leftovers(folder / "run")
    if (saved.epoch, saved.step) != worked:
        return f"epoch and step {(saved.epoch, saved.step)} were saved, {worked} worked"
    return f"{left} are left" if left else ""


def run(size: int, seed: int, folder: Path) -> Tally:
    """Signal ``size`` runs, two at once."""
    tally, places = Tally(), small_job.places(RANKS)
    small_job.prepare(folder)
    attempts = [draw(random.Random(f"{seed}-{number}"), places) for number in range(size)]

    def try_it(number: int) -> str:
        place = folder / str(number)
        wrong = carry_out(attempts[number], folder, place)
        said = (place / "output.txt").read_text(encoding="utf-8", errors="replace")[-1500:]
        return wrong and f"attempt {number} of seed {seed}: {attempts[number]}: {wrong}\n{said}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, wrong in enumerate(pool.map(try_it, range(size))):
            tally.attempt(wrong)
            tally.count(attempts[number].number.name)
            tally.count("of a rank" if attempts[number].rank is not None else "of the launcher or a lone process")
    return tally
