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
    done : int
        Units that were finished before.
    shown : bool
        Whether to show anything; ranks other than 0 only measure.
    bar : bool, optional
        Whether to show a bar, not lines; left out, where stderr is a terminal.
    every : float
        Seconds between lines.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str,
        *,
        done: int = 0,
        shown: bool = True,
        bar: bool | None = None,
        every: float = _SECONDS_BETWEEN_LINES,
    ) -> None:
        self._total, self._label, self._unit, self._shows, self._every = total, label, unit, shown, every
        self._before = self._done = done
        self._began = self._shown = time.monotonic()
        self._bar: Any = None
        if shown and (sys.stderr.isatty() if bar is None else bar):
            from tqdm import tqdm  # noqa: PLC0415 - only for a terminal

            self._bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", dynamic_ncols=True)

    def advance(self, count: int, note: str = "") -> None:
        """Add finished units; ``note`` is shown beside them."""
        self._done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self._shows and now - self._shown >= self._every:
            self._shown = now
            rate = max(self.rate(), 1e-9)
            left = duration((self._total - self._done) / rate)
            done = f"{self._done:,} of {self._total:,} {self._unit}"
            parts = [done, *([note] if note else []), f"{rate:,.0f}/s", f"{left} left"]
            print(f"{self._label}: {', '.join(parts)}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say on a bar what goes on beside the counting."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def rate(self) -> float:
        """Units per second since the start."""
        return (self._done - self._before) / max(time.monotonic() - self._began, 1e-9)

    def close(self, *, keep: bool = True) -> None:
        """Leave the bar as it stands, or take it away."""
        if self._bar is not None:
            self._bar.leave = keep
            self._bar.close()


def size(count: int) -> str:
    """A number of bytes for people: ``4.2 kB``, ``395 MB``, ``11.9 GB``."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 999.5:  # noqa: PLR2004 - what rounds to 1,000 is one of the next unit
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} GB" if amount < 999.5 else f"{amount:,.0f} GB"  # noqa: PLR2004


def duration(seconds: float) -> str:
    """A time for people: ``4.2 s``, ``3 min 10 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
