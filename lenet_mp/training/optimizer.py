"""The update as training's options want it: unit of the rate, bound of the norm, schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lenet_mp.descent import Momentum
from lenet_mp.training.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
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

    def __init__(self, config: Config, parameter_count: int, steps: int, threads: int) -> None:
        self.optimizer = Momentum(
            parameter_count,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            threads=threads,
        )
        self._schedule = Schedule(config, steps)
        self._scale = config.lr_scale
        self._largest_norm = config.clip_norm

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
        self.optimizer.update(parameters, gradient, rate, unit=unit, largest_norm=self._largest_norm * unit * samples)

    def rate(self, epoch: int, step: int, history: History) -> float:
        """Return the learning rate of ``step`` after ``epoch`` finished epochs."""
        return self._schedule.rate(epoch, step, history)
