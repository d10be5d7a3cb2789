"""What a campaign counts."""

from __future__ import annotations

from dataclasses import dataclass, field

SHOWN = 20
"""Failures that are told one by one; the others are only counted."""


@dataclass
class Tally:
    """Attempts and failures of one campaign.

    Attributes
    ----------
    tried : int
        Attempts that took place. What could not be delivered (a kill that came too late) is no attempt.
    failed : int
        Attempts whose outcome broke the promise.
    details : dict of str to int
        Further counts, in the order in which they are printed.
    failures : list of str
        The first failures, each with what repeats it.
    skipped : str
        Why nothing could be tried on this machine; empty where something was.
    """

    tried: int = 0
    failed: int = 0
    details: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skipped: str = ""

    def attempt(self, failure: str = "") -> None:
        """Count an attempt, which failed if ``failure`` says how."""
        self.tried += 1
        if failure:
            self.failed += 1
            if len(self.failures) < SHOWN:
                self.failures.append(failure)

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the further counts."""
        self.details[name] = self.details.get(name, 0) + number

    def line(self, name: str, seed: int, seconds: float) -> str:
        """Return the line that a campaign ends with."""
        if self.skipped:
            return f"{name}: skipped, {self.skipped}"
        counts = [f"tried {self.tried}", f"failed {self.failed}", *(f"{k} {v}" for k, v in self.details.items())]
        return f"{name}: {', '.join(counts)} (seed {seed}, {seconds:.0f} s)"
