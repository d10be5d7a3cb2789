"""Put NaN, infinities, huge and tiny values, flipped bits and absurd options into a training run.

A case trains a small network for two epochs on one or two ranks, threads of one process with the real trainer, and
does one thing to it: values in the weights or the momentum of one layer, of one rank or all, in the normalisation of
the images, in a rank's totals before they are summed; or a learning rate, momentum or decay that nobody means. However
that goes on, each checkpoint of each step must be finite; where a run fails, every rank must have left before any
finishes another step, with code 76 and a message that names epoch, step and batch; and a value that is not finite must
not survive its step. Every fifth case flips one bit of the weights or the momentum of one rank under --check-ranks N:
it must be found within N steps. One case in 25 is a whole command under ``mpirun -n 2``.
"""

from __future__ import annotations

import random
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import programs
import small_data
from campaigns import rank_threads
from campaigns.numerics_cases import MODELS, OPTIONS, draw
from campaigns.tally import Tally

from lenet_mp.data.shards import open_dataset
from lenet_mp.errors import DivergenceError, PeerError, UsageError
from lenet_mp.networks import model_files
from lenet_mp.networks.network import compile_network
from lenet_mp.training import checkpoint, trainer
from lenet_mp.training.config import Config
from lenet_mp.training.recorder import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns.numerics_cases import Case

    from lenet_mp.training.trainer import Trainer

SMALL, FULL = 40, 1000
BATCH, EPOCHS = 64, 2
NAMED = re.compile(r"epoch (\d+), step (\d+) of \d+: set a lower --lr, or look at its images: rows \d+-\d+ of \d+\.h5")
COMMAND = """
import os, sys
import numpy as np
from lenet_mp.train import main
from lenet_mp.training import trainer
work, (where, layer, value, rank, step) = trainer.Trainer._work, os.environ["WHAT"].split()
def injected(self, stop):
    if self.comm.rank == int(rank) and self.epoch * self.loader.steps + self.step == int(step):
        views = self.network.views({"parameters": self.parameters, "velocity": self.velocity}[where])
        list(views.values())[int(layer) % len(views)].reshape(-1)[0] = np.float32(value)
    return work(self, stop)
trainer.Trainer._work = injected
raise SystemExit(main())
"""


class Watch(Silent):
    """A rank's recorder: does what the case wants after its step, and looks at every checkpoint."""

    def __init__(self, case: Case, steps: list[int]) -> None:
        self.case, self.steps = case, steps

    def before(self, trained: Trainer) -> None:
        """Put the value in place before its step."""
        case, rank = self.case, trained.comm.rank
        if rank not in case.on or self.steps[rank] != case.step:
            return
        name, rng = case.where, random.Random(case.place)
        if name == "bit":
            array = trained.parameters if case.place % 3 else trained.velocity
            array.view(np.uint32)[rng.randrange(array.size)] ^= np.uint32(1 << rng.randrange(32))
        elif name in ("parameters", "velocity"):
            view = rng.choice(list(trained.network.views(getattr(trained, name)).values())).reshape(-1)
            view[rng.randrange(view.size)] = np.float32(case.value)

    def step_done(self, trained: Trainer) -> None:
        """Save as rank 0 would, and read it as a later run would."""
        self.steps[trained.comm.rank] += 1
        self.look(trained)
        self.before(trained)

    def epoch_done(self, trained: Trainer) -> None:
        """Look at the figures too."""
        self.look(trained)

    def look(self, trained: Trainer) -> None:
        """Refuse to go on from a checkpoint that is not finite, or cannot be read."""
        saved = checkpoint.from_bytes(checkpoint.to_bytes(trained.checkpoint()), "a checkpoint of the campaign")
        if not all(np.isfinite(array).all() for array in saved.arrays.values()):
            raise AssertionError("a checkpoint holds values that are not finite")


class Cases:
    """The data set, once for each thread, and the models."""

    def __init__(self, folder: Path) -> None:
        self.data = small_data.write_shards(folder / "data", counts=(50, 50, 45, 37))
        self.datasets = [open_dataset(self.data) for _ in range(2)]
        self.models = {}
        for name, text in MODELS.items():
            path = folder / f"{name}.toml"
            path.write_text(text, "utf-8")
            self.models[name] = path
        self.lock = threading.Lock()

    def make(self, case: Case, comm: rank_threads.RankThread) -> Trainer:
        """Return a rank's trainer, with the normalisation that the case wants."""
        options: dict[str, Any] = {"lr": "0.01", "momentum": 0.9, "weight_decay": 1e-4, "nesterov": case.nesterov}
        if case.where in options:
            options[case.where] = str(case.value) if case.where == "lr" else case.value
        config = Config(data=str(self.data), epochs=EPOCHS, batch_size=BATCH, streams=4, **options)
        dataset = self.datasets[comm.rank]
        model = model_files.find_model(str(self.models[case.model]))
        network = compile_network(model, dataset.image_shape, dataset.classes)
        with self.lock:
            normal = trainer.scale_and_offset(config.normalize)
            hurt = case.where == "pixels" and comm.rank in case.on
            chosen = (float(np.float32(case.value)), normal[1]) if hurt else normal
            given = mock.patch.object(trainer, "scale_and_offset", return_value=chosen)
            with given, mock.patch("lenet_mp.plan.fill", return_value=0):
                made = trainer.Trainer(config, network, dataset, comm, 1)
        if case.where == "totals" and comm.rank in case.on:
            self._hurt_totals(case, made)
        return made

    def _hurt_totals(self, case: Case, made: Trainer) -> None:
        """Flip a high bit of a rank's own sum in one step."""
        step, count = made.plan.step, [0]

        def hurt(*arguments: Any, totals: Any, **others: Any) -> None:
            step(*arguments, totals=totals, **others)
            if count[0] == case.step:
                totals[case.place % made.parameters.size] ^= 1 << (30 + case.place % 32)
            count[0] += 1

        made.plan.step = hurt  # type: ignore[method-assign]

    def failure(self, case: Case) -> tuple[str, str]:
        """Run a case; return what it broke of the promises, or nothing, and how it ended."""
        steps = [0] * case.ranks
        trainers: list[Any] = [None] * case.ranks

        def work(comm: rank_threads.RankThread) -> None:
            made = trainers[comm.rank] = self.make(case, comm)
            watch = Watch(case, steps)
            watch.before(made)
            made.fit(watch, check_ranks=case.check_ranks)

        ends = rank_threads.together(case.ranks, work)
        reasons = [end for end in ends if end and not isinstance(end, rank_threads.Ended)]
        if case.where == "bit":
            return self._unfound(case, steps, reasons, trainers)
        return self._unsafe(case, steps, ends, reasons)

    def _unsafe(self, case: Case, steps: list[int], ends: list[Any], reasons: list[Any]) -> tuple[str, str]:
        if all(isinstance(end, UsageError) for end in ends):
            return ("", "options refused") if case.where in OPTIONS else (f"{case}: {ends}", "")
        if not reasons:
            return (f"{case}: went on" if case.not_finite else ""), "went on"
        if not all(isinstance(reason, DivergenceError) for reason in reasons):
            return f"{case}: {reasons!r}", ""
        # What overflows in one rank's own update is seen by that rank alone: the others end where they wait for it.
        alone = len(case.on) < case.ranks and case.where in ("parameters", "velocity")
        if max(steps) - min(steps) > alone:
            return f"{case}: ranks had finished {steps} steps", ""
        if case.not_finite and min(steps) > (0 if case.where == "pixels" else case.step):
            return f"{case}: found only after {steps} steps", ""
        told = [self._misnamed(steps[rank], reason) for rank, reason in enumerate(ends) if reason in reasons]
        return ("", "left with 76") if not any(told) else (f"{case}: {told}", "")

    def _misnamed(self, steps: int, reason: DivergenceError) -> str:
        """Return a message that does not name its place and batch, of a rank that had finished so many steps."""
        epoch, step = divmod(steps, -(-sum(split.count for split in self.datasets[0].train) // BATCH))
        if f"after {epoch} epochs and {step} steps: nothing is saved" in str(reason):
            return ""
        named = NAMED.search(str(reason))
        return "" if named and (int(named[1]), int(named[2])) == (epoch + 1, step + 1) else str(reason)

    def _unfound(self, case: Case, steps: list[int], reasons: list[Any], trainers: list[Any]) -> tuple[str, str]:
        if not reasons:
            one, two = (made.parameters.tobytes() + made.velocity.tobytes() for made in trainers)
            return (f"{case}: not found" if one != two else ""), "flips that rounding undid"
        if not all(isinstance(reason, (PeerError, DivergenceError)) for reason in reasons):
            return f"{case}: {reasons!r}", ""
        late = max(steps) - case.step > case.check_ranks
        return (f"{case}: found after {steps}" if late else ""), "flips found"

    def command_failure(self, case: Case, folder: Path) -> str:
        """Run ``train`` under mpirun with one value put in; return what it broke."""
        out, script = folder / f"run-{case.number}", folder / "injected.py"
        script.write_text(COMMAND, "utf-8")
        rank = case.on[0]
        done = programs.run(
            script, "--data", self.data, "--model", self.models[case.model], "--out", out, "--epochs", EPOCHS,
            "--batch-size", BATCH, "--streams", 4, "--progress", "off", "--timeout", "60s", "--lr", "0.01",
            ranks=2, WHAT=f"{case.where} {case.place} {case.value} {rank} {case.step}", OMP_NUM_THREADS=1,
        )  # fmt: skip
        for path in out.glob("*.ckpt"):
            checkpoint.load(path)  # refuses what is not finite
        if done.returncode != DivergenceError.exit_code:
            return f"{case}: code {done.returncode}: {done.stderr[-300:]}" if case.not_finite or done.returncode else ""
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        return "" if lines and all(NAMED.search(line) for line in lines) else f"{case}: said {done.stderr[-500:]}"


def run(size: int, seed: int, folder: Path) -> Tally:
    """Try ``size`` cases."""
    tally, cases = Tally(), Cases(folder)
    for number in range(size):
        case = draw(number, seed)
        if number % 25 == 0 and programs.MPIRUN:
            case = replace(case, ranks=2, where=("parameters", "velocity")[number // 25 % 2], on=(case.place % 2,))
            tally.attempt(cases.command_failure(case, folder))
            tally.count("under mpirun")
            continue
        failure, how = cases.failure(case)
        tally.attempt(failure)
        if how:
            tally.count(how)
    return tally
