"""The report of ``lenet-mp scale``: tables, one paragraph that names the bottleneck, a prediction."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import tables
from lenet_mp.scalability.prediction import Node
from lenet_mp.scalability.scale_verdict import verdict
from lenet_mp.scalability.scaling import PARTS, Setup, efficiency, fit_network, karp_flatt, speedup
from lenet_mp.training.config import MAX_SAMPLES_A_STEP
from lenet_mp.training.environment import processor

if TYPE_CHECKING:
    from lenet_mp.scalability.prediction import Cluster, Prediction
    from lenet_mp.scalability.scale_runs import Course, Measured
    from lenet_mp.scalability.scaling import Network, Result

PREDICTED = (1, 16, 64, 256, 1024, 4096)
SHARED = "cores shared"


@dataclass(frozen=True)
class Report:
    """All figures, and their text.

    Attributes
    ----------
    course : Course
    batch_size : int
        Of strong scaling, and of one core in weak scaling.
    cores : int
        Cores that were there: setups with more threads in all are shown, and nothing is concluded from them.
    measured : Measured
    cluster : Cluster
    """

    course: Course
    batch_size: int
    cores: int
    measured: Measured
    cluster: Cluster

    @property
    def one(self) -> Result:
        """The result on one core."""
        return self.measured.results[Setup(1, 1, self.batch_size)]

    @property
    def strong(self) -> list[Result]:
        """Results with the same work, by cores."""
        return self._sorted([r for s, r in self.measured.results.items() if s.batch_size == self.batch_size])

    @property
    def weak(self) -> list[Result]:
        """Results with the same work for every core, by cores."""
        everything = self.measured.results.items()
        return self._sorted([r for s, r in everything if s.batch_size == self.batch_size * s.cores])

    @cached_property
    def network(self) -> Network | None:
        """The line through the allreduce's times, or None where none was measured."""
        messages = self.measured.messages
        return fit_network(list(messages), [float(np.median(t)) for t in messages.values()]) if messages else None

    @property
    def node(self) -> Node:
        """The one-rank setup with the most threads that had a core each."""
        alone = [r for r in self.strong if r.setup.ranks == 1 and r.setup.cores <= self.cores]
        return Node(alone[-1], self.measured.image_bytes, self.measured.message_bytes)

    def predictions(self) -> list[tuple[Prediction, Prediction]]:
        """Strong and weak, for each number of ranks of ``PREDICTED``; none where no rank was measured on all cores."""
        node = self.node
        if node.result.setup.cores < self.cores:
            return []
        grown = self.batch_size * node.result.setup.cores
        return [
            (node.predict(self.cluster, ranks, self.batch_size), node.predict(self.cluster, ranks, grown * ranks))
            for ranks in PREDICTED
        ]

    def text(self) -> str:
        """Return the whole report."""
        parts = [self._head(), "\nstrong scaling: the same step on more cores\n", self._steps(self.strong)]
        parts += ["\nweak scaling: the same work for every core\n", self._steps(self.weak)]
        parts += ["\nshares of a step (strong scaling)\n", self._shares()]
        parts += [self._messages(), f"\n{verdict(self.strong, self.cores)}\n", self._prediction()]
        return "".join(parts)

    @staticmethod
    def _sorted(results: list[Result]) -> list[Result]:
        return sorted(results, key=lambda r: (r.setup.cores, r.setup.threads))

    def _head(self) -> str:
        launcher = self.course.launcher
        mpi = f"{launcher.family} {launcher.version}".strip() if launcher else "no MPI: one rank only"
        load = os.getloadavg()[0]
        return (
            f"model {self.course.model}, {self.batch_size} samples a step on one core, {self.measured.isa}, {mpi}\n"
            f"{processor()}, cores: {self.cores}, load now: {load:.1f}\n"
            f"{self.course.rounds} rounds of {self.course.steps} steps, setups in turns; ms a step: median, quartiles\n"
        )

    def _steps(self, results: list[Result]) -> str:
        header = ("ranks x threads", "batch", "ms", "25 %", "75 %", "images/s", "speed-up", "efficiency", "serial",
                  "cores got", "")  # fmt: skip
        lines = []
        for result in results:
            low, high = result.quartiles
            cells = [str(result.setup), str(result.setup.batch_size), *(_ms(t) for t in (result.median, low, high))]
            cells += [f"{result.rate:,.0f}", f"{speedup(result, self.one):.2f}"]
            if result.setup.cores > self.cores:
                cells += ["", "", f"{result.granted:.0%}", SHARED]
            else:
                serial = karp_flatt(result, self.one)
                cells += [f"{efficiency(result, self.one):.0%}", "" if np.isnan(serial) else f"{serial:.3f}"]
                cells += [f"{result.granted:.0%}", ""]
            lines.append(cells)
        return tables.as_text(header, lines)

    def _shares(self) -> str:
        lines = [
            [str(r.setup), *(f"{_ms(r.parts[part])} ({r.parts[part] / r.median:.1%})" for part in PARTS)]
            for r in self.strong
        ]
        return tables.as_text(("ms (share)", *PARTS), lines)

    def _messages(self) -> str:
        if self.network is None:
            return ""
        network, size = self.network, self.measured.message_bytes
        bandwidth = f"{network.bandwidth / 1e9:.2f} GB/s"
        return (
            f"\nallreduce of n bytes on {self.measured.message_ranks} ranks here: "
            f"{network.latency * 1e6:.1f} us + n / {bandwidth} (median error of the line {network.error:.0%});\n"
            f"a step reduces {size:,} bytes: {network.seconds(size) * 1e3:.2f} ms\n"
        )

    def _prediction(self) -> str:
        if not self.predictions():
            return "\nno prediction: no setup of one rank was measured that uses all cores\n"
        header = ("nodes", "strong: ms", "images/s", "efficiency", "noisy", "weak: batch", "ms", "images/s",
                  "efficiency", "noisy", "MB/s read")  # fmt: skip
        lines = []
        for strong, weak in self.predictions():
            cells = [f"{strong.ranks:,}", _ms(strong.seconds), f"{strong.rate:,.0f}", f"{strong.efficiency:.1%}"]
            cells += [f"{strong.noisy_efficiency:.1%}", f"{weak.batch_size:,}", _ms(weak.seconds), f"{weak.rate:,.0f}"]
            cells += [f"{weak.efficiency:.1%}", f"{weak.noisy_efficiency:.1%}", f"{weak.reading / 1e6:,.0f}"]
            lines.append(cells)
        return f"\nprediction (not measured)\n{tables.as_text(header, lines)}{self._assumptions()}"

    def _assumptions(self) -> str:
        cluster = self.cluster
        disk = f"a disk of {cluster.disk / 1e6:,.0f} MB/s" if cluster.disk else "its shards in memory"
        text = (
            f"It assumes: every node is one rank of {self.node.result.setup.threads} threads as measured here, with "
            f"{disk} (each node reads the last column); a network of {cluster.latency * 1e6:g} us a message and "
            f"{cluster.bandwidth * 8 / 1e9:g} Gbit/s a node without congestion; an allreduce by recursive halving and "
            "doubling; --streams not less than the ranks; no node slower than another. 'noisy': nodes are as restless "
            "as this machine was, each on its own, and every step waits for the slowest. A step's groups of 16 samples "
            "are not divided, so strong scaling ends where there are more threads than groups. A larger batch needs "
            "another learning rate and may learn less from a sample: that is not counted here."
        )
        if any(weak.batch_size > MAX_SAMPLES_A_STEP for _, weak in self.predictions()):
            text += (
                f" 'lenet-mp train' takes at most {MAX_SAMPLES_A_STEP:,} samples a step: rows with more tell what they "
                "would take without that limit."
            )
        return f"{textwrap.fill(text, 118, break_on_hyphens=False)}\n"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"
