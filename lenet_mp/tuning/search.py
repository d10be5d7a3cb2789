"""What a search tries: every combination of listed values, or random draws from lists and ranges."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp import suggestions
from lenet_mp.errors import UsageError
from lenet_mp.training import config
from lenet_mp.training.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Value = str | int | float | bool
    Options = dict[str, Value]

DIGITS = 3
"""Significant digits of a drawn number."""
DECADE = 10
"""Ranges at least so wide are drawn from evenly by ratio, narrower ones by difference."""
UNFIT = frozenset({"data", "feature_image", "train_accuracy", "epochs"})
"""Options that make no comparable trials."""


@dataclass(frozen=True)
class Choice:
    """What to try for one option: a list of values, or a range of numbers.

    Attributes
    ----------
    name : str
        A field of :class:`Config`.
    values : tuple
        Of the option's type; empty for a range.
    low, high : float
        Ends of a range.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def draw(self, rng: np.random.Generator) -> Value:
        """Return one of the values, or a number of the range."""
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        share = rng.random()
        if self.low > 0 and self.high >= DECADE * self.low:
            number = self.low * math.exp(share * math.log(self.high / self.low))
        else:
            number = self.low + share * (self.high - self.low)
        return _typed(self.name, f"{number:.0f}" if _kind(self.name) is int else f"{number:.{DIGITS}g}")


def read(text: str) -> Choice:
    """Read ``lr=0.01,0.1`` or ``lr=1e-3..1e-1``; ``UsageError`` for anything else."""
    name, _, rest = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    fit = {option.name for option in fields(Config)} - UNFIT
    if name not in fit or not rest:
        meant = suggestions.option(name, [config.flag(other)[2:] for other in fit]).replace("-", "_")
        hint = f"did you mean '{meant}'?" if name not in fit and meant else "as in lr=0.01,0.1"
        raise UsageError(f"cannot try '{text}': write OPTION=VALUE,VALUE,... or OPTION=LOW..HIGH; {hint}")
    ends = re.fullmatch(r"([^.,]*\.?[^.,]*)\.\.([^.,]*\.?[^.,]*)", rest)
    if not ends:
        values = tuple(dict.fromkeys(_typed(name, part.strip()) for part in rest.split(",")))
        return Choice(name, values)
    try:
        low, high = float(ends[1]), float(ends[2])
    except ValueError:
        low = high = math.nan
    if not low < high or not math.isfinite(high - low) or not (_kind(name) in (int, float) or name == "lr"):
        raise UsageError(f"cannot try '{text}': a range is LOW..HIGH with two numbers, as in lr=1e-3..1e-1")
    return Choice(name, (), low, high)


def grid(choices: Sequence[Choice]) -> Iterator[Options]:
    """Yield every combination; the last option varies fastest. ``UsageError`` for a range: it has no end."""
    for choice in choices:
        if not choice.values:
            raise UsageError(f"{choice.name} is a range: say with --random N how many combinations to draw")
    for values in itertools.product(*(choice.values for choice in choices)):
        yield dict(zip((choice.name for choice in choices), values, strict=True))


def draws(choices: Sequence[Choice], count: int, seed: int) -> Iterator[Options]:
    """Yield ``count`` different combinations, or fewer where there are not so many; the first ones stay the same."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    seen: list[Options] = []
    for _ in range(100 * count):
        options = {choice.name: choice.draw(rng) for choice in choices}
        if options not in seen:
            seen.append(options)
            yield options
        if len(seen) == count:
            return


def folder_name(options: Options) -> str:
    """Return the name of a trial's folder: what it tries, such as ``lr-0.01_batch-size-50``."""
    parts = (f"{name.replace('_', '-')}-{value}" for name, value in options.items())
    return re.sub(r"[^\w.+-]", "-", "_".join(parts))


def _kind(name: str) -> type:
    return next(type(option.default) for option in fields(Config) if option.name == name)


def _typed(name: str, text: str) -> Value:
    """Return ``text`` as a value of the option's type; checked by making the options with it."""
    kind = _kind(name)
    try:
        value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise UsageError(f"--{name.replace('_', '-')} cannot be '{text}'") from None
    checked_by: dict[str, Any] = {name: value}
    Config(**checked_by)
    checked: Value = value
    return checked
