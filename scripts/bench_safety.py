"""Measure what safety costs: training with everything that keeps a run safe, against the same run without.

    python scripts/bench_safety.py [--images 5000] [--epochs 5] [--rounds 5] [--ranks 2] [--model 1]

With: a checkpoint after the last step and at the end of every epoch (SHA-256, fsync, the one before kept), every
file on the disk before it takes its place, the watchdog, the comparison of jobs, the XXH3 of every shard at its first
touch, a look at the shards before and after every epoch. Without: none of these. What is part of the step, such as its
number in each sum over the ranks and the look for weights that are not finite, is in both. Runs take turns, the order
changes every round; the figure is the median over the rounds of the ratio of their times for an epoch.

It is a benchmark and no campaign: a ratio of times says little where other programs run, and so must not fail a test.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

import small_data  # noqa: E402 - from tests/, found by the line above

from lenet_mp.parallel.launch import find_launcher  # noqa: E402

SHARD = 500
TIMED = """
import sys, time
from lenet_mp import train
from lenet_mp.training.trainer import Trainer
if {unsafe}:
    from lenet_mp import files
    from lenet_mp.data.seals import Seal
    from lenet_mp.data.shards import Dataset
    from lenet_mp.parallel import agreement
    from lenet_mp.training.saving import Saving
    files._flush = lambda *_: None
    Dataset.check_unchanged = lambda _: None
    Seal.check = lambda *_: None
    Saving.save = lambda *_, **__: None
    agreement.check_job = lambda *_: None
    sys.argv += ["--timeout", "0"]
fit = Trainer.fit
def timed(self, *arguments, **options):
    start = time.perf_counter()
    code = fit(self, *arguments, **options)
    print("seconds", (time.perf_counter() - start) / self.config.epochs, flush=True)
    return code
Trainer.fit = timed
raise SystemExit(train.main())
"""


def epoch_seconds(data: Path, args: argparse.Namespace, folder: Path, *, unsafe: bool) -> float:
    """Train once and return the seconds of an epoch."""
    command = [sys.executable, "-c", TIMED.format(unsafe=unsafe), "--data", str(data), "--model", args.model]
    command += ["--epochs", str(args.epochs), "--batch-size", str(args.batch_size), "--progress", "off"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    launcher = find_launcher() if args.ranks > 1 else None
    if launcher:
        command, environment = launcher.command(args.ranks, command), launcher.environment(environment)
    elif args.ranks > 1:
        raise SystemExit("there is no mpirun here: pip install 'lenet-mp[mpi]', or --ranks 1")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command += ["--out", str(Path(out) / "run")]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"training failed:\n{done.stdout}{done.stderr}")
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("seconds "))


def summarise(safe: list[float], unsafe: list[float]) -> dict[str, float]:
    """Return the median times, and median, lowest and highest share that safety adds to a round's epoch."""
    added = [with_all / without - 1 for with_all, without in zip(safe, unsafe, strict=True)]
    return {
        "safe": statistics.median(safe),
        "unsafe": statistics.median(unsafe),
        "added": statistics.median(added),
        "lowest": min(added),
        "highest": max(added),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the rounds and print the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 5000), ("epochs", 5), ("rounds", 5), ("ranks", 2), ("batch-size", 500)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument("--size", type=int, default=250, help="pixels of an image's side (default 250)")
    parser.add_argument("--model", default="1", help="(default 1)")
    args = parser.parse_args(arguments)
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        counts = [min(SHARD, args.images - first) for first in range(0, args.images, SHARD)]
        data = small_data.write_data_set(Path(folder) / "data", counts, size=args.size)
        epoch_seconds(data, args, Path(folder), unsafe=True)  # fills the page cache
        for number in range(args.rounds):
            for unsafe in (False, True) if number % 2 else (True, False):
                times[unsafe].append(epoch_seconds(data, args, Path(folder), unsafe=unsafe))
    figures = summarise(times[False], times[True])
    print(
        f"{args.images:,} images, model {args.model}, {args.ranks} ranks: an epoch takes {figures['safe']:.3f} s with "
        f"all safety, {figures['unsafe']:.3f} s without: {figures['added']:+.1%} "
        f"(median of {args.rounds} rounds; {figures['lowest']:+.1%} to {figures['highest']:+.1%})"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
