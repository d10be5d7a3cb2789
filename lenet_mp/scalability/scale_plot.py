"""The picture of ``lenet-mp scale``: speed-up, where a step's time goes, the allreduce, the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.results import figures
from lenet_mp.results.figures import BLUE, GREEN, GREY, ORANGE, PALETTE
from lenet_mp.scalability.scaling import PARTS, efficiency, speedup

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from lenet_mp.scalability.scale_report import Report
    from lenet_mp.scalability.scaling import Result

COLORS = dict(zip(PARTS, (BLUE, PALETTE[3], ORANGE, GREEN, GREY), strict=True))
HATCHES = dict(zip(PARTS, ("", "//", "", "..", ""), strict=True))
MOST_BARS = 12


def draw(report: Report, path: Path) -> None:
    """Draw the four panels and replace ``path`` by them."""
    figure = figures.new_figure(11, 8)
    (speed, shares), (messages, cluster) = figure.subplots(2, 2)
    _speed(speed, report)
    _shares(shares, report)
    _messages(messages, report)
    _cluster(cluster, report)
    for axes in (speed, shares, messages, cluster):
        figures.plain(axes, grid=axes is not shares)
    figures.save(figure, path)


def _speed(axes: Axes, report: Report) -> None:
    """Speed-up over cores, with the spread of the quartiles; setups that had to share cores are hollow and grey."""
    most = max(result.setup.cores for result in [*report.strong, *report.weak])
    axes.plot([1, most], [1, most], color=GREY, linestyle=":", linewidth=1.2, label="ideal")
    series = (
        ("strong, threads alone", BLUE, "o", [r for r in report.strong if r.setup.ranks == 1]),
        ("strong, ranks", ORANGE, "s", [r for r in report.strong if r.setup.ranks > 1]),
        ("weak, all", GREEN, "^", [r for r in report.weak if r.setup.cores > 1]),
    )
    for place, (label, color, marker, results) in enumerate(series):
        fair = [r for r in results if r.setup.cores <= report.cores]
        _points(axes, report, fair, 0.03 * (place - 1), label=label, color=color, marker=marker)
    shared = [r for r in report.strong if r.setup.cores > report.cores]
    _points(axes, report, shared, 0, label="cores shared: no conclusion", color=GREY, marker="s", mfc="white")
    ticks = sorted({result.setup.cores for result in [*report.strong, *report.weak]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(0.85, most * 1.18)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("cores: ranks x threads")
    axes.set_ylabel("speed-up (bars: quartiles)")
    axes.set_title("speed against one core", fontsize=11)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _points(axes: Axes, report: Report, results: list[Result], shift: float, **style: str) -> None:
    """Draw one series; ``shift`` moves it a little aside, as a share of the cores, so that spreads stay apart."""
    if not results:
        return
    x = [result.setup.cores * (1 + shift) for result in results]
    y = np.array([speedup(result, report.one) for result in results])
    ends = np.array([[r.median / t for t in reversed(r.quartiles)] for r in results]).T * y
    spread = np.abs(ends - y)
    axes.errorbar(x, y, yerr=spread, capsize=3, linestyle="none", markersize=6, **style)  # type: ignore[arg-type]


def _shares(axes: Axes, report: Report) -> None:
    """Core time of a step (its time x cores) by parts, for each setup of strong scaling that had its cores alone."""
    results = [r for r in report.strong if r.setup.cores <= report.cores][-MOST_BARS:]
    place = np.arange(len(results))
    left = np.zeros(len(results))
    for part in PARTS:
        width = np.array([1e3 * max(0.0, r.parts[part]) * r.setup.cores for r in results])
        axes.barh(
            place, width, left=left, height=0.6, label=part, color=COLORS[part], hatch=HATCHES[part],
            edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        left += width
    for row, result in enumerate(results):
        axes.text(left[row], row, f" {efficiency(result, report.one):.0%}", va="center", fontsize=9)
    axes.set_yticks(place, [f"{result.setup}" for result in results])
    axes.invert_yaxis()
    axes.set_xlim(0, left.max() * 1.12)
    axes.set_xlabel("core time of a step: ms x cores (behind the bar: efficiency)")
    axes.set_ylabel("ranks x threads")
    axes.set_title("where the time goes", fontsize=11)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _messages(axes: Axes, report: Report) -> None:
    """Allreduce time over message size, with the fitted line and the size that a step reduces."""
    axes.set_title("allreduce on this machine", fontsize=11)
    if report.network is None:
        _nothing(axes, "not measured: one rank only")
        return
    sizes = np.array(list(report.measured.messages))
    low, middle, high = (
        1e6 * np.array([np.percentile(times, share) for times in report.measured.messages.values()])
        for share in (25, 50, 75)
    )
    bars = np.stack([middle - low, high - middle])
    label = f"{report.measured.message_ranks} ranks, median and quartiles"
    axes.errorbar(sizes, middle, yerr=bars, fmt="o", color=BLUE, capsize=3, markersize=5, label=label)
    fine = np.geomspace(sizes.min(), sizes.max(), 100)
    network = report.network
    label = f"{network.latency * 1e6:.1f} us + n / {network.bandwidth / 1e9:.2f} GB/s"
    axes.plot(fine, 1e6 * (network.latency + fine / network.bandwidth), color=ORANGE, linewidth=1.5, label=label)
    axes.axvline(report.measured.message_bytes, color=GREY, linestyle="--", linewidth=1.2, label="a step of this model")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("message (bytes)")
    axes.set_ylabel("time (us)")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _nothing(axes: Axes, reason: str) -> None:
    axes.text(0.5, 0.5, reason, ha="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()


def _cluster(axes: Axes, report: Report) -> None:
    """Draw the predicted efficiency over the number of nodes."""
    pairs = report.predictions()
    if not pairs:
        _nothing(axes, "no prediction: no rank was measured on all cores")
        return
    nodes = [strong.ranks for strong, _ in pairs]
    for which, label, color, marker in ((0, "strong", BLUE, "o"), (1, "weak", ORANGE, "s")):
        calm = [100 * pair[which].efficiency for pair in pairs]
        noisy = [100 * pair[which].noisy_efficiency for pair in pairs]
        axes.plot(nodes, calm, color=color, marker=marker, markersize=5, linestyle="--", label=label)
        axes.plot(nodes, noisy, color=color, marker=marker, markersize=5, linestyle=":", mfc="white",
                  label=f"{label}, nodes as noisy as here")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(nodes, [f"{n:,}" for n in nodes])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, max(105, 1.05 * axes.dataLim.ymax))  # caches may make a larger batch a little better than 100 %
    axes.set_xlabel(f"nodes of {report.node.result.setup.threads} cores")
    axes.set_ylabel("efficiency (%)")
    cluster = report.cluster
    assumed = f"{cluster.latency * 1e6:g} us, {cluster.bandwidth * 8 / 1e9:g} Gbit/s"
    axes.set_title(f"predicted, not measured ({assumed})", fontsize=11)
    axes.legend(frameon=False, fontsize=8)
