"""Sleeping until another rank of the same machine has done something, or for a while."""

from __future__ import annotations

import contextlib
import select
import socket
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST_NAP = 50e-6
"""Seconds between looks at first; they double."""


class Bell:
    """What a rank sleeps beside, and others ring so that it looks at once whether what it waits for has happened.

    A ring is a hint and no message: it may be lost, or come from anybody. Who waits looks from time to time anyway, as
    where sockets cannot be had.

    Attributes
    ----------
    name : bytes
        By which others on this machine ring; empty if they cannot. It is in Linux's abstract namespace: there is no
        file that could be left behind.
    """

    def __init__(self) -> None:
        self.name = b""
        with contextlib.suppress(OSError):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            weakref.finalize(self, self._socket.close)
            self._socket.bind("")
            self.name = self._socket.getsockname()

    def ring(self, name: bytes) -> None:
        """Wake who sleeps beside the bell of that name."""
        with contextlib.suppress(OSError):
            if self.name and name:
                self._socket.sendto(b"", name)

    def sleep_until(self, happened: Callable[[], bool], *, longest: float) -> float:
        """Sleep until ``happened()``, which is looked at after ``longest`` seconds at the latest; return how long."""
        began = time.monotonic()
        nap = SHORTEST_NAP
        while not happened():
            self._sleep(nap)
            nap = min(2 * nap, longest)
        return time.monotonic() - began

    def _sleep(self, seconds: float) -> None:
        if not self.name:
            time.sleep(seconds)
            return
        rung, _, _ = select.select([self._socket], [], [], seconds)
        if rung:
            with contextlib.suppress(OSError):
                self._socket.recv(1)
