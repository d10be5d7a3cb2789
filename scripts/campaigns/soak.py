"""Train on two ranks for as long as it is told: memory, descriptors, threads and scratch files must not grow.

The size is in units of three seconds, counted from the end of the twentieth epoch, when every part of an epoch has
run, all libraries are loaded and the allocator has what it needs. Epochs take a fraction of a second and hold steps,
checkpoints within, validation, training accuracy, curves and checkpoints; at the end the job is told to terminate and
must leave a checkpoint and nothing else.

What must not grow is compared by its least value in the second and in the last quarter of the time: files that are
open, or memory that is used, for a moment raise no minimum; what is never given back does. Descriptors, threads, files
of /dev/shm and of the scratch folder may not grow at all. Memory may, by 8 MiB, the pixels of three drawings, which
Python frees when its collector of cycles comes to them, and by 2 KiB an epoch, because a run keeps the figures of
every epoch: a row of ten numbers takes 0.7 KiB as Python keeps it, and 0.2 KiB in each text that is made of them. A
picture, an image or a checkpoint that stays behind in every epoch takes more.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from campaigns import processes, small_job
from campaigns.tally import Tally

from lenet_mp.training import checkpoint, run_folder

if TYPE_CHECKING:
    from pathlib import Path

SMALL, FULL = 1, 1200
UNIT = 3.0
WARM_EPOCHS = 20
RANKS = 2
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
START_LIMIT, END_LIMIT = 240.0, 240.0
TERMINATED = 143
DRAWINGS, GROWTH_EPOCH = 8 << 20, 2048
RESIDENT = "resident bytes"

Sample = dict[str, int]


def run(size: int, seed: int, folder: Path) -> Tally:
    """Train and watch for ``size`` times three seconds."""
    launched = [place for place in small_job.places((RANKS,)) if place.launcher]
    if not launched:
        return Tally(skipped="there is no mpirun here: pip install 'lenet-mp[mpi]'")
    tally = Tally()
    small_job.prepare(folder)
    out = folder / "run"
    options = ("--epochs", "1000000", "--save-every", "1s", "--check-ranks", "10", "--seed", str(seed))
    job = launched[0].start(small_job.arguments(folder, out, *options), folder)
    try:
        failure = _soak(job, out, size * UNIT, folder / "tmp", tally)
    finally:
        job.kill()
    if failure:
        output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        failure += f"\n{output[-2000:]}"
    tally.attempt(failure)
    return tally


def _soak(job: subprocess.Popen[str], out: Path, seconds: float, scratch: Path, tally: Tally) -> str:
    """Watch a job, end it and return what was wrong."""
    if not _wait_for_epoch(job, out, WARM_EPOCHS):
        return f"no {WARM_EPOCHS} epochs in {START_LIMIT:.0f} s"
    ranks = processes.ranks(job.pid)
    epochs, samples = [_epochs(out)], []
    pause = min(max(seconds / 400, SHORTEST_PAUSE), LONGEST_PAUSE)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append({key: value for n, pid in sorted(ranks.items()) for key, value in _look(n, pid).items()})
        samples[-1]["files of the scratch folder"] = sum(1 for _ in scratch.rglob("*"))
        epochs.append(_epochs(out))
        if job.poll() is not None:
            return f"ended by itself with exit code {job.returncode}"
        time.sleep(pause)
    memory = processes.shared_memory(list(ranks.values()))
    job.terminate()
    tally.count("epochs", epochs[-1])
    wrong = _growth(samples, epochs, tally)
    try:
        code = job.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        return "; ".join([*wrong, f"goes on {END_LIMIT:.0f} s after SIGTERM"])
    wrong += [] if code == TERMINATED else [f"exit code {code}"]
    wrong += [f"processes {left} are left"] if (left := processes.wait_until_gone(list(ranks.values()), 2)) else []
    wrong += [f"{path} is left" for path in sorted(memory) if path.exists()]
    wrong += [f"{name} is left" for name in small_job.leftovers(out)]
    checkpoint.load(out / run_folder.LAST)
    return "; ".join(wrong)


def _growth(samples: list[Sample], epochs: list[int], tally: Tally) -> list[str]:
    """Return what has grown from the second quarter to the last; count it."""
    quarter = len(samples) // 4
    grown = []
    for name in samples[0]:
        before = min(sample[name] for sample in samples[quarter : 2 * quarter])
        after = min(sample[name] for sample in samples[3 * quarter :])
        allowed = 0
        if name.endswith(RESIDENT):
            allowed = DRAWINGS + GROWTH_EPOCH * (epochs[-1] - epochs[quarter])
            rank = name.removesuffix(f" {RESIDENT}")
            tally.count(f"{rank}: KiB", before >> 10)
            tally.count(f"{rank}: KiB more at the end", (after - before) >> 10)
        if after - before > allowed:
            grown.append(f"{name}: {before:,}, later {after:,}")
    return grown


def _look(number: int, pid: int) -> Sample:
    """Return what a rank holds now."""
    process = processes.PROC / str(pid)
    resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        f"rank {number} {RESIDENT}": resident,
        f"rank {number} descriptors": sum(1 for _ in (process / "fd").iterdir()),
        f"rank {number} threads": sum(1 for _ in (process / "task").iterdir()),
        f"rank {number} files of /dev/shm": len(processes.shared_memory([pid])),
    }


def _wait_for_epoch(job: subprocess.Popen[str], out: Path, epoch: int) -> bool:
    deadline = time.monotonic() + START_LIMIT
    while _epochs(out) < epoch:
        if job.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _epochs(out: Path) -> int:
    """Return how many epochs are finished."""
    try:
        return (out / "metrics.csv").read_bytes().count(b"\n") - 1
    except OSError:
        return 0
