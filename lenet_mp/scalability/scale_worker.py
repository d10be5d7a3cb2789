"""What ``lenet-mp scale`` starts on every rank: a few steps of a real training run, and allreduces, timed.

``python -m lenet_mp.scalability.scale_worker --data FOLDER ...`` under mpirun or alone; rank 0 prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.data.shards import open_dataset
from lenet_mp.errors import UsageError
from lenet_mp.networks.model_files import find_model
from lenet_mp.networks.network import compile_network
from lenet_mp.parallel import comm, threads
from lenet_mp.parallel.last_words import ending_together
from lenet_mp.training.config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.parallel.comm import Comm
    from lenet_mp.training.evaluation import Scores
    from lenet_mp.training.trainer import Trainer

MESSAGE_SIZES = tuple(8 * 4**power for power in range(10))
"""Bytes, 8 to 2 Mi: eight of them are one int64, a step's message is between the largest two."""
MESSAGE_ROUNDS = 12
CALLS_A_ROUND = 8
RATE = "1e-9"
"""Learning rate: the images are noise, and the weights should stay where they are."""
WARM_UP = 2
EPOCHS = 1000
"""More than the steps need: the stopwatch ends the training."""


class EnoughSteps(Exception):  # noqa: N818 - no error: the run is not wanted any longer
    """As many steps as were asked for are timed."""


class Stopwatch:
    """Notes, of each step, its seconds and those of some calls in it; stops the training when it has enough.

    It is the run's recorder. An epoch's first step is left out: what went before it is no step.

    Attributes
    ----------
    steps : list of dict
        Seconds by the name of the call, and of the whole ``step``; under the name with ``cpu`` behind it, those that
        the call's threads were running.
    message_bytes : int
        Size of the array of the last allreduce.
    """

    def __init__(self, trainer: Trainer, wanted: int) -> None:
        self.steps: list[dict[str, float]] = []
        self.message_bytes = 0
        self._wanted = wanted
        self._calls: dict[str, float] = defaultdict(float)
        self._last: float | None = None
        self._seen = 0
        self._time("compute", trainer.plan, "step")
        self._time("turn", trainer.comm, "wait_for_turn")
        self._time("allreduce", trainer.comm, "allreduce")
        self._time("update", trainer.descent, "update")

    def step_done(self, _trainer: Trainer) -> None:
        """Note the step; raise :class:`EnoughSteps` after the last one."""
        now = time.perf_counter()
        self._seen += 1
        if self._last is not None and self._seen > WARM_UP:
            self.steps.append({"step": now - self._last, **self._calls})
        self._last = now
        self._calls.clear()
        if len(self.steps) == self._wanted:
            raise EnoughSteps

    def steps_done(self, _trainer: Trainer) -> None:
        """Do nothing."""

    def epoch_done(self, _trainer: Trainer) -> None:
        """Forget the time: the next step begins later."""
        self._last = None

    def stopped(self, trainer: Trainer) -> None:
        """Do nothing: the figures of an interrupted run are of no use."""

    def timed(self, trainer: Trainer, *, show: bool) -> None:
        """Do nothing: the times are taken here."""

    def best_weights(self) -> None:
        """Keep none."""

    def tested(self, trainer: Trainer, results: dict[str, Scores]) -> None:
        """Do nothing: there is no test."""

    def _time(self, name: str, owner: object, method: str) -> None:
        """Let every call of ``owner.method`` add its time under ``name``."""
        call = getattr(owner, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            if name == "allreduce":
                self.message_bytes = arguments[0].nbytes
            start, worked = time.perf_counter(), time.process_time()
            result = call(*arguments, **options)
            self._calls[name] += time.perf_counter() - start
            self._calls[f"{name} cpu"] += time.process_time() - worked
            return result

        setattr(owner, method, timed)


def time_steps(world: Comm, options: argparse.Namespace) -> dict[str, Any]:
    """Train for some steps and return rank means by step; the time in an allreduce is parted into waiting and it."""
    from lenet_mp.training.trainer import Trainer  # noqa: PLC0415 - loads the engine, which fixes the threads' waiting

    dataset = replace(open_dataset(options.data), validation=None, test=None)
    network = compile_network(find_model(options.model), dataset.image_shape, dataset.classes)
    config = Config(
        model=options.model, data=str(options.data), batch_size=options.batch_size, streams=options.streams,
        lr=RATE, epochs=EPOCHS, train_accuracy="running",
    )  # fmt: skip
    trainer = Trainer(config, network, dataset, world, options.threads)
    if trainer.loader.steps == 1:
        raise UsageError(
            f"{options.data} has {trainer.loader.samples} samples, too few for timing steps of {options.batch_size}: "
            "choose a smaller --batch-size"
        )
    watch = Stopwatch(trainer, options.steps)
    with contextlib.suppress(EnoughSteps):
        trainer.fit(watch)
    names = ("step", "compute", "turn", "allreduce", "update", "compute cpu")
    mine = np.array([[step.get(name, 0.0) for name in names] for step in watch.steps])
    ranks = np.stack(world.gather(mine))
    mean, quickest = ranks.mean(axis=0), ranks.min(axis=0)
    reduced = quickest[:, names.index("allreduce")]
    columns = dict(zip(names, mean.T, strict=True))
    columns |= {"waiting": columns.pop("turn") + columns["allreduce"] - reduced, "allreduce": reduced}
    figures: dict[str, Any] = {name: values.tolist() for name, values in columns.items()}
    image_bytes = int(np.prod(dataset.image_shape))
    return figures | {"isa": trainer.plan.isa, "message_bytes": watch.message_bytes, "image_bytes": image_bytes}


def time_messages(world: Comm) -> dict[str, list[float]]:
    """Return, by size in bytes, the seconds of allreduces: one value a round, sizes taking turns."""
    buffers = {size: np.zeros(size // 8, np.int64) for size in MESSAGE_SIZES}
    seconds: dict[str, list[float]] = {str(size): [] for size in MESSAGE_SIZES}
    for _ in range(MESSAGE_ROUNDS + 1):
        for size, buffer in buffers.items():
            world.allreduce(buffer)
            start = time.perf_counter()
            for _ in range(CALLS_A_ROUND):
                world.allreduce(buffer)
            seconds[str(size)].append((time.perf_counter() - start) / CALLS_A_ROUND)
    return {size: values[1:] for size, values in seconds.items()}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the caller is a program."""
    parser = argparse.ArgumentParser(prog="lenet_mp.scalability.scale_worker", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--messages", action="store_true", help="time allreduces of many sizes instead of steps")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    world = comm.connect()
    with ending_together(world, "lenet-mp scale"):
        options = build_parser().parse_args(argv)
        options.threads = threads.choose(world)
        figures = time_messages(world) if options.messages else time_steps(world, options)
        if world.rank == 0:
            print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
