"""The update in C: gradient descent with momentum on flat vectors, straight from a step's integer totals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp._guards import check
from lenet_mp._native import ffi, isa_index, lib, pointer
from lenet_mp.plan import QUANTUM

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Momentum:
    """Gradient descent with momentum and weight decay.

    ``velocity = momentum * velocity - weight_decay * lr * parameters - lr * gradient``, then
    ``parameters += velocity``. Nesterov's variant looks one step ahead (Sutskever et al. 2013): ``parameters +=
    momentum * velocity - weight_decay * lr * parameters - lr * gradient`` with the new velocity. All in float32,
    element by element: the same bits on any machine and any number of threads.

    Attributes
    ----------
    velocity : (P,) float32
        The state, zero at first.
    """

    def __init__(self, parameter_count: int, *, momentum: float, weight_decay: float, nesterov: bool = False,
                 threads: int = 1) -> None:
        self.velocity = np.zeros(parameter_count, np.float32)
        self._rule = ffi.new("struct lenet_descent *")
        self._rule.momentum, self._rule.weight_decay, self._rule.nesterov = momentum, weight_decay, nesterov
        self._threads = threads

    def update(self, parameters: NDArray[np.float32], totals: NDArray[np.int64], learning_rate: float, *,
               unit: float = 1.0, largest_norm: float = 0.0) -> float:
        """Move ``parameters`` (P,) in place against a gradient; return its norm if asked to bound it, else 0.

        Parameters
        ----------
        parameters : (P,) float32
        totals : (P,) int64
            A step's sums in units of ``QUANTUM``.
        learning_rate : float
        unit : float
            Times the sums, it is the gradient: 1 for that of the batch's sum, 1 / samples for that of its mean.
        largest_norm : float
            Where the gradient's Euclidean norm is above it, the gradient is scaled down to it; 0: any norm.
        """
        check("parameters", parameters, np.float32, self.velocity.shape, writable=True)
        check("velocity", self.velocity, np.float32, self.velocity.shape, writable=True)
        check("totals", totals, np.int64, self.velocity.shape)
        rule = self._rule
        rule.unit, rule.rate, rule.shrink = QUANTUM * unit, learning_rate, 1.0
        norm = 0.0
        if largest_norm:
            squares = lib.lenet_sum_of_squares(pointer("int64_t *", totals), totals.size, rule.unit, isa_index())
            norm = math.sqrt(squares)
            if norm > largest_norm:
                rule.shrink = largest_norm / norm
        lib.lenet_descend(
            pointer("float *", parameters), pointer("float *", self.velocity), pointer("int64_t *", totals),
            totals.size, rule, self._threads, isa_index())
        return norm
