"""The arithmetic of scaling, against cases that are known by hand."""

import math

import numpy as np
import pytest

from lenet_mp.scalability import prediction, scaling
from lenet_mp.scalability.scaling import ALLREDUCE, COMPUTE, PARTS, REST, UPDATE, WAITING


def result(ranks, threads, batch_size, seconds, **parts):
    """Return a result whose steps all took ``seconds``."""
    setup = scaling.Setup(ranks, threads, batch_size)
    named = {"compute": COMPUTE, "waiting": WAITING, "allreduce": ALLREDUCE, "update": UPDATE, "rest": REST}
    return scaling.Result(setup, np.array([seconds] * 3), {named[n]: parts.get(n, 0.0) for n in named})


def amdahl(serial, cores, **setup):
    """Return the step that Amdahl's law gives for a serial part, 1 s on one core."""
    return result(cores, 1, 100, serial + (1 - serial) / cores, **setup)


@pytest.mark.parametrize("serial", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("cores", [2, 4, 64])
def test_the_serial_fraction_is_found_again(serial, cores):
    """Karp and Flatt's fraction of a program that obeys Amdahl's law is its serial part."""
    one, many = amdahl(serial, 1), amdahl(serial, cores)
    assert scaling.karp_flatt(many, one) == pytest.approx(serial, abs=1e-12)
    assert math.isnan(scaling.karp_flatt(one, one))


def test_weak_scaling_counts_samples():
    """Twice the samples in the same time on two cores is a speed-up of 2 and an efficiency of 1."""
    one, two = result(1, 1, 100, 2.0), result(2, 1, 200, 2.0)
    assert scaling.speedup(two, one) == 2
    assert scaling.efficiency(two, one) == 1


def test_losses_add_up_to_what_is_lost():
    """The parts' losses sum to 1 / efficiency - 1, for equal and for grown batches."""
    one = result(1, 1, 100, 1.0, compute=0.9, update=0.06, rest=0.04)
    for batch, seconds in ((100, 0.65), (200, 1.3)):
        two = result(2, 1, batch, seconds, compute=seconds - 0.17, waiting=0.05, allreduce=0.02, update=0.06, rest=0.04)
        lost = scaling.losses(two, one)
        assert set(lost) == set(PARTS)
        assert sum(lost.values()) == pytest.approx(1 / scaling.efficiency(two, one) - 1)


def test_quartiles_and_median():
    """The spread is told by quartiles of the single steps."""
    many = scaling.Result(scaling.Setup(1, 1, 8), np.array([5.0, 1, 2, 3, 4]), {})
    assert (many.median, many.quartiles, many.rate) == (3.0, (2.0, 4.0), 8 / 3)


def test_a_line_is_found_again():
    """Latency and bandwidth of exact times come back; noise of 10 % shifts them by less than 10 %."""
    sizes = [8, 1024, 65536, 1 << 20]
    times = [5e-6 + size / 2e9 for size in sizes]
    exact = scaling.fit_network(sizes, times)
    assert (exact.latency, exact.bandwidth) == (pytest.approx(5e-6), pytest.approx(2e9))
    assert exact.error < 1e-9
    noisy = scaling.fit_network(sizes, [t * f for t, f in zip(times, (1.1, 0.9, 1.1, 0.9), strict=True)])
    assert (noisy.latency, noisy.bandwidth) == (pytest.approx(5e-6, rel=0.1), pytest.approx(2e9, rel=0.1))


@pytest.mark.parametrize("times", [[1e-5, 1e-5, 1e-5, 0.9e-5], [1e-9, 1e-6, 64e-6, 1100e-6]])
def test_a_line_is_never_negative(times):
    """Times that fall with size, or start below zero, give a line without negative parts."""
    line = scaling.fit_network([8, 1024, 65536, 1 << 20], times)
    assert line.latency >= 0
    assert line.bandwidth > 0
    assert min(line.seconds(0), line.seconds(1e9)) >= 0


CLUSTER = prediction.Cluster(latency=10e-6, bandwidth=1e9, disk=0)


def test_an_allreduce_between_nodes():
    """One rank sends nothing; four ranks pay 2 log2(4) latencies and 2 (1 - 1/4) times the bytes."""
    assert CLUSTER.allreduce(1, 1000) == 0
    assert CLUSTER.allreduce(4, 1_000_000) == pytest.approx(4 * 10e-6 + 1.5e-3)


def test_a_prediction_for_one_node_is_what_was_measured():
    """Without other ranks, the predicted step is the measured one, at efficiency 1."""
    node = prediction.Node(result(1, 2, 320, 1.0, compute=0.9, update=0.06, rest=0.04), 1000, 1_000_000)
    one = node.predict(CLUSTER, 1, 320)
    assert one.seconds == pytest.approx(1.0)
    assert one.efficiency == one.noisy_efficiency == pytest.approx(1)
    assert one.reading == pytest.approx(320 * 1000)


@pytest.mark.parametrize(("ranks", "expected"), [(1, 1.25), (2, 1.375), (1000, 1.5)])
def test_the_slowest_of_many(ranks, expected):
    """Of times 1 and 1.5, alike often: one draw is 1.25 on average, the larger of two 1.375, of many 1.5."""
    assert prediction.slowest(np.array([1.5, 1.0]), ranks) * 1.25 == pytest.approx(expected)


def test_more_nodes_than_groups_bring_nothing():
    """A step of 20 groups is no faster on 40 nodes of two threads than on 10, but for the dearer allreduce."""
    node = prediction.Node(result(1, 2, 320, 1.0, compute=1.0), 1000, 1_000_000)
    ten, forty = (node.predict(CLUSTER, ranks, 320) for ranks in (10, 40))
    assert ten.seconds == pytest.approx(0.1 + CLUSTER.allreduce(10, 1_000_000))
    assert forty.seconds == pytest.approx(0.1 + CLUSTER.allreduce(40, 1_000_000))
    assert forty.efficiency < ten.efficiency / 3.9


def test_a_slow_disk_decides():
    """Where reading takes longer than computing, the step takes as long as reading."""
    node = prediction.Node(result(1, 1, 160, 1.0, compute=1.0), 1000, 0)
    slow = prediction.Cluster(latency=0, bandwidth=1e9, disk=40_000.0)
    assert node.predict(slow, 2, 160).seconds == pytest.approx(80 * 1000 / 40_000)
