"""What the figures of ``lenet-mp scale`` mean, in one paragraph."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lenet_mp.scalability.scaling import (
    ALLREDUCE,
    COMPUTE,
    REST,
    UPDATE,
    WAITING,
    efficiency,
    karp_flatt,
    losses,
    speedup,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.scalability.scaling import Result

WORTH_MENTIONING = 0.02
NOISY = 0.10
REASONS = {
    COMPUTE: "the computing itself, which is slower when all cores work at once: they share caches, memory, clock, "
    "perhaps with other programs, and a rank or thread with one group more than another is waited for",
    WAITING: "waiting for the slowest rank: its share of the groups is larger, or another program uses its core",
    ALLREDUCE: "the allreduce itself",
    UPDATE: "the update, which every rank repeats",
    REST: "loader and Python, which every rank repeats and in which threads have nothing to do",
}


def verdict(strong: Sequence[Result], cores: int) -> str:
    """Return the paragraph; it concludes nothing from setups with more threads in all than ``cores``."""
    fair = [result for result in strong if result.setup.cores <= cores]
    one = next(result for result in fair if result.setup.cores == 1)
    most = max(result.setup.cores for result in fair)
    spread = max((r.quartiles[1] - r.quartiles[0]) / r.median for r in fair)
    sentences = []
    if most == 1:
        sentences.append("Nothing to conclude: no setup with more than one core was measured that had its cores alone.")
    else:
        contenders = sorted((r for r in fair if r.setup.cores == most), key=lambda r: r.median)
        sentences += [_best(contenders[0], one), *_others(contenders), _loss(contenders[0], one, spread)]
    shared = [str(result.setup) for result in strong if result.setup.cores > cores]
    if shared:
        sentences.append(
            f"No conclusion from {', '.join(shared)}: {cores} cores cannot show how more of them would do."
        )
    taken = 1 - min(r.granted for r in fair)
    if taken > NOISY:
        sentences.append(f"Other programs took up to {taken:.0%} of the cores: measure again when they are done.")
    if spread > NOISY:
        sentences.append(
            f"The middle half of a setup's steps spreads over up to {spread:.0%} of their median: this machine is not "
            "quiet, so differences below that mean nothing."
        )
    return textwrap.fill(" ".join(sentences), 118, break_on_hyphens=False)


def _best(best: Result, one: Result) -> str:
    return (
        f"The fastest on {best.setup.cores} cores is {best.setup} (ranks x threads): {speedup(best, one):.2f} times "
        f"one core, efficiency {efficiency(best, one):.0%}, serial fraction {karp_flatt(best, one):.3f} (Karp-Flatt)."
    )


def _others(contenders: Sequence[Result]) -> list[str]:
    """Compare the others of as many cores with the fastest, as far as the spread allows."""
    best = contenders[0]
    sentences = []
    for other in contenders[1:]:
        if other.quartiles[0] <= best.quartiles[1]:
            sentences.append(f"{other.setup} is as fast within the spread ({best.median / other.median:.2f} of it).")
        else:
            sentences.append(f"{other.setup} reaches {best.median / other.median:.2f} of it.")
    return sentences


def _loss(best: Result, one: Result, spread: float) -> str:
    lost = losses(best, one)
    total = 1 / efficiency(best, one) - 1
    part = max(lost, key=lambda name: lost[name])
    if total < WORTH_MENTIONING:
        return "Nothing worth mentioning is lost between one core and these."
    if 1 - min(best.granted, one.granted) > NOISY:
        return "Other programs had a part of the cores, so no bottleneck is named."
    if spread > max(NOISY, total):
        return f"A step costs {total:.0%} more core time than on one core, less than the noise: no bottleneck is named."
    return (
        f"A step costs {total:.0%} more core time than on one core; the bottleneck, {lost[part]:.1%} of one core's "
        f"step, is {REASONS[part]}."
    )
