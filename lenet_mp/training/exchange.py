"""One step up to the summed gradient: this rank's samples through the engine, then the sum over all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lenet_mp.data.batches import Batches
from lenet_mp.errors import DivergenceError, PeerError, UsageError
from lenet_mp.plan import COUNTS, GROUP_SIZE, QUANTUM, REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lenet_mp.augmentation import Augment
    from lenet_mp.data.shards import Split
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.plan import Plan
    from lenet_mp.training.loader import Part
    from lenet_mp.training.profile import Profile

LARGEST_TOTAL = 2.0**62 * QUANTUM
"""Bound of every summed value. The samples of a step share it: each may lose, and each group's gradient may reach, its
share at most, so that neither the losses nor the gradients of a step overflow 64 bits."""
HIGH_LOSS = 32.0
"""A cross-entropy, of a class of probability 1e-14, that must fit whatever the class weights."""


class Sums(NamedTuple):
    """What a step gave over all ranks; the arrays hold until the next step.

    ``gradient`` (P,) and ``counts`` (5,) are a plan's totals, ``requests`` the summed requests to stop.
    """

    gradient: NDArray[np.int64]
    counts: NDArray[np.int64]
    requests: int


class Exchange:
    """Works this rank's samples of a step and exchanges sums with the other ranks, in one allreduce of integers.

    The loss is the cross-entropy with ``targets`` (:func:`lenet_mp.targets.make_targets`), the plain one without.

    Raises
    ------
    UsageError
        If a class weighs so much that the losses of a batch might not fit into the sums.
    """

    def __init__(
        self,
        plan: Plan,
        splits: Sequence[Split],
        comm: Comm,
        batch_size: int,
        profile: Profile,
        *,
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        self._profile = profile
        self._plan = plan
        self._comm = comm
        self._batches = Batches(splits)
        # One buffer: the gradient, the counts, the requests to stop, and the number of the step.
        self._buffer = np.zeros(plan.parameter_count + COUNTS + 2, np.int64)
        self._limit = LARGEST_TOTAL / (GROUP_SIZE * -(-batch_size // GROUP_SIZE))
        self._targets = targets
        heaviest, bearable = 0.0 if targets is None else float(targets.max()), self._limit / HIGH_LOSS
        if heaviest > bearable:
            raise UsageError(
                f"--class-weights: a class weighs {heaviest:,.0f} times the mean, at most {bearable:,.0f} times fits "
                f"the sums of {batch_size} images: set a smaller --batch-size or weights that differ less"
            )

    def step(
        self,
        parameters: NDArray[np.float32],
        part: Part,
        *,
        number: int,
        request: Callable[[], int],
        where: str,
        augment: Augment | None = None,
    ) -> Sums:
        """Return the sums over all ranks of step ``number``, which people know as ``where``.

        ``augment`` is how the samples of ``part`` are changed. ``request`` is asked once they are worked, so that what
        arrives meanwhile ends the run with this step and not with the next.

        Raises
        ------
        DivergenceError
            On all ranks, if a group's gradient or a sample's loss is not finite or too large to be summed.
        PeerError
            On all ranks, if another one is at another step.
        """
        self._comm.enter(f"its turn in {where}", waiting=True)
        asleep = self._comm.asleep
        self._comm.wait_for_turn()
        self._comm.enter(where)
        batch = self._batches.gather(part.shards, part.rows)
        totals = self._buffer[:-2]
        self._profile.lap("load")
        self._profile.move(self._comm.asleep - asleep, "load", "turn")
        self._plan.step(
            parameters,
            batch.images,
            batch.labels,
            part.group_starts,
            limit=self._limit,
            totals=totals,
            targets=self._targets,
            augment=augment,
        )
        self._profile.lap("compute")
        self._buffer[-2:] = request(), number
        self._comm.step_computed()
        self._comm.enter(f"the allreduce of {where}", waiting=True)
        asleep = self._comm.asleep
        self._comm.allreduce(self._buffer)
        self._profile.lap("allreduce")
        self._profile.move(self._comm.asleep - asleep, "allreduce", "turn")
        self._comm.enter(f"the update of {where}")
        if self._buffer[-1] != number * self._comm.size:
            raise PeerError(f"the ranks are not at the same step: this one is at {where}; resume from the checkpoint")
        counts = totals[-COUNTS:]
        if counts[REFUSED]:
            raise DivergenceError(f"the gradient is not finite or above {self._limit:g} in {where}")
        return Sums(totals[:-COUNTS], counts, int(self._buffer[-2]))

    def prefetch(self, part: Part) -> None:
        """Begin to fetch what a later step needs."""
        self._batches.prefetch(part.shards)

    def release(self) -> None:
        """Let go of all images, and of those that are being fetched: no more steps follow."""
        self._batches.release()
