"""``lenet-mp scale``: how training speed grows with ranks and threads on this machine, why no more, and beyond it.

It trains for a few steps on every setup, in mpirun's processes, setups taking turns, and times the parts of each step.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import cli, files, tables
from lenet_mp.errors import UsageError
from lenet_mp.networks.model_files import find_model
from lenet_mp.parallel import threads
from lenet_mp.parallel.launch import find_launcher
from lenet_mp.scalability import scale_files
from lenet_mp.scalability.prediction import Cluster
from lenet_mp.scalability.scale_report import Report
from lenet_mp.scalability.scale_runs import Course, measure, write_noise
from lenet_mp.scalability.scaling import Setup
from lenet_mp.training import run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.parallel.launch import Launcher

RUNS = Path("runs")
STEPS, ROUNDS = 8, 7
QUICK_STEPS, QUICK_ROUNDS = 4, 3
EPILOG = """\
examples:
  lenet-mp scale --quick
  lenet-mp scale --model 2 --batch-size 1000 --out scaling
  lenet-mp scale --ranks 1,2,4 --threads 1 --latency 2 --bandwidth 100

Writes steps.csv, allreduce.csv, prediction.csv, scale.png and report.txt, which
is also printed.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "scale",
        usage="lenet-mp scale [OPTION...]",
        description="Measure strong and weak scaling over ranks x threads, name the bottleneck,\n"
        "predict clusters.",
        epilog=EPILOG,
    )
    parser.add_argument("--model", default="1", metavar="NAME", help="1, 2, lenet5 or a .toml file (default: 1)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="shards (default: noise of the model's image size)")
    parser.add_argument("--batch-size", type=_number, default=500, metavar="N", help="samples a step (default: 500)")
    parser.add_argument("--ranks", type=_numbers, metavar="N,...", help="ranks to try (default: up to the cores)")
    parser.add_argument("--threads", type=_numbers, metavar="N,...", help="threads to try (default: up to the cores)")
    parser.add_argument("--steps", type=_number, metavar="N", help=f"timed steps a run (default: {STEPS})")
    parser.add_argument("--rounds", type=_number, metavar="N", help=f"runs of each setup (default: {ROUNDS})")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of {QUICK_STEPS} steps: a first look"
    )
    parser.add_argument(
        "--latency", type=_positive, default=25.0, metavar="US", help="cluster: microseconds a message (default: 25)"
    )
    parser.add_argument(
        "--bandwidth", type=_positive, default=10.0, metavar="GBIT", help="cluster: Gbit/s of a link (default: 10)"
    )
    parser.add_argument(
        "--disk", type=_positive, metavar="MB", help="cluster: MB/s of a node's disk (default: shards lie in memory)"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="for the files (default: a new one in runs/)")
    return parser


@cli.command("scale")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the report, write the files; return 0."""
    options = build_parser().parse_args(argv)
    if options.data and not options.data.is_dir():
        raise UsageError(f"{options.data}: no such folder; leave --data out to measure on noise")
    out = _make_out(options.out)
    launcher, cores = find_launcher(), threads.cores()
    setups = choose_setups(cores, options.batch_size, launcher, options.ranks, options.threads)
    steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    with tempfile.TemporaryDirectory(prefix="lenet-mp-scale-") as folder:
        data = options.data
        if data is None:
            largest = max(setup.batch_size for setup in setups)
            # All steps of the strong series in one epoch; of the largest weak one at least some, to save disk.
            samples = max((steps + 3) * options.batch_size, 4 * largest)
            data = write_noise(Path(folder), find_model(options.model), samples)
        course = Course(options.model, data.resolve(), steps, rounds, launcher)
        measured = measure(course, setups)
    disk = (options.disk or 0) * 1e6
    cluster = Cluster(options.latency * 1e-6, options.bandwidth * 1e9 / 8, disk)
    report = Report(course, options.batch_size, cores, measured, cluster)
    text = report.text()
    tables.print_text([text])
    scale_files.write(report, text, out)
    tables.print_text([f"\nwritten: {out} (steps.csv, allreduce.csv, prediction.csv, scale.png, report.txt)\n"])
    return 0


def choose_setups(
    cores: int,
    batch_size: int,
    launcher: Launcher | None,
    ranks: Sequence[int] | None = None,
    thread_counts: Sequence[int] | None = None,
) -> list[Setup]:
    """Return what to measure: strong scaling at ``batch_size``, and weak scaling with as much for every core.

    Unless lists of ranks or threads are given: for 1, 2, 4, ... and all cores, all as ranks, all as threads, and a
    mixture. Without a launcher there is only one rank.
    """
    if ranks or thread_counts:
        pairs = [(r, t) for r in ranks or [1] for t in thread_counts or [1]]
    else:
        totals = sorted({2**power for power in range(cores.bit_length())} | {cores})
        pairs = [pair for total in totals for pair in _splits(total)]
    if launcher is None:
        if ranks and max(ranks) > 1:
            raise UsageError("--ranks needs an mpirun: pip install 'lenet-mp[mpi]', or load your site's MPI module")
        pairs = [(r, t) for r, t in pairs if r == 1]
    pairs = list(dict.fromkeys([(1, 1), *pairs]))  # one core is what all others are compared with
    strong = [Setup(r, t, batch_size) for r, t in pairs]
    weak = [Setup(r, t, batch_size * r * t) for r, t in pairs if r * t <= cores]
    return list(dict.fromkeys([*strong, *weak]))


def _splits(total: int) -> list[tuple[int, int]]:
    """Return (ranks, threads) of ``total`` cores: all ranks, about as many of both, all threads."""
    middle = next(ranks for ranks in range(int(total**0.5), 0, -1) if total % ranks == 0)
    return [(total, 1), (middle, total // middle), (1, total)]


def _make_out(chosen: Path | None) -> Path:
    if chosen and chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        raise UsageError(f"{chosen} exists already: choose another --out")
    return files.make_folder(chosen or run_folder.make_new(RUNS, "scale"))


def _number(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000_000:  # noqa: PLR2004 - the largest batch
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to 1,000,000")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",")]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:  # noqa: PLR2004 - not infinite, nor NaN
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
