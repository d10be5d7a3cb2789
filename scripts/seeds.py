"""Train the same network from several seeds; print the accuracies of each, their mean and spread.

    python scripts/seeds.py --seeds 5 --out runs/seeds -- --data data/ --model 2 --recipe modern

What follows "--" are options of 'lenet-mp train'. Every run has a folder of its own in --out; the same command goes on
after an interruption. Figures are of the best weights by validation accuracy, or of the last ones without validation.
The spread is the sample standard deviation: how far a single run lies from the mean, not how well the mean is known.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """Accuracies of one run as shares 0..1, its epochs and their seconds; validation is None where there was none."""

    validation: float | None
    test: float
    epochs: int
    seconds: float


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (3)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the run folders go")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="of 'lenet-mp train'")
    return parser.parse_args()


def train(folder: Path, seed: int, options: list[str]) -> Outcome:
    """Train, or go on with, the run of one seed; return what came of it."""
    if not (folder / "test.json").is_file():
        command = [sys.executable, "-m", "lenet_mp.train", *options, "--seed", str(seed), "--out", str(folder)]
        result = subprocess.run([*command, "--resume", "auto"], stdout=sys.stderr, check=False)
        if result.returncode:
            raise SystemExit(result.returncode)
    if not (folder / "test.json").is_file():
        raise SystemExit(f"{folder} has no test.json: the data set has no test split")
    return read(folder)


def read(folder: Path) -> Outcome:
    """Read a finished run's folder."""
    scores = json.loads((folder / "test.json").read_text())
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    validation = [float(row["val_top1"]) for row in rows if row["val_top1"]]
    seconds = sum(float(row["seconds"]) for row in rows)
    return Outcome(max(validation, default=None), scores.get("best", scores["last"])["top1"], len(rows), seconds)


def summary(shares: list[float]) -> str:
    """Mean and spread of accuracies, in percent."""
    spread = f", standard deviation {statistics.stdev(shares):.2%}" if len(shares) > 1 else ""
    return f"mean {statistics.mean(shares):.2%}{spread}, {min(shares):.2%} to {max(shares):.2%}"


def main() -> None:
    """Train all, print the table."""
    args = parse()
    if args.seeds < 1:
        raise SystemExit("--seeds must be 1 or more")
    outcomes = [train(args.out / f"seed-{seed}", seed, args.options) for seed in range(args.seeds)]
    print("seed  validation    test  epochs  seconds")
    for seed, found in enumerate(outcomes):
        validation = "-" if found.validation is None else f"{found.validation:.2%}"
        print(f"{seed:4}  {validation:>10}  {found.test:6.2%}  {found.epochs:6}  {found.seconds:7.1f}")
    print(f"test: {summary([found.test for found in outcomes])}")


if __name__ == "__main__":
    main()
