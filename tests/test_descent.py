"""The update: its formula, in float32, the same on every instruction set and any number of threads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from instruction_sets import isa  # noqa: F401 - a fixture

from lenet_mp.descent import Momentum
from lenet_mp.errors import ArrayError
from lenet_mp.plan import QUANTUM

pytestmark = pytest.mark.usefixtures("isa")


def as_totals(gradient):
    """Totals that stand for exactly these float32 values, whose last bits are above the quantum."""
    totals = np.round(np.asarray(gradient, np.float64) / QUANTUM).astype(np.int64)
    assert ((totals * QUANTUM).astype(np.float32) == gradient).all()
    return totals


def in_float32(parameters, velocity, gradient, rate, *, momentum, weight_decay, nesterov, shrink=1.0):
    """The formula of the documentation, one rounding after the other."""
    rate, momentum = np.float32(rate), np.float32(momentum)
    gradient = gradient * np.float32(shrink) if shrink != 1 else gradient
    decrease = gradient * rate
    if weight_decay:
        decrease = decrease + parameters * (np.float32(weight_decay) * rate)
    velocity = velocity * momentum - decrease
    return (parameters - decrease + velocity * momentum if nesterov else parameters + velocity), velocity


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_momentum_follows_its_formula(weight_decay, nesterov, threads):
    """Three updates equal the formula in float32, bit for bit, with more elements than one thread takes."""
    count = 50_003
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=count).astype(np.float32)
    expected, velocity = parameters.copy(), np.zeros(count, np.float32)
    rules = {"momentum": 0.9, "weight_decay": weight_decay, "nesterov": nesterov}
    optimizer = Momentum(count, threads=threads, **rules)
    for _ in range(3):
        gradient = rng.integers(-(2**22), 2**22, count).astype(np.float32) / np.float32(2**20)
        assert optimizer.update(parameters, as_totals(gradient), 0.1) == 0
        expected, velocity = in_float32(expected, velocity, gradient, 0.1, **rules)
    np.testing.assert_array_equal(parameters, expected)
    np.testing.assert_array_equal(optimizer.velocity, velocity)


def test_unit_scales_before_the_only_rounding():
    """A mean is the sum's exact integer times 1 / samples, rounded to float32 once."""
    parameters = np.zeros(3, np.float32)
    totals = np.array([2**40 + 1, -(2**62), 3], np.int64)
    Momentum(3, momentum=0.0, weight_decay=0.0).update(parameters, totals, 1.0, unit=1 / 7)
    np.testing.assert_array_equal(parameters, -(totals * (QUANTUM / 7)).astype(np.float32))


@pytest.mark.parametrize("count", [3, 8, 21])
def test_clipping_keeps_the_direction(count):
    """A gradient above the norm is scaled down to it; one below stays as it is, bit for bit."""
    gradient = np.zeros(count, np.float32)
    gradient[[0, -1]] = 3, 4
    rules = {"momentum": 0.0, "weight_decay": 0.0}
    for largest, shrink in ((5.0, 1.0), (6.0, 1.0), (1.0, 0.2)):
        parameters = np.zeros(count, np.float32)
        assert Momentum(count, **rules).update(parameters, as_totals(gradient), 1.0, largest_norm=largest) == 5
        expected, _ = in_float32(np.zeros(count, np.float32), 0, gradient, 1.0, nesterov=False, shrink=shrink, **rules)
        np.testing.assert_array_equal(parameters, expected)


def test_norm_is_that_of_float64():
    """The norm is float64's: n squares and n additions may each lose half an ulp, 2 n 2^-53 of the sum."""
    totals = np.random.default_rng(1).integers(-(2**41), 2**41, 10_001)
    norm = Momentum(totals.size, momentum=0.0, weight_decay=0.0).update(
        np.zeros(totals.size, np.float32), totals, 0.0, largest_norm=1.0)
    exact = math.sqrt(float(sum(int(x) ** 2 for x in totals))) * QUANTUM
    assert abs(norm - exact) <= exact * totals.size * 2.0**-53  # the root halves what is relative


def test_wrong_arrays_are_refused():
    """Other lengths and types are named, and nothing moves."""
    optimizer = Momentum(4, momentum=0.9, weight_decay=0.0)
    parameters = np.ones(4, np.float32)
    with pytest.raises(ArrayError, match=r"totals: expected int64 \(4,\), got float32"):
        optimizer.update(parameters, np.ones(4, np.float32), 0.1)
    with pytest.raises(ArrayError, match=r"parameters: expected float32 \(4,\), got float32 \(5,\)"):
        optimizer.update(np.ones(5, np.float32), np.ones(4, np.int64), 0.1)
    np.testing.assert_array_equal(parameters, 1)
