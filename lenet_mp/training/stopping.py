"""What asks a run to stop: signals and the end of its time; all ranks act on it after the same step."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SAME_SIGNAL = 1.0
"""Seconds within which a repetition is taken for the same signal, told by someone else."""
_ANSWER = b"\nfinishing the step, then saving; a second signal ends this at once\n"
INTERRUPT, TERMINATE = 1, 1 << 20
"""What one rank adds to the request that is summed over all ranks (up to a million of each)."""


class StopRequest:
    """Whether this rank was asked to stop: by SIGINT, SIGTERM, SIGUSR1 (which Slurm can send), or by its clock.

    A second signal, a second or more after the first, ends the process at once. Sooner it is taken for the same: a
    batch system tells the launcher and the ranks, and the launcher tells the ranks too.

    Python calls handlers between two instructions of the main thread, that is, not while this computes in C, or hangs
    in MPI. So a thread of its own, woken by the signals themselves, answers the first one and ends on the second.

    Attributes
    ----------
    tells : bool
        Whether to answer the first signal at once, on stderr: the step or an evaluation may take its time.
    """

    def __init__(self) -> None:
        self.tells = False
        self._signalled = 0
        self._arrived: float | None = None
        self._answers = [_ANSWER]
        self._deadline = math.inf

    def limit(self, seconds: float) -> None:
        """Stop ``seconds`` from now as if told to terminate."""
        self._deadline = time.monotonic() + seconds

    @property
    def signalled(self) -> int:
        """As ``value``, of signals alone: once the work is done, its time does not matter."""
        return self._signalled

    @property
    def value(self) -> int:
        """0, ``INTERRUPT`` or ``TERMINATE``; summed over the ranks, it tells all of them whether to stop."""
        return self._signalled or (TERMINATE if time.monotonic() >= self._deadline else 0)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals inside the block, which the main thread must enter."""
        heard, wakes = socket.socketpair()
        wakes.setblocking(False)
        threading.Thread(target=self._listen, args=(heard,), name="signals", daemon=True).start()
        other = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._remember) for number in _VALUES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(other)
            wakes.close()  # ends the thread

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._signalled = self._signalled or _VALUES[number]
        self._answer()

    def _listen(self, heard: socket.socket) -> None:
        """Receive the numbers of signals, each a byte, until the other end is closed."""
        with heard:
            while numbers := heard.recv(1):
                if numbers[0] in _VALUES:
                    self._hear(numbers[0])

    def _hear(self, number: int) -> None:
        now = time.monotonic()
        if self._arrived is None:
            self._arrived = now
            self._answer()
        elif now - self._arrived > SAME_SIGNAL:
            os._exit(exit_code(_VALUES[number]))

    def _answer(self) -> None:
        """Answer once, in the thread that comes first."""
        if self.tells:
            with contextlib.suppress(OSError, IndexError):
                os.write(2, self._answers.pop())  # not print: it may be what was interrupted


_VALUES: dict[int, int] = {signal.SIGINT: INTERRUPT, signal.SIGTERM: TERMINATE, signal.SIGUSR1: TERMINATE}


def exit_code(requests: int) -> int:
    """Exit code for summed requests: 143 if any rank was told to terminate, 130 if interrupted, 0 for none."""
    if not requests:
        return 0
    return 128 + (signal.SIGTERM if requests >= TERMINATE else signal.SIGINT)


def seconds(text: str) -> float:
    """Read a time span such as ``90``, ``90s``, ``55m``, ``1h30m`` or ``2d``; ``UsageError`` for anything else."""
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"cannot read time '{text}': write 90s, 55m, 1h30m or 2d")
    days, hours, minutes, rest = (float(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
