"""The update: momentum on one flat vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Momentum:
    """Gradient descent with momentum and weight decay.

    ``velocity = momentum * velocity - weight_decay * lr * parameters - lr * gradient``, then
    ``parameters += velocity``. All in float32, element by element: the same bits on any machine.

    Attributes
    ----------
    velocity : (P,) float32
        The state, zero at first.
    """

    def __init__(self, parameter_count: int, *, momentum: float, weight_decay: float) -> None:
        self.velocity = np.zeros(parameter_count, np.float32)
        self._momentum = np.float32(momentum)
        self._weight_decay = np.float32(weight_decay)
        self._scratch = np.empty(parameter_count, np.float32)

    def update(self, parameters: NDArray[np.float32], gradient: NDArray[np.float32], learning_rate: float) -> None:
        """Move ``parameters`` (P,) in place, given the gradient of the summed loss (P,)."""
        rate = np.float32(learning_rate)
        self.velocity *= self._momentum
        if self._weight_decay:
            np.multiply(parameters, self._weight_decay * rate, out=self._scratch)
            self.velocity -= self._scratch
        np.multiply(gradient, rate, out=self._scratch)
        self.velocity -= self._scratch
        parameters += self.velocity
