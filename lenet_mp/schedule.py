"""Learning rate by epoch."""

from __future__ import annotations

import re

from lenet_mp.errors import UsageError

ORIGINAL = "5e-6*2,5e-5*2,2e-5*3,1e-5*3"
"""The schedule of the original program, for the summed gradient of 500 samples."""


def learning_rates(text: str, epochs: int) -> list[float]:
    """Expand ``text``, such as ``5e-6*2,5e-5*2,1e-5``, to one learning rate an epoch.

    ``RATE*COUNT`` stands for COUNT epochs at RATE; the last rate goes on for as long as needed. Rates apply to the
    gradient summed over a batch, so that a step moves the weights by ``rate * sum``.

    Raises
    ------
    UsageError
        For text of another form or a rate that is not positive and finite.
    """
    rates: list[float] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]{1,3})?)\s*(?:\*\s*([0-9]{1,6})\s*)?", part)
        rate = _number(match[1]) if match else 0.0
        if not match or not 0 < rate < float("inf") or match[2] == "0":
            raise UsageError(f"cannot read learning rate '{text}': write RATE or RATE*EPOCHS,..., as in {ORIGINAL}")
        rates += [rate] * int(match[2] or 1)
    return (rates + [rates[-1]] * (epochs - len(rates)))[:epochs]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
