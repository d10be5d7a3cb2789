"""Learning rates by epoch."""

import numpy as np
import pytest

from lenet_mp.errors import UsageError
from lenet_mp.optimizer import Momentum
from lenet_mp.schedule import ORIGINAL, learning_rates


def test_the_original_schedule():
    """The default is the original program's ten epochs."""
    assert learning_rates(ORIGINAL, 10) == [5e-6] * 2 + [5e-5] * 2 + [2e-5] * 3 + [1e-5] * 3


def test_the_last_rate_goes_on_and_extra_rates_are_cut():
    """A schedule fits any number of epochs."""
    assert learning_rates("0.5*2, .1", 5) == [0.5, 0.5, 0.1, 0.1, 0.1]
    assert learning_rates(ORIGINAL, 1) == [5e-6]


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-1", "1e999", "1*0", "1*", "1,,2", "1*2*3", "nan", "inf", ".", "1e-999", "0x1"]
)
def test_bad_rates_are_refused(text):
    """Anything but positive finite rates is a usage error that shows the form."""
    with pytest.raises(UsageError, match="write RATE or"):
        learning_rates(text, 3)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_momentum_follows_its_formula(weight_decay):
    """Three updates equal the formula in float64, to float32 rounding."""
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=50).astype(np.float32)
    expected, velocity = parameters.astype(np.float64), np.zeros(50)
    optimizer = Momentum(50, momentum=0.9, weight_decay=weight_decay)
    for _ in range(3):
        gradient = rng.normal(size=50).astype(np.float32)
        optimizer.update(parameters, gradient, 0.1)
        velocity = 0.9 * velocity - weight_decay * 0.1 * expected - 0.1 * gradient
        expected = expected + velocity
    # Six roundings an update of values below 8, three updates: 18 halves of an ulp of 8 (2^-21).
    assert np.abs(parameters - expected).max() < 18 * 2.0**-21
    assert parameters.dtype == np.float32
