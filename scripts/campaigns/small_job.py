"""One small training run and what must be the same however it was interrupted; for campaigns that interrupt it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import small_run

from lenet_mp.parallel.launch import Launcher, find_launcher
from lenet_mp.training import checkpoint, run_folder

CHECKOUT = Path(__file__).resolve().parents[2]
OPEN_MPI_PYTHON = CHECKOUT / ".venv-openmpi" / "bin" / "python"
ALONE = "alone"
TIMES = ("seconds", "images_per_second")
"""Columns of metrics.csv that tell how fast it was: no two runs have the same."""
TIME_LIMIT = 280.0


@dataclass(frozen=True)
class Place:
    """How a process group is started: with which Python, under which launcher.

    Attributes
    ----------
    mpi : str
        ``alone`` or the launcher's family.
    ranks : int
        1 if alone.
    """

    mpi: str
    ranks: int
    python: str
    launcher: Launcher | None

    def start(self, arguments: list[str], folder: Path) -> subprocess.Popen[str]:
        """Start ``python ARGUMENTS`` in ``folder``; its output goes to ``output.txt``, its scratch files to ``tmp``."""
        scratch = folder / "tmp"
        scratch.mkdir(exist_ok=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "LENET_MP_"))}
        environment = clean | {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
        command = [self.python, *arguments]
        if self.launcher:
            command, environment = self.launcher.command(self.ranks, command), self.launcher.environment(environment)
        with (folder / "output.txt").open("w", encoding="utf-8") as output:
            return subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True
            )


def places(ranks: tuple[int, ...]) -> list[Place]:
    """Return every way to start on these numbers of ranks: alone, and under the MPIs of the checkout."""
    pythons = [sys.executable, *([str(OPEN_MPI_PYTHON)] if OPEN_MPI_PYTHON.exists() else [])]
    found = [Place(ALONE, 1, sys.executable, None)] if 1 in ranks else []
    for python in pythons:
        launcher = find_launcher(python)
        if launcher and launcher.path.parent == Path(python).parent:
            found += [Place(launcher.family, count, python, launcher) for count in ranks if count > 1]
    return found


def prepare(folder: Path) -> None:
    """Write data set and model into ``folder``."""
    small_run.write_data(folder / "data")
    (folder / "small.toml").write_text(small_run.MODEL, encoding="utf-8")


def arguments(place: Path, out: Path, *more: str) -> list[str]:
    """Return the arguments of Python that train a few steps, saving after each; ``more`` wins."""
    options = ["--data", str(place / "data"), "--model", str(place / "small.toml"), "--out", str(out)]
    options += ["--epochs", "2", "--batch-size", "8", "--lr", "1e-3", "--progress", "off", "--save-every", "0.001s"]
    return ["-m", "lenet_mp.train", *options, "--resume", "auto", *more]


def results(run: Path) -> dict[str, object]:
    """Return all that a finished run found out, by name: no times, no log, no report, which shows times.

    Checkpoints by their arrays, place and figures; ``metrics.csv`` without its columns of times; the test scores, the
    options and all pictures as bytes.
    """
    found: dict[str, object] = {}
    for name in (run_folder.LAST, run_folder.BEST):
        state = checkpoint.load(run / name)
        found |= {f"{name} {key}": array.tobytes() for key, array in state.arrays.items()}
        found[f"{name} place"] = (state.epoch, state.step, state.counts)
        found[f"{name} figures"] = [without_times(row) for row in state.history]
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        found["metrics.csv"] = [without_times(row) for row in csv.DictReader(file)]
    found["test.json"] = json.loads((run / "test.json").read_text(encoding="utf-8"))
    found["config.toml"] = (run / "config.toml").read_bytes()
    for picture in sorted(run.rglob("*.png")):
        found[str(picture.relative_to(run))] = picture.read_bytes()
    return found


def without_times(row: dict[str, object]) -> dict[str, object]:
    """Return a row of figures without what depends on the machine's speed."""
    return {key: value for key, value in row.items() if key not in TIMES}


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """Return the names of results that differ, are missing, or should not be there."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def leftovers(run: Path) -> list[str]:
    """Return the files of ``run`` that a finished run must not leave."""
    return [str(path.relative_to(run)) for path in run.rglob(".*") if path.name != ".lock"]
