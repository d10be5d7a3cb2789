"""Learning-rate range test (Smith 2017): train a few steps while the rate rises exponentially, and watch the loss."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.errors import DivergenceError
from lenet_mp.training.assembly import make_trainer
from lenet_mp.training.optimizer import ORIGINAL_BATCH, Descent
from lenet_mp.training.recorder import Silent
from lenet_mp.training.stopping import TERMINATE, StopRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.parallel.comm import Comm
    from lenet_mp.training.config import Config
    from lenet_mp.training.schedule import History
    from lenet_mp.training.trainer import Trainer

LOWEST, HIGHEST = 1e-5, 10.0
"""Rates that the test runs over unless told otherwise, for a batch's mean gradient."""
SPREAD = 3.0
"""Standard deviation, in steps, of the weights with which neighbours enter the smoothed loss."""
TOO_FAR = 4.0
"""The test ends where the loss is this many times the first one."""
FALL = 0.02
"""Share by which the smoothed loss must have fallen for a suggestion."""
RULE = "the middle, by ratio, between the rate where the smoothed loss falls fastest by decade and where it is lowest"


def default_range(config: Config) -> tuple[float, float]:
    """Return the lowest and highest rate to try, in the unit of ``--lr-scale``."""
    samples = config.batch_size
    unit = {"mean": 1.0, "sum": samples, "sqrt": math.sqrt(ORIGINAL_BATCH * samples)}[config.lr_scale]
    return LOWEST / unit, HIGHEST / unit


def rates(low: float, high: float, steps: int) -> list[float]:
    """Return ``steps`` rates from ``low`` to ``high``, each the same multiple of the one before."""
    return [float(f"{rate:.9g}") for rate in np.geomspace(low, high, steps)]


def run(world: Comm, config: Config, series: Sequence[float]) -> list[float]:
    """Train one step at each rate of ``series``, from initial weights; return the loss a sample of each step.

    The list ends early where the loss is far above its lowest or the training diverges.
    """
    trainer = make_trainer(world, replace(config, train_accuracy="running", schedule="constant", patience=0))
    trainer.dataset = replace(trainer.dataset, validation=None, test=None)
    trainer.config = replace(trainer.config, epochs=math.ceil(len(series) / trainer.loader.steps))
    trainer.descent = _Rising(trainer, series)
    watch = _Watch(len(series))
    # Divergence is what a range test is for: the rates from here on are too high.
    with contextlib.suppress(DivergenceError):
        trainer.fit(watch, stop=_Enough(watch))
    return watch.losses


class _Rising(Descent):
    """A descent whose rate follows a series, step by step over all epochs."""

    def __init__(self, trainer: Trainer, series: Sequence[float]) -> None:
        super().__init__(trainer.config, trainer.network.parameter_count, trainer.loader.steps, trainer.plan.threads)
        self._series = series
        self._steps = trainer.loader.steps

    def rate(self, epoch: int, step: int, history: History) -> float:  # noqa: ARG002 - the series is fixed
        """Return the rate of a step."""
        return self._series[min(epoch * self._steps + step, len(self._series) - 1)]


class _Watch(Silent):
    """Notes the loss of every step."""

    def __init__(self, steps: int) -> None:
        self.losses: list[float] = []
        self._steps = steps
        self._before = (0, 0.0)

    def step_done(self, trainer: Trainer) -> None:
        """Take the step's part out of the running sum of the epoch."""
        scores = trainer.running
        samples, total = self._before if trainer.step > 1 else (0, 0.0)
        self._before = scores.samples, scores.loss * scores.samples
        self.losses.append((self._before[1] - total) / (scores.samples - samples))

    @property
    def last_step(self) -> bool:
        """Whether the next step is the last one."""
        losses = self.losses
        return len(losses) + 1 >= self._steps or (bool(losses) and losses[-1] > TOO_FAR * losses[0])


class _Enough(StopRequest):
    """Asks to stop when the series is through or the loss has risen far."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    @property
    def value(self) -> int:
        """The request, for the step that begins."""
        return TERMINATE if self._watch.last_step else 0


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return each loss averaged with those of the steps around it.

    Both sides count: an average of the past alone lags behind, and would suggest rates that are too high. What lies
    beyond ``TOO_FAR`` counts as that, or one last step would drown those before it.
    """
    if not losses:
        return []
    place = np.arange(len(losses))
    weights = np.exp(-(((place[:, np.newaxis] - place) / SPREAD) ** 2) / 2)
    average: list[float] = (weights @ np.minimum(losses, TOO_FAR * losses[0]) / weights.sum(axis=1)).tolist()
    return average


def landmarks(series: Sequence[float], losses: Sequence[float]) -> tuple[float, float] | None:
    """Return the rates where the smoothed loss falls fastest by decade, and where it is lowest; None if it never falls.

    The first is safe and slow, the second on the edge: its next steps may lead up again.
    """
    curve = smoothed(losses)
    lowest = int(np.argmin(curve)) if curve else 0
    if lowest < 2 or curve[lowest] > (1 - FALL) * curve[0]:  # noqa: PLR2004 - a slope needs three points
        return None
    logs = np.log10(series[: lowest + 1])
    steepest = int(np.argmin(np.gradient(curve[: lowest + 1], logs)))
    return series[steepest], series[lowest]


def suggestion(series: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate to start from by ``RULE``, to two digits; None where the loss did not fall."""
    found = landmarks(series, losses)
    return float(f"{math.sqrt(found[0] * found[1]):.1e}") if found else None
