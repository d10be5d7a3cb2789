"""Convolution and dense layers against the definition in float64."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruction_sets import isa  # noqa: F401 - a fixture

from lenet_mp import engine
from lenet_mp.errors import ArrayError, GeometryError

pytestmark = pytest.mark.usefixtures("isa")

# (N, H, W, C_in, C_out, (KH, KW), stride, padding): the networks' own shapes, then odd ones.
SHAPES = [
    (2, 25, 25, 3, 6, (5, 5), 3, 2),
    (1, 28, 28, 6, 16, (5, 5), 3, 2),
    (2, 5, 5, 16, 120, (5, 5), 1, 0),
    (1, 28, 28, 6, 16, (3, 3), 1, 0),
    (1, 13, 13, 16, 30, (3, 3), 2, 0),
    (3, 3, 3, 30, 120, (3, 3), 1, 0),
    (1, 1, 1, 1, 1, (1, 1), 1, 0),
    (15, 7, 9, 2, 5, (3, 2), 2, 1),
    (16, 9, 7, 5, 7, (2, 3), 1, 2),
    (17, 6, 11, 4, 13, (1, 5), 4, 3),
    (33, 5, 4, 3, 8, (4, 1), 3, 0),
    (2, 4, 4, 2, 3, (1, 1), 3, 1),
    (2, 3, 3, 2, 3, (5, 5), 1, 1),
]


LIST = Path(__file__).parents[1] / "csrc" / "conv_shapes.inc"
INSTANCES = [tuple(map(int, re.findall(r"\d+", row)))
             for row in re.findall(r"^(?:CONV|FIRST)_SHAPE\((.*?)\)", LIST.read_text(), re.MULTILINE)]
"""Kernel, stride, channels in and out of every shape that has code of its own."""


def integers(rng, *shape):
    """Whole numbers small enough that every partial sum of these tests is exact in float32 (below 2**24)."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def problem(shape, make):
    n, h, w, c_in, c_out, kernel, stride, padding = shape
    out = reference.sizes((h, w), kernel, stride, padding)
    rng = np.random.default_rng(list(map(int, (n, h, w, c_in, c_out))))
    return (make(rng, n, h, w, c_in), make(rng, *kernel, c_in, c_out), make(rng, c_out), make(rng, n, *out, c_out),
            {"stride": stride, "padding": padding})


def assert_exact(shape):
    """All three passes equal float64 bit for bit, and are adjoint to each other exactly."""
    x, weight, bias, dy, geometry = problem(shape, integers)
    y = engine.conv2d_forward(x, weight, bias, **geometry)
    dweight, dbias = engine.conv2d_backward_weight(dy, x, kernel_size=weight.shape[:2], **geometry)
    dx = engine.conv2d_backward_input(dy, weight, input_size=x.shape[1:3], **geometry)
    np.testing.assert_array_equal(y, reference.conv2d_forward(x, weight, bias, **geometry))
    expected = reference.conv2d_backward_weight(dy, x, weight.shape[:2], **geometry)
    np.testing.assert_array_equal(dweight, expected[0])
    np.testing.assert_array_equal(dbias, expected[1])
    np.testing.assert_array_equal(dx, reference.conv2d_backward_input(dy, weight, x.shape[1:3], **geometry))
    product = np.vdot(dy.astype(float), y - bias)
    assert product == np.vdot(dx.astype(float), x)
    assert product == np.vdot(dweight.astype(float), weight)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integers_are_exact(shape):
    """Forward and both gradients equal the definition on whole numbers, and each is the others' adjoint."""
    assert_exact(shape)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 31])
@pytest.mark.parametrize("instance", INSTANCES, ids=str)
def test_every_instance_is_exact(instance, columns):
    """Each listed shape equals the definition for output widths around every block, with and without border."""
    kernel, stride, c_in, c_out = instance
    width = kernel + (columns - 1) * stride
    for samples, padding in ((1, 0), (9, (kernel - 1) // 2)):
        assert_exact((samples, kernel + stride, width, c_in, c_out, (kernel, kernel), stride, padding))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_geometry_is_exact(data):
    """The same holds for random kernels 1..7, strides 1..4, paddings 0..3, channels 1..33, images not square."""
    draw = data.draw
    kernel = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    padding = draw(st.integers(0, 3))
    h, w = (draw(st.integers(max(1, k - 2 * padding), 14)) for k in kernel)
    channels = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 32, 33])
    stride, samples = draw(st.integers(1, 4)), draw(st.integers(1, 18))
    assert_exact((samples, h, w, draw(channels), draw(channels), kernel, stride, padding))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reals_stay_within_the_rounding_bound(shape):
    """A chain of K fused multiply-adds is off by at most K * 2**-24 times the sum of magnitudes, to first order.

    Minimal filtering (csrc/pairs.h) adds and subtracts what it multiplies, so its own bound is up to three times as
    wide. It is held to this one all the same: roundings go both ways, and real errors are some per cent of either.
    """
    x, weight, bias, dy, geometry = problem(shape, lambda rng, *s: rng.normal(size=s).astype(np.float32))
    kernel = weight.shape[:2]
    y = engine.conv2d_forward(x, weight, bias, **geometry)
    terms = weight[..., 0].size + 1
    bound = 1.01 * terms * 2**-24 * reference.conv2d_forward(abs(x), abs(weight), abs(bias), **geometry)
    assert (abs(y - reference.conv2d_forward(x, weight, bias, **geometry)) <= bound).all()

    dweight, dbias = engine.conv2d_backward_weight(dy, x, kernel_size=kernel, **geometry)
    terms = dy[..., 0].size + 1
    exact, size = (reference.conv2d_backward_weight(f(dy), f(x), kernel, **geometry) for f in (np.asarray, abs))
    assert (abs(dweight - exact[0]) <= 1.01 * terms * 2**-24 * size[0]).all()
    assert (abs(dbias - exact[1]) <= 1.01 * terms * 2**-24 * size[1]).all()

    dx = engine.conv2d_backward_input(dy, weight, input_size=x.shape[1:3], **geometry)
    terms = weight[:, :, 0].size
    exact, size = (reference.conv2d_backward_input(f(dy), f(weight), x.shape[1:3], **geometry)
                   for f in (np.asarray, abs))
    assert (abs(dx - exact) <= 1.01 * terms * 2**-24 * size).all()


@pytest.mark.parametrize("samples", [1, 4, 15, 16, 17, 33])
@pytest.mark.parametrize(("shape", "outputs"), [((7,), 5), ((120,), 84), ((84,), 50), ((3, 2, 5), 33), ((1, 1, 1), 1)])
def test_dense_is_exact(samples, shape, outputs):
    """Dense layers on flat or (H, W, C) input equal the matrix products on whole numbers."""
    rng = np.random.default_rng(samples)
    x, weight, bias = (integers(rng, *s) for s in ((samples, *shape), (*shape, outputs), (outputs,)))
    dy = integers(rng, samples, outputs)
    flat, matrix = x.reshape(samples, -1), weight.reshape(-1, outputs)
    np.testing.assert_array_equal(engine.dense_forward(x, weight, bias), flat @ matrix + bias)
    dx, dweight, dbias = engine.dense_backward(dy, x, weight)
    np.testing.assert_array_equal(dx, (dy @ matrix.T).reshape(x.shape))
    np.testing.assert_array_equal(dweight, (flat.T @ dy).reshape(weight.shape))
    np.testing.assert_array_equal(dbias, dy.sum(0))


def rounded(exact):
    """Return the float32 nearest to a fraction, of two the even one."""
    middle = np.float32(float(exact))  # two roundings: at most one step off
    around = [np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))]
    return min(around, key=lambda value: (abs(Fraction(float(value)) - exact), int(value.view(np.int32)) & 1))


def test_multiply_add_rounds_once():
    """X * w + b is the exact value's nearest float: where it all but is a tie, or is smaller than normal floats too.

    An instruction set without a fused multiply-add goes by way of double, and would round such values twice. Every lane
    meets every case, while the others beside it meet none.
    """
    step, smallest = 2.0**-23, 2.0**-149
    factors = [1 + 2.0**-20, 1 - 2.0**-20, 1 + 2.0**-15, 1 - 2.0**-15, 1 + step, -1 - 2.0**-12, 1.0]
    weights, biases = [], []
    for exponent, some in (
        (0, (0.0, 1.0, 1 + step, -1 - step, 2 - step, 3 * 2.0**-25)),
        (60, (0.0, 2.0**60 + 2.0**37, 2.0**20)),
        (-126, (0.0, 2.0**-127 + smallest, -(2.0**-127) - smallest, 2.0**-128 + smallest, 3 * smallest)),
    ):
        for bias in some:
            weights += [factor * 2.0**exponent for factor in factors]
            biases += [bias] * len(factors)
    weights, biases = np.float32(weights), np.float32(biases)
    values = [factor * 2.0**exponent for exponent in (-24, -25, -30, -47) for factor in factors]
    exact = [[Fraction(value) * Fraction(float(w)) + Fraction(float(b)) for w, b in zip(weights, biases, strict=True)]
             for value in values]
    nearest = np.array([[rounded(one) for one in row] for row in exact])
    doubles = (np.float64(values)[:, None] * weights.astype(float) + biases.astype(float)).astype(np.float32)
    tiny = np.abs(nearest) < np.finfo(np.float32).tiny
    for case in (tiny, ~tiny):
        assert (case & (doubles != nearest)).any()  # otherwise nothing was tested
    for lane in range(17):
        x = np.full((17, 1, len(values), 1), 2.0**20, np.float32)  # of which nothing is near a tie, or small
        x[lane, 0, :, 0] = values
        y = engine.conv2d_forward(x, weights.reshape(1, 1, 1, -1), biases)
        np.testing.assert_array_equal(y[lane, 0], nearest)


def test_samples_do_not_see_each_other():
    """A sample's output has the same bits alone and in any batch, whatever its neighbours hold, NaN included."""
    shape = (17, 9, 8, 3, 7, (3, 4), 2, 1)
    x, weight, bias, _, geometry = problem(shape, lambda rng, *s: rng.normal(size=s).astype(np.float32))
    together = engine.conv2d_forward(x, weight, bias, **geometry)
    x[1:] = np.nan
    np.testing.assert_array_equal(engine.conv2d_forward(x, weight, bias, **geometry)[0], together[0])
    np.testing.assert_array_equal(engine.conv2d_forward(x[:1], weight, bias, **geometry)[0], together[0])


def test_wrong_arrays_are_refused():
    """A wrong type, dtype, rank, size or layout names the argument, what was expected and what came."""
    x, weight, bias = (np.zeros(s, np.float32) for s in ((2, 5, 5, 3), (3, 3, 3, 6), (6,)))
    for arguments, text in [
        ((x.astype(float), weight, bias), r"x: expected float32 \(N, H, W, C_in\), got float64 \(2, 5, 5, 3\)"),
        ((x[0], weight, bias), r"x: expected float32 \(N, H, W, C_in\), got float32 \(5, 5, 3\)"),
        ((x, weight[:, :, :2], bias), r"weight: expected float32 \(KH, KW, 3, C_out\), got float32 \(3, 3, 2, 6\)"),
        ((x, weight.T.copy().T, bias), r"weight: expected .* C-contiguous, got strides"),
        ((x, weight, bias[:5]), r"bias: expected float32 \(6,\), got float32 \(5,\)"),
        ((x, weight, [0.0] * 6), r"bias: expected an array float32 \(6,\), got list"),
        ((x.astype(">f4"), weight, bias), r"x: expected float32"),
    ]:
        with pytest.raises(ArrayError, match=text):
            engine.conv2d_forward(*arguments)


@pytest.mark.parametrize("geometry", [{"stride": 0}, {"padding": -1}, {"stride": 1, "padding": 0}])
def test_impossible_geometry_is_refused(geometry):
    """A kernel larger than the padded input, no stride or negative padding is a GeometryError."""
    x, weight, bias = (np.zeros(s, np.float32) for s in ((1, 2, 2, 1), (3, 3, 1, 1), (1,)))
    with pytest.raises(GeometryError):
        engine.conv2d_forward(x, weight, bias, **geometry)
