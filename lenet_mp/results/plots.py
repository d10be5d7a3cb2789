"""Pictures of a run's figures: accuracy and loss by epoch, the confusion matrix, the balance of classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.results import figures
from lenet_mp.results.figures import BLUE, GREEN, GREY, ORANGE, PLAIN_TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from lenet_mp.results.figures import Place

    Row = Mapping[str, float | str | None]

MAX_NUMBERED = 25
"""Up to this many classes, every cell of a confusion matrix shows its count."""
MARKERS = "osD^v*"
MAX_NAMED = 100
"""With more classes, only some of them are named on an axis."""


def draw_curves(history: Sequence[Row], place: Place, *, title: str = "", test_top1: float | None = None) -> None:
    """Draw accuracy and loss by epoch, side by side.

    Parameters
    ----------
    history : sequence of mappings
        Rows of ``metrics.csv``: ``epoch``, ``loss``, and ``train_top1`` and ``val_top1`` as shares 0..1. A missing
        value, None or an empty text leaves a gap.
    place : Path or BytesIO
        A file is replaced atomically; its suffix chooses the format.
    test_top1 : float, optional
        Share of the test images that were right, drawn as a level.
    """
    figure, accuracy, loss = _two_panels()
    epochs = _series(history, "epoch")
    _line(accuracy, epochs, 100 * _series(history, "train_top1"), "training {:.1f} %", BLUE, "o")
    _line(accuracy, epochs, 100 * _series(history, "val_top1"), "validation {:.1f} %", ORANGE, "s")
    if test_top1 is not None:
        label = f"test {100 * test_top1:.1f} %"
        accuracy.axhline(100 * test_top1, color=GREEN, linestyle="--", linewidth=1.5, label=label)
    accuracy.set_ylabel("top-1 accuracy (%)")
    accuracy.set_ylim(bottom=0)
    _line(loss, epochs, _series(history, "loss"), "training {:.4g}", BLUE, "o")
    loss.set_ylabel("training loss a sample")
    for axes in (accuracy, loss):
        _finish(axes, epochs)
    if title:
        figure.suptitle(figures.text(title, 90), fontsize=11, **PLAIN_TEXT)
    figures.save(figure, place)


def draw_comparison(runs: Mapping[str, Sequence[Row]], place: Place) -> None:
    """Draw validation accuracy and training loss of several runs by epoch; ``runs`` maps a name to its history."""
    figure, accuracy, loss = _two_panels()
    for number, (name, history) in enumerate(runs.items()):
        color, marker = figures.PALETTE[number % len(figures.PALETTE)], MARKERS[number % len(MARKERS)]
        label = figures.text(name).replace("{", "{{").replace("}", "}}")
        epochs = _series(history, "epoch")
        _line(accuracy, epochs, 100 * _series(history, "val_top1"), f"{label} {{:.1f}} %", color, marker)
        _line(loss, epochs, _series(history, "loss"), f"{label} {{:.4g}}", color, marker)
    accuracy.set_ylabel("validation top-1 accuracy (%)")
    accuracy.set_ylim(bottom=0)
    loss.set_ylabel("training loss a sample")
    every = np.concatenate([_series(history, "epoch") for history in runs.values()])
    for axes in (accuracy, loss):
        _finish(axes, every)
    figures.save(figure, place)


def _two_panels() -> tuple[Figure, Axes, Axes]:
    """Return a figure with two panels side by side.

    Their places are fixed, with room for numbers of seven digits: training draws the curves after every epoch, and
    finding the best places takes longer than drawing.
    """
    figure = figures.new_figure(10, 4.25, exact=True)
    left, right = figure.subplots(
        1, 2, gridspec_kw={"left": 0.085, "right": 0.985, "bottom": 0.13, "top": 0.92, "wspace": 0.24}
    )
    return figure, left, right


def _finish(axes: Axes, epochs: NDArray[np.float64]) -> None:
    """Add what every panel by epoch has: faint lines, whole numbers, a legend where there is a line."""
    figures.plain(axes, grid=True)
    _epoch_axis(axes, epochs)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="best")


def _series(history: Sequence[Row], key: str) -> NDArray[np.float64]:
    """Values of one column, NaN where there is none."""
    values = (row.get(key) for row in history)
    return np.array([math.nan if value is None or value == "" else float(value) for value in values])


def _line(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], label: str, color: str, marker: str) -> None:
    """Add a line whose label states its last value; nothing where there is no value at all."""
    known = np.flatnonzero(np.isfinite(y))
    if known.size:
        crowded = len(known) > 40  # noqa: PLR2004 - markers would touch each other
        label = label.format(y[known[-1]])
        axes.plot(x, y, color=color, label=label, linewidth=1.8, marker="" if crowded else marker, markersize=4.5)


def _epoch_axis(axes: Axes, epochs: NDArray[np.float64]) -> None:
    """Whole numbers from the first epoch to the last, with room on both sides even for one epoch."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    low, high = (epochs.min(), epochs.max()) if epochs.size else (1, 1)
    margin = max(0.4, 0.04 * (high - low))
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def draw_confusion(counts: NDArray[np.integer], class_names: Sequence[str], place: Place) -> None:
    """Draw a confusion matrix: a row is a true class, a column what the network took it for.

    Parameters
    ----------
    counts : (K, K) integers
        ``counts[label, prediction]``. Colour shows the share of its row.
    class_names : sequence of str
    place : Path or BytesIO
        A file is replaced atomically.
    """
    classes = len(class_names)
    # Never smaller than the space the axis labels and the colour bar need, nor larger than 16 inches.
    side = min(max(3.2, classes * (0.42 if classes <= MAX_NUMBERED else 0.2)), 16.0)
    figure = figures.new_figure(side + 2.2, side + 1.6)
    axes = figure.subplots()
    sums = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.maximum(sums, 1)
    top = float(max(shares.max(), 1))
    edges = np.arange(classes + 1) - 0.5
    image = axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=top)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    _class_axes(axes, class_names, cell_points=72 * side / classes)
    if classes <= MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.6 * top else "black"
            size = 8 if count < 1000 else 6.5  # noqa: PLR2004 - four digits are wider than a cell
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=size)
    right = int(np.trace(counts))
    total = int(counts.sum())
    axes.set_title(f"{right:,} of {total:,} right ({right / max(total, 1):.1%})", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label("share of the true class (%)")
    figures.save(figure, place)


def _class_axes(axes: Axes, class_names: Sequence[str], cell_points: float) -> None:
    """Name the classes on both axes, at a size that fits a cell."""
    every = math.ceil(len(class_names) / MAX_NAMED)
    ticks = range(0, len(class_names), every)
    labels = [figures.text(class_names[tick]) for tick in ticks]
    size = min(9.0, max(5.0, 0.8 * cell_points * every))
    fits = max(map(len, labels)) * 0.7 * size < cell_points * every
    axes.set_xticks(ticks, labels, rotation=0 if fits else 90, fontsize=size, **PLAIN_TEXT)
    axes.set_yticks(ticks, labels, fontsize=size, **PLAIN_TEXT)
    if every == 1:
        borders = np.arange(len(class_names) + 1) - 0.5
        axes.set_xticks(borders, minor=True)
        axes.set_yticks(borders, minor=True)
        axes.grid(which="minor", color="#e4e4e4", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("#bbbbbb")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def draw_class_balance(counts: Mapping[str, NDArray[np.integer]], class_names: Sequence[str], place: Place) -> None:
    """Draw how many images each class has, one panel a split; ``counts`` maps a split's name to (K,) integers."""
    classes = len(class_names)
    figure = figures.new_figure(2 + 3.2 * len(counts), max(2.4, 0.8 + 0.19 * min(classes, MAX_NAMED)))
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    every = math.ceil(classes / MAX_NAMED)
    ticks = range(0, classes, every)
    for axes, (split, values) in zip(panels, counts.items(), strict=True):
        axes.barh(np.arange(classes), values, color=BLUE, height=0.8)
        axes.axvline(values.mean(), color=GREY, linestyle=":", linewidth=1.2)
        axes.set_title(f"{split}: {int(values.sum()):,} images", fontsize=10)
        axes.set_xlabel("images (dotted: mean)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        figures.plain(axes)
    panels[0].set_yticks(ticks, [figures.text(class_names[tick]) for tick in ticks], fontsize=8, **PLAIN_TEXT)
    panels[0].set_ylim(classes - 0.5, -0.5)
    figures.save(figure, place)
