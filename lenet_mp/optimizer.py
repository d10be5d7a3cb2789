"""The update: momentum on one flat vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
