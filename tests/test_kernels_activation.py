"""Activations and the loss against float64, over the whole range of float32."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from instruction_sets import isa  # noqa: F401 - a fixture

from lenet_mp import engine
from lenet_mp.errors import ArrayError
from lenet_mp.networks.geometry import ACTIVATIONS

pytestmark = pytest.mark.usefixtures("isa")

ULPS = {"squash": 4, "sigmoid": 4, "tanh": 4, "relu": 0, "prelu": 1, "elu": 4}
"""Stated error bounds; csrc/activation.h promises them."""


def every_magnitude():
    """Floats of both signs, evenly over all exponents from denormals to the largest, and densely around 0 to 100."""
    bits = np.arange(0, 0x7F800000, 9973, dtype=np.uint32).view(np.float32)
    dense = np.linspace(0, 110, 200_001, dtype=np.float32)
    positive = np.concatenate([bits, dense, [np.inf]]).astype(np.float32)
    return np.concatenate([positive, -positive])


def ulps(got, exact):
    """Distance in units of the last place of the exact value's float32 neighbourhood, denormals included."""
    with np.errstate(over="ignore"):
        unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    same = (got == exact) | ((np.abs(exact) > np.finfo(np.float32).max) & np.isinf(got))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.abs(got - exact) / unit)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_error_bound(name):
    """Every activation stays within its stated ulps of float64 from denormals to infinity."""
    x = every_magnitude()
    y = engine.activation_forward(x, name)
    error = ulps(y, reference.activation_forward(x, name))
    worst = int(np.argmax(error))
    assert error[worst] <= ULPS[name], f"{name}({x[worst]!r}) = {y[worst]!r}: {error[worst]:.2f} ulp"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_special_values(name):
    """NaN stays NaN, infinities go to their limits, zero to zero (sigmoid: one half)."""
    y = engine.activation_forward(np.array([np.nan, np.inf, -np.inf, 0.0], np.float32), name)
    high = {"squash": np.float32(1.7159), "sigmoid": 1, "tanh": 1}.get(name, np.inf)
    low = {"squash": -np.float32(1.7159), "sigmoid": 0, "tanh": -1, "relu": 0, "prelu": -np.inf, "elu": -0.5}[name]
    assert np.isnan(y[0])
    np.testing.assert_array_equal(y[1:], [high, low, 0.5 if name == "sigmoid" else 0])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_monotone_to_the_eye(name):
    """Where x grows by a thousandth, y never falls by more than its rounding."""
    x = np.linspace(-12, 12, 24_001, dtype=np.float32)
    y = engine.activation_forward(x, name).astype(np.float64)
    assert (np.diff(y) >= -2 * np.spacing(np.abs(y[1:]).astype(np.float32))).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5, 2, 3), (16,), (1000,), ()])
def test_derivative_from_the_output(name, shape):
    """The derivative, from the output, is right to 6 roundings of its largest term, for any shape."""
    rng = np.random.default_rng(1)
    y = engine.activation_forward(np.asarray(rng.normal(size=shape) * 2, np.float32), name)
    dy = np.asarray(rng.normal(size=shape), np.float32)
    dx = engine.activation_backward(dy, y, name)
    assert dx.shape == shape
    assert (np.abs(dx - reference.activation_backward(dy, y, name)) <= 6 * 2**-24 * 1.2 * np.abs(dy)).all()


@pytest.mark.parametrize("samples", [1, 15, 16, 17])
@pytest.mark.parametrize("classes", [1, 2, 10, 50])
def test_cross_entropy(samples, classes):
    """Loss and gradient follow the definition: a few ulp of the largest term."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(samples, classes)).astype(np.float32) * 5
    labels = rng.integers(0, classes, samples).astype(np.int32)
    loss, dlogits = engine.softmax_cross_entropy(logits, labels)
    expected_loss, expected = reference.softmax_cross_entropy(logits, labels)
    # exp is off by 2 ulp and its argument by a rounding of up to 40; sums of `classes` terms add as many roundings.
    assert np.allclose(dlogits, expected, rtol=0, atol=(6 + 40 + classes) * 2**-24)
    assert np.allclose(loss, expected_loss, rtol=2**-23, atol=(6 + 40 + classes) * 2**-24)
    assert np.allclose(dlogits.astype(float).sum(1), 0, atol=2 * classes * 2**-24)


def test_huge_logits():
    """Logits up to the largest float neither overflow nor lose the loss."""
    big = np.finfo(np.float32).max / 2
    logits = np.array([[1e4, -1e4, 0], [-big, -big, -big], [big, -big, 0], [-1e4, 0, 1e4], [0, 2e4, 2e4]], np.float32)
    loss, dlogits = engine.softmax_cross_entropy(logits, np.array([1, 0, 0, 0, 2], np.int32))
    np.testing.assert_allclose(loss, [2e4, np.log(3), 0, 2e4, np.log(2)], rtol=1e-6)
    expected = [[1, -1, 0], [-2 / 3, 1 / 3, 1 / 3], [0, 0, 0], [-1, 0, 1], [0, 1 / 2, -1 / 2]]
    np.testing.assert_allclose(dlogits, expected, atol=1e-6)


def test_bad_labels_and_names_are_refused():
    """A label outside the classes and an unknown activation are named."""
    logits = np.zeros((3, 4), np.float32)
    for label in (-1, 4):
        with pytest.raises(ArrayError, match=rf"labels: expected 0 to 3, got {label} at index 1"):
            engine.softmax_cross_entropy(logits, np.array([0, label, 1], np.int32))
    with pytest.raises(ArrayError, match="expected one of squash"):
        engine.activation_forward(logits, "swish")
