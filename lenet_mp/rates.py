"""How fast the engine is here: the machine's peak, single layers, the whole step. What ``lenet-mp benchmark`` prints.

Wall-clock times are noisy, so each figure is taken from many short measurements: a peak and a layer are the best of
them, a step's rate is their median.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp._native import c_layers, isa_index, lib
from lenet_mp.augmentation import Augment, Augmentation
from lenet_mp.descent import Momentum
from lenet_mp.networks.geometry import Kind
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.plan import COUNTS, GROUP_SIZE, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lenet_mp.networks.geometry import Layer
    from lenet_mp.networks.network import Network

PASSES = {
    "forward": lib.LENET_PASS_FORWARD,
    "backward input": lib.LENET_PASS_INPUT,
    "backward parameters": lib.LENET_PASS_PARAMETERS,
}
FEWEST_STEPS, MOST_STEPS = 3, 100_000


@dataclass(frozen=True)
class LayerRate:
    """One pass of one layer, alone on one thread: microseconds a sample, and FLOP/s where it is multiply-adds."""

    layer: str
    kind: str
    direction: str
    microseconds: float
    flops_per_second: float | None


def fma_peak(threads: int, *, trials: int = 20) -> float:
    """FLOP/s of ``threads`` threads that do nothing but independent fused multiply-adds: the best of ``trials``."""
    return float(max(lib.lenet_fma_rate(threads, isa_index()) for _ in range(trials)))


def multiply_adds(layer: Layer) -> int:
    """Multiply-adds of one pass of a convolution or dense layer over one sample; 0 for other layers."""
    return layer.fan_in * int(np.prod(layer.output_shape)) if layer.kind in (Kind.CONV, Kind.DENSE) else 0


def step_flops(layers: Sequence[Layer]) -> int:
    """FLOPs of one sample's step, a multiply-add being 2: three passes a layer, but no input gradient of the first."""
    work = [multiply_adds(layer) for layer in layers]
    return 2 * (3 * sum(work) - work[0])


def layer_rates(layers: Sequence[Layer], *, trials: int = 5) -> list[LayerRate]:
    """Every pass of every layer that a step makes, each the best of ``trials``."""
    rows = []
    for index, layer in enumerate(layers):
        for direction, number in PASSES.items():
            if (direction == "backward parameters" and not layer.parameter_count) or (
                direction == "backward input" and index == 0):
                continue
            best = min(lib.lenet_layer_seconds(c_layers([layer]), number, isa_index()) for _ in range(trials))
            if best < 0:
                raise MemoryError(f"no memory to measure layer {layer.name}: use smaller images")
            flops = 2 * multiply_adds(layer) * GROUP_SIZE
            rows.append(LayerRate(layer.name, str(layer.kind), direction, best / GROUP_SIZE * 1e6,
                                  flops / best if flops else None))
    return rows


class Workout:
    """Steps of one network on random pixels in memory: forward, backward and update, as in training.

    Attributes
    ----------
    batch : int
    plan : Plan
    """

    def __init__(
        self, network: Network, batch: int, threads: int, augmentation: Augmentation = Augmentation()  # noqa: B008 - frozen
    ) -> None:
        rng = np.random.default_rng(0)
        scale, offset = scale_and_offset("n1p1")
        self.batch = batch
        self.plan = Plan(network.layers, scale=scale, offset=offset, threads=threads)
        self._images = rng.integers(0, 256, (batch, *network.input_shape), dtype=np.uint8)
        self._addresses = self._images.ctypes.data + np.arange(batch, dtype=np.uintp) * self._images[0].nbytes
        self._labels = rng.integers(0, network.classes, batch).astype(np.int32)
        self._starts = np.append(np.arange(0, batch, GROUP_SIZE), batch).astype(np.int32)
        self._parameters = network.initialise(0)
        self._optimizer = Momentum(network.parameter_count, momentum=0.95, weight_decay=0.0, threads=threads)
        self._totals = np.zeros(network.parameter_count + COUNTS, np.int64)
        self._counts = np.zeros(COUNTS, np.int64)
        samples = np.arange(batch, dtype=np.int64)
        self._augments = (Augment(augmentation, 0, epoch, samples) for epoch in itertools.count(1))

    def train(self) -> None:
        """One step, from pixels to updated weights."""
        self._step(None)

    def train_augmented(self) -> None:
        """One step of images that are changed as they are read, each time in another way."""
        self._step(next(self._augments))

    def _step(self, augment: Augment | None) -> None:
        self.plan.step(self._parameters, self._addresses, self._labels, self._starts, limit=2.0**17,
                       totals=self._totals, augment=augment)
        self._optimizer.update(self._parameters, self._totals[:-COUNTS], 1e-6)

    def evaluate(self) -> None:
        """Forward and counts only."""
        self.plan.evaluate(self._parameters, self._addresses, self._labels, totals=self._counts)

    def rate(self, work: Callable[[], None], seconds: float) -> float:
        """Images a second: the median over calls of ``work``, a method of this object, in ``seconds``."""
        return self.rates([work], seconds)[0]

    def rates(self, works: Sequence[Callable[[], None]], seconds: float) -> list[float]:
        """Images a second of each of ``works``, which take turns, so that all meet the same machine."""
        for work in works:
            work()
        times: list[list[float]] = [[] for _ in works]
        end = time.perf_counter() + seconds * len(works)
        while len(times[0]) < FEWEST_STEPS or (time.perf_counter() < end and len(times[0]) < MOST_STEPS):
            for work, own in zip(works, times, strict=True):
                start = time.perf_counter()
                work()
                own.append(time.perf_counter() - start)
        return [self.batch / statistics.median(own) for own in times]
