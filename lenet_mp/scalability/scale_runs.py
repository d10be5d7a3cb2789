"""Starting the runs of ``lenet-mp scale`` one after the other, and collecting their times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.errors import LenetError
from lenet_mp.plan import GROUP_SIZE
from lenet_mp.progress import Progress
from lenet_mp.scalability.scaling import ALLREDUCE, COMPUTE, PARTS, REST, UPDATE, WAITING, Result, Setup
from lenet_mp.training.loader import default_streams

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lenet_mp.networks.models import Model
    from lenet_mp.parallel.launch import Launcher

TIME_LIMIT = 1800.0
SHARD, DIFFERENT_SHARDS = 256, 4
"""Samples of a file of noise, and files of different noise; all others are the same files under other names."""
_NAMES = {COMPUTE: "compute", WAITING: "waiting", ALLREDUCE: "allreduce", UPDATE: "update"}


@dataclass(frozen=True)
class Course:
    """What every run trains, how long, and what starts it.

    Attributes
    ----------
    model : str
    data : Path
    steps, rounds : int
        Timed steps of a run, and runs of each setup.
    launcher : Launcher or None
    """

    model: str
    data: Path
    steps: int
    rounds: int
    launcher: Launcher | None


@dataclass(frozen=True)
class Measured:
    """All that the runs found.

    Attributes
    ----------
    results : dict
        By setup.
    messages : dict
        Seconds of allreduces (one value a round) by bytes; empty where there was no launcher or only one core.
    message_ranks : int
        Ranks that they were measured on.
    message_bytes, image_bytes : int
        Of a step's allreduce and of a sample.
    isa : str
    """

    results: dict[Setup, Result]
    messages: dict[int, list[float]]
    message_ranks: int
    message_bytes: int
    image_bytes: int
    isa: str


def measure(course: Course, setups: Sequence[Setup]) -> Measured:
    """Run every setup once a round, in an order that turns, so that a busy minute does not hit one setup alone."""
    smallest = min(setup.batch_size for setup in setups)
    most_ranks = max(setup.ranks for setup in setups)
    # With more streams than a step has groups, some ranks would have none of them, whatever their number.
    streams = max(default_streams(smallest), min(most_ranks, smallest // GROUP_SIZE))
    runs: dict[Setup, list[dict[str, Any]]] = {setup: [] for setup in setups}
    progress = Progress(course.rounds * len(setups), "scale", "runs")
    for turn in range(course.rounds):
        start = turn % len(setups)
        for setup in [*setups[start:], *setups[:start]][:: -1 if turn % 2 else 1]:
            runs[setup].append(_run(course, setup, "--streams", str(streams), "--steps", str(course.steps)))
            progress.advance(1)
    ranks = _ranks_for_messages(setups)
    messages = {}
    if ranks > 1:
        found = _run(course, Setup(ranks, 1, 1), "--streams", "1", "--steps", "1", "--messages")
        messages = {int(size): seconds for size, seconds in found.items()}
    progress.close()
    facts = runs[setups[0]][0]
    results = {setup: _result(setup, found) for setup, found in runs.items()}
    return Measured(results, messages, ranks, facts["message_bytes"], facts["image_bytes"], facts["isa"])


def write_noise(folder: Path, model: Model, samples: int) -> Path:
    """Write shards of noise of the model's image size, ``samples`` or a few more; most are links to the first ones."""
    import h5py  # noqa: PLC0415 - only where there is no data

    rng = np.random.default_rng(0)
    shape = (SHARD, *model.input_shape)
    for number in range(-(-samples // SHARD)):
        path = folder / f"{number}.h5"
        if number >= DIFFERENT_SHARDS:
            os.link(folder / f"{number % DIFFERENT_SHARDS}.h5", path)
            continue
        with h5py.File(path, "w") as file:
            file["image_train"] = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
            file["label_train"] = np.arange(SHARD, dtype=np.int32) % model.classes
    return folder


def _ranks_for_messages(setups: Sequence[Setup]) -> int:
    """Return the most ranks of one thread that the weak series measures: it never has more than there are cores."""
    smallest = min(setup.batch_size for setup in setups)
    return max(setup.ranks for setup in setups if setup.batch_size == smallest * setup.cores)


def _run(course: Course, setup: Setup, *options: str) -> dict[str, Any]:
    """Start the worker on a setup and return what it printed."""
    command = [sys.executable, "-m", "lenet_mp.scalability.scale_worker", "--data", str(course.data)]
    command += ["--model", course.model, "--batch-size", str(setup.batch_size), *options]
    environment = dict(os.environ)
    if course.launcher:
        environment = course.launcher.environment(environment)
        if setup.ranks > 1:
            command = course.launcher.command(setup.ranks, command)
    environment |= {"OMP_NUM_THREADS": str(setup.threads)}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, env=environment, stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=TIME_LIMIT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LenetError(f"{setup} (ranks x threads) did not end within {TIME_LIMIT:g} s: try --quick") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise LenetError(
            f"{setup} (ranks x threads) ended with exit code {done.returncode}: {lines[-1]}; 'lenet-mp doctor' may "
            "tell why"
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _result(setup: Setup, runs: list[dict[str, Any]]) -> Result:
    seconds = np.concatenate([run["step"] for run in runs])
    times = {part: np.concatenate([run[name] for run in runs]) for part, name in _NAMES.items()}
    times[REST] = seconds - sum(times.values())
    parts = {part: float(np.median(values)) for part, values in times.items()}
    worked = sum(sum(run["compute cpu"]) for run in runs)
    granted = worked / (setup.threads * sum(sum(run["compute"]) for run in runs))
    return Result(setup, seconds, {part: parts[part] for part in PARTS}, granted)
