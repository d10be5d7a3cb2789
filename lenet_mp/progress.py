"""How far a long job is: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts finished units and shows them on stderr.

    Parameters
    ----------
    total : int
        Number of units in the whole job.
    label, unit : str
        What is done, to what: ``prepare``, ``images``.
    shown : bool
        Whether to show anything; ranks other than 0 only measure.
    """

    def __init__(self, total: int, label: str, unit: str, *, shown: bool = True) -> None:
        self._total, self._label, self._unit, self._shows = total, label, unit, shown
        self._done = 0
        self._began = self._shown = time.monotonic()
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415 - only for a terminal

            self._bar = tqdm(total=total, desc=label, unit=f" {unit}", dynamic_ncols=True)

    def advance(self, count: int) -> None:
        """Add finished units."""
        self._done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif self._shows and now - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = now
            rate = max(self.rate(), 1e-9)
            left = duration((self._total - self._done) / rate)
            print(
                f"{self._label}: {self._done:,} of {self._total:,} {self._unit}, {rate:,.0f}/s, {left} left",
                file=sys.stderr,
                flush=True,
            )

    def rate(self) -> float:
        """Units per second since the start."""
        return self._done / max(time.monotonic() - self._began, 1e-9)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """A time for people: ``4.2 s``, ``3 min 10 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
