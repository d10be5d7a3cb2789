"""The update: from a summed gradient to moved weights, on flat vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.plan import QUANTUM
from lenet_mp.training.schedule import Schedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.training.config import Config
    from lenet_mp.training.schedule import History

ORIGINAL_BATCH = 500


class Descent:
    """Everything between the gradient that all ranks have summed and the weights: scale, clipping, rate, momentum.

    Attributes
    ----------
    optimizer : Momentum
        Its velocity is the state.
    """

    def __init__(self, config: Config, parameter_count: int, steps: int) -> None:
        self.optimizer = Momentum(
            parameter_count,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
        self._schedule = Schedule(config, steps)
        self._scale = config.lr_scale
        self._largest_norm = config.clip_norm
        self._gradient = np.empty(parameter_count, np.float32)

    def update(
        self,
        parameters: NDArray[np.float32],
        gradient: NDArray[np.int64],
        samples: int,
        rate: float,
    ) -> None:
        """Move ``parameters`` (P,) against ``gradient`` (P,), a plan's total over ``samples`` samples."""
        # The unit of a rate: for the sum, for the mean, or, by the square-root rule, for the sum of the original's 500.
        unit = {"sum": 1.0, "mean": 1 / samples, "sqrt": math.sqrt(ORIGINAL_BATCH / samples)}[self._scale]
        np.multiply(gradient, QUANTUM * unit, out=self._gradient, casting="same_kind")
        if self._largest_norm:
            clip_norm(self._gradient, self._largest_norm * unit * samples)
        self.optimizer.update(parameters, self._gradient, rate)

    def rate(self, epoch: int, step: int, history: History) -> float:
        """Return the learning rate of ``step`` after ``epoch`` finished epochs."""
        return self._schedule.rate(epoch, step, history)


class Momentum:
    """Gradient descent with momentum and weight decay.

    ``velocity = momentum * velocity - weight_decay * lr * parameters - lr * gradient``, then
    ``parameters += velocity``. Nesterov's variant looks one step ahead (Sutskever et al. 2013): ``parameters +=
    momentum * velocity - weight_decay * lr * parameters - lr * gradient`` with the new velocity. All in float32,
    element by element: the same bits on any machine.

    Attributes
    ----------
    velocity : (P,) float32
        The state, zero at first.
    """

    def __init__(self, parameter_count: int, *, momentum: float, weight_decay: float, nesterov: bool = False) -> None:
        self.velocity = np.zeros(parameter_count, np.float32)
        self._momentum = np.float32(momentum)
        self._weight_decay = np.float32(weight_decay)
        self._nesterov = nesterov
        self._decrease = np.empty(parameter_count, np.float32)
        self._decay = np.empty(parameter_count, np.float32)

    def update(self, parameters: NDArray[np.float32], gradient: NDArray[np.float32], learning_rate: float) -> None:
        """Move ``parameters`` (P,) in place against ``gradient`` (P,)."""
        rate = np.float32(learning_rate)
        np.multiply(gradient, rate, out=self._decrease)
        if self._weight_decay:
            np.multiply(parameters, self._weight_decay * rate, out=self._decay)
            self._decrease += self._decay
        self.velocity *= self._momentum
        self.velocity -= self._decrease
        if self._nesterov:
            parameters -= self._decrease
            np.multiply(self.velocity, self._momentum, out=self._decrease)
            parameters += self._decrease
        else:
            parameters += self.velocity


def clip_norm(gradient: NDArray[np.float32], largest: float) -> float:
    """Scale ``gradient`` (P,) in place so that its Euclidean norm is at most ``largest``; return the norm it had.

    The squares are added one after the other, in float64: a sum in blocks would depend on the machine.
    """
    norm = float(np.sqrt(np.cumsum(np.square(gradient, dtype=np.float64))[-1]))
    if norm > largest:
        gradient *= np.float32(largest / norm)
    return norm
