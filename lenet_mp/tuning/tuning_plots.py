"""Pictures of searches: loss by learning rate, and validation accuracy by what was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lenet_mp.results import figures
from lenet_mp.results.figures import BLUE, GREEN, GREY, ORANGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

WIDE = 10
"""A logarithmic axis, where the largest value is so many times the smallest."""


def draw_range_test(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], path: Path, *, suggestion: float | None
) -> None:
    """Draw the loss of each step and the smoothed loss by rate; ``path`` is replaced atomically."""
    figure = figures.new_figure(7, 4.25)
    axes = figure.subplots()
    tried = rates[: len(losses)]
    axes.plot(tried, losses, color=GREY, linewidth=0.8, alpha=0.6, label="each step")
    axes.plot(tried, smoothed, color=BLUE, linewidth=2, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, linestyle="--", label=f"suggested {suggestion:g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss a sample")
    if losses:
        # A last step that explodes would flatten everything before it.
        low, high = min(losses), max(smoothed[0], losses[0])
        axes.set_ylim(low - 0.1 * (high - low), high + 0.6 * (high - low) + 1e-6)
    figures.plain(axes, grid=True)
    axes.legend(frameon=False)
    figures.save(figure, path)


def draw_search(
    options: Mapping[str, Sequence[float | str]], accuracies: Sequence[float | None], best: int | None, path: Path
) -> None:
    """Draw the validation accuracy of every trial by each option that was searched.

    Parameters
    ----------
    options : mapping of str to sequence
        What the trials tried, by option.
    accuracies : sequence of float or None
        Share of the validation images that were right, 0..1; None for a trial without a result.
    best : int, optional
        The best trial.
    path : Path
        Replaced atomically.
    """
    figure = figures.new_figure(1.2 + 3.4 * len(options), 3.8)
    panels = figure.subplots(1, len(options), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, options.items(), strict=True):
        _panel(axes, name, values, accuracies, best)
    panels[0].set_ylabel("best validation top-1 (%)")
    if best is not None:
        # Above the panels: a legend's star inside would look like one more trial.
        figure.suptitle(f"star: the best trial, {accuracies[best] or 0:.1%}", fontsize=10)
    figures.save(figure, path)


def _panel(
    axes: Axes, name: str, values: Sequence[float | str], accuracies: Sequence[float | None], best: int | None
) -> None:
    known = [(value, 100 * share) for value, share in zip(values, accuracies, strict=True) if share is not None]
    axes.plot([x for x, _ in known], [y for _, y in known], "o", color=BLUE, markersize=5, alpha=0.7)
    if best is not None:
        share = accuracies[best] or 0.0
        axes.plot([values[best]], [100 * share], "*", color=GREEN, markersize=14)
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) == len(values) and min(numbers) > 0 and max(numbers) >= WIDE * min(numbers):
        axes.set_xscale("log")
    axes.set_xlabel(name.replace("_", " "))
    figures.plain(axes, grid=True)
