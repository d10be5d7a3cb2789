"""Cases of the campaign ``numerics``: which value comes into which run, where, when and on which ranks."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import small_data

VALUES = (
    math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e38, 1e30, -1e20, 1e10, 1e4, 1e-30, 1e-38, 1e-40, -1e-45,
)  # fmt: skip
OPTIONS = {
    "lr": (1e-45, 1e-38, 1e-20, 1e3, 1e8, 1e20, 1e30, 3e38),
    "momentum": (1.0, 0.999999, 1e-40, 1e30),
    "weight_decay": (1e-45, 1e3, 1e6, 1e30),
}
"""The last ones of momentum and decay are refused before the first step."""
MODELS = {
    "squash": small_data.MODEL,
    "relu": """
name = "relu"
[[layer]]
kind = "conv"
name = "C1"
channels = 6
kernel = 3
stride = 3
padding = 1
[[layer]]
kind = "relu"
[[layer]]
kind = "max_pool"
kernel = 2
[[layer]]
kind = "dense"
channels = 9
name = "F2"
[[layer]]
kind = "elu"
[[layer]]
kind = "dense"
name = "F3"
""",
    "subsample": """
name = "subsample"
[[layer]]
kind = "subsample"
name = "S1"
kernel = 2
[[layer]]
kind = "tanh"
[[layer]]
kind = "conv"
name = "C2"
channels = 5
kernel = 3
[[layer]]
kind = "prelu"
[[layer]]
kind = "max_pool"
kernel = 2
[[layer]]
kind = "dense"
channels = 7
name = "F3"
[[layer]]
kind = "sigmoid"
[[layer]]
kind = "dense"
name = "F4"
""",
}


@dataclass(frozen=True)
class Case:
    """What is done to which run, when and on which ranks.

    ``where`` is ``parameters``, ``velocity``, ``pixels``, ``totals``, ``bit`` or the name of an option; ``place``
    chooses an element; ``step`` counts from the run's start.
    """

    number: int
    model: str
    ranks: int
    where: str
    value: float
    place: int
    step: int
    on: tuple[int, ...]
    nesterov: bool
    check_ranks: int = 0

    @property
    def not_finite(self) -> bool:
        """Whether what is put in place is never to be seen again."""
        return self.where in ("parameters", "velocity", "pixels") and not np.isfinite(np.float32(self.value))


def draw(number: int, seed: int) -> Case:
    """Return case ``number`` of the seed."""
    rng = random.Random(f"{seed} {number}")
    model, step, place = rng.choice(list(MODELS)), rng.randrange(6), rng.randrange(1 << 30)
    common = {"number": number, "model": model, "step": step, "place": place, "nesterov": rng.random() < 0.5}
    if number % 5 == 4:
        return Case(ranks=2, where="bit", value=0.0, on=(rng.randrange(2),), check_ranks=rng.randrange(1, 4), **common)
    ranks = rng.choice((1, 2))
    on = rng.choice([(rank,) for rank in range(ranks)] + [tuple(range(ranks))])
    where = rng.choice(("parameters", "parameters", "velocity", "velocity", "pixels", "totals", *OPTIONS))
    value = rng.choice(OPTIONS.get(where, VALUES))
    return Case(ranks=ranks, where=where, value=value, on=on, **common)
