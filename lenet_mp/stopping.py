"""Signals that ask a run to stop: remembered here, acted on by all ranks after the same step."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

INTERRUPT, TERMINATE = 1, 1 << 20
"""What one rank adds to the request that is summed over all ranks (up to a million of each)."""


class StopRequest:
    """The signals that have arrived at this rank: SIGINT, SIGTERM, or SIGUSR1, which Slurm sends before its limit.

    A second signal ends the process at once, as if none had been caught.

    Attributes
    ----------
    value : int
        0, ``INTERRUPT`` or ``TERMINATE``; summed over the ranks, it tells all of them whether to stop.
    """

    def __init__(self) -> None:
        self.value = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals inside the block."""
        before = {number: signal.signal(number, self._remember) for number in _VALUES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.value:
            os._exit(128 + number)
        self.value = _VALUES[number]


_VALUES: dict[int, int] = {signal.SIGINT: INTERRUPT, signal.SIGTERM: TERMINATE, signal.SIGUSR1: TERMINATE}


def exit_code(requests: int) -> int:
    """Exit code for summed requests: 143 if any rank was told to terminate, 130 if interrupted, 0 for none."""
    if not requests:
        return 0
    return 128 + (signal.SIGTERM if requests >= TERMINATE else signal.SIGINT)
