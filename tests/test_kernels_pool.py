"""Pooling and subsampling against the definition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruction_sets import isa  # noqa: F401 - a fixture

from lenet_mp import engine
from lenet_mp.errors import ArrayError

pytestmark = pytest.mark.usefixtures("isa")

# (N, H, W, C, (KH, KW), stride): the networks' own, then overlapping, leaving pixels out, with a remainder.
SHAPES = [
    (1, 84, 84, 6, (3, 3), 3),
    (2, 10, 10, 16, (2, 2), 2),
    (3, 13, 12, 5, (2, 2), 2),
    (17, 9, 7, 3, (3, 3), 1),
    (16, 8, 9, 2, (2, 3), 4),
    (1, 1, 1, 1, (1, 1), 1),
]
HALF_ULP = 2**-24


def problem(shape, low=-4, high=5):
    n, h, w, c, kernel_size, stride = shape
    rng = np.random.default_rng(n + h + w + c)
    x = rng.integers(low, high, (n, h, w, c)).astype(np.float32)
    dy = rng.integers(-4, 5, (n, *reference.sizes((h, w), kernel_size, stride), c)).astype(np.float32)
    return x, dy, {"kernel_size": kernel_size, "stride": stride}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_average(shape):
    """The mean is the exact sum times the rounded 1 / area: two roundings; exact where the area is a power of two."""
    x, dy, geometry = problem(shape)
    expected = reference.average_pool2d_forward(x, **geometry)
    y = engine.average_pool2d_forward(x, **geometry)
    assert (abs(y - expected) <= 2.01 * HALF_ULP * abs(expected)).all()
    dx = engine.average_pool2d_backward(dy, input_size=x.shape[1:3], **geometry)
    expected_dx = reference.average_pool2d_backward(dy, x.shape, **geometry)
    overlap = np.prod(geometry["kernel_size"])  # windows that may meet at a pixel, one more rounding each
    size = reference.average_pool2d_backward(abs(dy), x.shape, **geometry)
    assert (abs(dx - expected_dx) <= (2.01 + overlap) * HALF_ULP * size).all()
    if np.log2(overlap).is_integer():
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(dx, expected_dx)
        assert np.vdot(dy.astype(float), y) == np.vdot(dx.astype(float), x)


def assert_maximum(shape, values):
    x, dy, geometry = problem(shape, *values)
    np.testing.assert_array_equal(engine.max_pool2d_forward(x, **geometry), reference.max_pool2d_forward(x, **geometry))
    np.testing.assert_array_equal(
        engine.max_pool2d_backward(dy, x, **geometry), reference.max_pool2d_backward(dy, x, **geometry))


@pytest.mark.parametrize("values", [(-4, 5), (0, 2)], ids=["few ties", "many ties"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_maximum(shape, values):
    """The maximum is exact; of equal ones the first in row-major order takes the whole gradient."""
    assert_maximum(shape, values)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_maximum_geometry(data):
    """The same for random windows 1..5 and strides 1..5, channels 1..9."""
    kernel = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    h, w = (data.draw(st.integers(k, 12)) for k in kernel)
    shape = (data.draw(st.integers(1, 18)), h, w, data.draw(st.integers(1, 9)), kernel, data.draw(st.integers(1, 5)))
    assert_maximum(shape, (0, 3))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_subsample(shape):
    """Trainable subsampling is the mean times w plus b; its three gradients follow the definition."""
    n, h, w, c, _, stride = shape
    x, dy, geometry = problem((n, h, w, c, (1, 2) if w > 1 else (1, 1), stride))  # an area that divides exactly
    rng = np.random.default_rng(5)
    weight, bias = (rng.integers(-3, 4, c).astype(np.float32) for _ in range(2))
    y = engine.subsample2d_forward(x, weight, bias, **geometry)
    average = reference.average_pool2d_forward(x, **geometry)
    np.testing.assert_array_equal(y, average * weight + bias)
    dx, dweight, dbias = engine.subsample2d_backward(dy, x, weight, **geometry)
    np.testing.assert_array_equal(dx, reference.average_pool2d_backward(dy * weight, x.shape, **geometry))
    np.testing.assert_array_equal(dweight, (dy * average).sum((0, 1, 2)))
    np.testing.assert_array_equal(dbias, dy.astype(float).sum((0, 1, 2)))


def test_nan_wins_the_maximum():
    """A NaN anywhere in a window shows in the output and takes the gradient: divergence is never hidden."""
    x = np.arange(32, dtype=np.float32).reshape(2, 4, 4, 1)
    x[0, 1, 0] = np.nan
    y = engine.max_pool2d_forward(x, kernel_size=(2, 2), stride=2)
    assert np.isnan(y[0, 0, 0, 0])
    assert np.isfinite(y).sum() == 7
    dx = engine.max_pool2d_backward(np.ones_like(y), x, kernel_size=(2, 2), stride=2)
    assert dx[0, 1, 0, 0] == 1
    assert dx.sum() == 8


def test_gradient_of_another_size_is_refused():
    """A gradient must have the size that the geometry gives."""
    x, dy = np.zeros((1, 4, 4, 1), np.float32), np.zeros((1, 3, 3, 1), np.float32)
    with pytest.raises(ArrayError, match=r"dy: expected float32 \(1, 2, 2, 1\), got float32 \(1, 3, 3, 1\)"):
        engine.max_pool2d_backward(dy, x, kernel_size=(2, 2), stride=2)
