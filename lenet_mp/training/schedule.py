"""Learning rate by epoch and step, from the options and the figures of the epochs before."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lenet_mp.training.config import Config

    History = Sequence[dict[str, Any]]

ORIGINAL = "5e-6*2,5e-5*2,2e-5*3,1e-5*3"
"""The rates of the original program, for the summed gradient of 500 samples."""
STEP_FACTOR = 0.1
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 2
DIGITS = 9
LARGEST_RATE = 1e30
"""Far above any use, and far below what float32 holds."""


class Schedule:
    """The learning rate of every step of a run.

    ``original`` takes the table of rates epoch by epoch, whatever table it is; the others start from its first rate:
    ``constant`` keeps it, ``step`` divides it by ten after each third of the epochs, ``cosine`` lets it fall to zero
    along half a cosine (Loshchilov & Hutter 2017, without restarts), ``plateau`` halves it when two epochs in a row
    brought no better validation accuracy. All rise linearly from zero during the warm-up.

    A rate is rounded to nine digits: the last bit of a cosine may differ between machines, a rate may not.

    Parameters
    ----------
    config : Config
    steps : int
        Steps an epoch.
    """

    def __init__(self, config: Config, steps: int) -> None:
        self._table = learning_rates(config.lr, config.epochs)
        self._epochs = config.epochs
        self._steps = steps
        self._warmup = config.warmup
        self._rule: Callable[[float, History], float] = getattr(self, f"_{config.schedule}")

    def rate(self, epoch: int, step: int, history: History) -> float:
        """Return the rate of ``step`` (from 0) after ``epoch`` finished epochs with the rows ``history``."""
        rate = self._rule(epoch + step / self._steps, history)
        done = epoch + (step + 1) / self._steps
        if done < self._warmup:
            rate *= done / self._warmup
        return float(f"{rate:.{DIGITS}g}")

    def _original(self, progress: float, _: History) -> float:
        return self._table[int(progress)]

    def _constant(self, _progress: float, _: History) -> float:
        return self._table[0]

    def _step(self, progress: float, _: History) -> float:
        return self._table[0] * STEP_FACTOR ** int(3 * progress / self._epochs)

    def _cosine(self, progress: float, _: History) -> float:
        return self._table[0] * (1 + math.cos(math.pi * progress / self._epochs)) / 2

    def _plateau(self, _: float, history: History) -> float:
        rate, best, stale = self._table[0], -math.inf, 0
        for row in history:
            stale = 0 if merit(row) > best else stale + 1
            best = max(best, merit(row))
            if stale == PLATEAU_PATIENCE:
                rate, stale = rate * PLATEAU_FACTOR, 0
        return rate


SCHEDULES = ("original", "constant", "step", "cosine", "plateau")


def merit(row: dict[str, Any]) -> float:
    """Return what makes one epoch better than another: validation accuracy, or else a smaller training loss."""
    value = row["val_top1"]
    return -float(row["loss"]) if value is None else float(value)


def epochs_without_gain(history: History) -> int:
    """Return how many epochs have passed since the best one; ties go to the first."""
    merits = [merit(row) for row in history]
    return len(merits) - 1 - merits.index(max(merits)) if merits else 0


def learning_rates(text: str, epochs: int) -> list[float]:
    """Expand ``text``, such as ``5e-6*2,5e-5*2,1e-5``, to one learning rate an epoch.

    ``RATE*COUNT`` stands for COUNT epochs at RATE; the last rate goes on for as long as needed.

    Raises
    ------
    UsageError
        For text of another form or a rate that is not positive and below 1e30.
    """
    rates: list[float] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]{1,3})?)\s*(?:\*\s*([0-9]{1,6})\s*)?", part)
        rate = _number(match[1]) if match else 0.0
        if not match or not 0 < rate < LARGEST_RATE or match[2] == "0":
            raise UsageError(f"cannot read learning rate '{text}': write RATE or RATE*EPOCHS,..., as in {ORIGINAL}")
        rates += [rate] * min(int(match[2] or 1), epochs)
        del rates[epochs:]
    return (rates + [rates[-1]] * (epochs - len(rates)))[:epochs]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
