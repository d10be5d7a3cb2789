"""Where a run's time goes: seconds by phase on this rank, always taken, since a lap costs less than a microsecond."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PHASES = ("load", "compute", "turn", "allreduce", "update", "evaluation", "records", "other")
"""Finding the samples, the engine's step, sleeping for ranks on the same core, the sum over ranks (waiting included),
moving the weights, validation and training accuracy, writing and drawing, and what is left."""

TITLES = {"turn": "ranks on the same core"}


class Profile:
    """A stopwatch with laps that add up by phase.

    Attributes
    ----------
    seconds : dict
        By phase.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap to ``phase``."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def move(self, seconds: float, phase: str, other: str) -> None:
        """Count some of the seconds of one phase to another."""
        self.seconds[phase] -= seconds
        self.seconds[other] += seconds


def shares(seconds: Mapping[str, float], engine: Mapping[str, float]) -> dict[str, float]:
    """Return each phase's share of the whole (0..1), with ``compute`` taken apart where the engine was measured.

    Parameters
    ----------
    seconds : mapping
        Of a :class:`Profile`.
    engine : mapping
        Of ``Plan.profile``: seconds of all threads in ``forward``, ``backward``, ``reduction``, and ``load``, which
        is part of the first two; or nothing.
    """
    whole = sum(seconds.values()) or 1.0
    shown = {phase: value for phase, value in seconds.items() if phase != "turn" or value}
    parts = {TITLES.get(phase, phase): value / whole for phase, value in shown.items()}
    worked = sum(engine.get(name, 0.0) for name in ("forward", "backward", "reduction"))
    if worked:
        compute = parts.pop("compute")
        names = {
            "forward": "forward",
            "backward": "backward",
            "load": "arranging pixels, in both of these",
            "reduction": "reduction",
        }
        taken_apart = {shown: compute * engine[name] / worked for name, shown in names.items()}
        parts = {"load": parts.pop("load")} | taken_apart | parts
    return parts


def table(parts: Mapping[str, float]) -> list[str]:
    """Return the shares as lines of text."""
    width = max(map(len, parts))
    return [f"  {name:{width}}  {share:6.1%}" for name, share in parts.items()]
