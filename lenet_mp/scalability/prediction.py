"""What a step would take on a cluster, from the times of one machine and a few assumptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.plan import GROUP_SIZE
from lenet_mp.scalability.scaling import COMPUTE, REST, UPDATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.scalability.scaling import Result


@dataclass(frozen=True)
class Cluster:
    """What a prediction assumes of machines that are not here.

    Attributes
    ----------
    latency, bandwidth : float
        Seconds of a message between two nodes, and bytes a second of each node's link.
    disk : float
        Bytes a second that each node reads its own shards with; 0 for shards in its memory.
    """

    latency: float
    bandwidth: float
    disk: float

    def allreduce(self, ranks: int, size: int) -> float:
        """Seconds of an allreduce of ``size`` bytes by recursive halving and doubling."""
        if ranks == 1:
            return 0.0
        return 2 * math.ceil(math.log2(ranks)) * self.latency + 2 * (1 - 1 / ranks) * size / self.bandwidth


@dataclass(frozen=True)
class Prediction:
    """One step on ``ranks`` nodes.

    Attributes
    ----------
    seconds, rate : float
        Of the step, and samples a second.
    efficiency : float
        Samples a second and node, against one node alone.
    noisy_efficiency : float
        The same, where every step waits for the slowest of nodes as restless as the measured one.
    reading : float
        Bytes a second that each node reads.
    """

    ranks: int
    batch_size: int
    seconds: float
    rate: float
    efficiency: float
    noisy_efficiency: float
    reading: float


@dataclass(frozen=True)
class Node:
    """A measured setup of one rank, taken as a node of a cluster.

    Attributes
    ----------
    result : Result
        Whose rank is the node; its threads have the groups of a step dealt to them.
    image_bytes, message_bytes : int
        Of a sample, and of what a step reduces.
    """

    result: Result
    image_bytes: int
    message_bytes: int

    def predict(self, cluster: Cluster, ranks: int, batch_size: int) -> Prediction:
        """Predict a step of ``batch_size`` samples on ``ranks`` such nodes.

        The largest share of whole groups decides; reading goes on beside the computing.
        """
        seconds = self._seconds(cluster, ranks, batch_size)
        rate = batch_size / seconds
        alone = self.result.setup.batch_size / self._seconds(cluster, 1, self.result.setup.batch_size)
        reading = rate * self.image_bytes / ranks
        noisy = batch_size / self._seconds(cluster, ranks, batch_size, slowest(self.result.seconds, ranks))
        return Prediction(ranks, batch_size, seconds, rate, rate / (ranks * alone), noisy / (ranks * alone), reading)

    def _seconds(self, cluster: Cluster, ranks: int, batch_size: int, longer: float = 1.0) -> float:
        setup, parts = self.result.setup, self.result.parts
        mine = math.ceil(_groups(batch_size) / ranks)
        a_group = parts[COMPUTE] / math.ceil(_groups(setup.batch_size) / setup.threads)
        compute = longer * a_group * math.ceil(mine / setup.threads)
        read = min(mine * GROUP_SIZE, batch_size) * self.image_bytes / cluster.disk if cluster.disk else 0.0
        return max(compute, read) + cluster.allreduce(ranks, self.message_bytes) + parts[UPDATE] + parts[REST]


def slowest(seconds: NDArray[np.float64], ranks: int) -> float:
    """Return the expected largest of ``ranks`` independent draws from measured times, in units of their median."""
    share = (np.arange(len(seconds) + 1) / len(seconds)) ** ranks
    return float(np.sort(seconds) @ np.diff(share) / np.median(seconds))


def _groups(samples: int) -> int:
    return -(-samples // GROUP_SIZE)
