"""The compiled step of a whole network: right, and the same bits however it is cut and wherever it runs."""

from __future__ import annotations

import os
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from instruction_sets import isa  # noqa: F401 - a fixture

from lenet_mp import engine
from lenet_mp.networks.geometry import Kind, Layer, output_size
from lenet_mp.networks.normalization import scale_and_offset

SCALE, OFFSET = 2 / 255, -1.0
LIMIT = 2.0**20


def chain(input_shape, *rows):
    """Compile a few layers; a row is (kind, channels, kernel_size, stride, padding) or an activation's name."""
    layers, shape, offset = [], input_shape, 0
    for i, row in enumerate(rows):
        if isinstance(row, str):
            layer = Layer(name=f"a{i}", kind=Kind.ACTIVATION, input_shape=shape, output_shape=shape, activation=row)
        else:
            kind, channels, kernel, stride, padding = row
            kernel = kernel or shape[:2]
            size = (output_size(n, k, stride, padding) for n, k in zip(shape[:2], kernel, strict=True))
            layer = Layer(name=f"{kind}{i}", kind=kind, input_shape=shape, output_shape=(*size, channels or shape[2]),
                          kernel_size=kernel, stride=stride, padding=padding, offset=offset)
        offset += layer.parameter_count
        shape = layer.output_shape
        layers.append(layer)
    return tuple(layers)


CONV, DENSE, AVERAGE, MAX, SUBSAMPLE = Kind.CONV, Kind.DENSE, Kind.AVERAGE_POOL, Kind.MAX_POOL, Kind.SUBSAMPLE

NETWORKS = {
    "like model 1": chain((41, 41, 3), (CONV, 6, (5, 5), 3, 2), "squash", (AVERAGE, 0, (3, 3), 3, 0),
                          (CONV, 16, (3, 3), 1, 1), "squash", (AVERAGE, 0, (2, 2), 2, 0),
                          (CONV, 12, None, 1, 0), "squash", (DENSE, 9, None, 1, 0), "squash", (DENSE, 7, None, 1, 0)),
    "like model 2": chain((23, 29, 3), (CONV, 6, (3, 3), 3, 1), "elu", (CONV, 7, (2, 3), 2, 0), "sigmoid",
                          (SUBSAMPLE, 0, (2, 2), 1, 0), "tanh", (CONV, 20, None, 1, 0), "elu", (DENSE, 5, None, 1, 0)),
    "pool first": chain((12, 9, 1), (MAX, 0, (2, 2), 2, 0), "prelu", (CONV, 5, (3, 2), 1, 2), "tanh", "sigmoid",
                        (MAX, 0, (3, 3), 1, 0), (DENSE, 6, None, 1, 0)),
    # Rows that are worked in several strips, by convolutions that have an instance and by others.
    "wide rows": chain((6, 200, 3), (CONV, 6, (5, 5), 3, 2), "squash", (CONV, 16, (3, 3), 1, 1), "sigmoid",
                       (CONV, 8, (1, 3), 1, 0), (AVERAGE, 0, (2, 4), 4, 0), (DENSE, 5, None, 1, 0)),
    "wide rows of pixels": chain((3, 230, 2), (CONV, 7, (2, 2), 1, 1), "tanh", (MAX, 0, (4, 3), 3, 0),
                                 (DENSE, 4, None, 1, 0)),
    "dense only": chain((4, 3, 2), (DENSE, 4, None, 1, 0)),
    "activation first": chain((3, 3, 1), "tanh", (CONV, 3, None, 1, 0)),
    "1 x 1 with a border": chain((1, 1, 2), (CONV, 3, (1, 1), 1, 1), "squash", (DENSE, 33, None, 1, 0)),
}


def addresses(images):
    """Where each sample of a contiguous array lies."""
    return images.ctypes.data + np.arange(len(images), dtype=np.uintp) * images[0].nbytes


def groups(samples, size=engine.GROUP_SIZE):
    return np.append(np.arange(0, samples, size), samples).astype(np.int32)


def problem(layers, samples, seed=0):
    """Random parameters, images and labels."""
    rng = np.random.default_rng(seed)
    count = sum(layer.parameter_count for layer in layers)
    parameters = (rng.normal(size=count) * 0.3).astype(np.float32)
    images = rng.integers(0, 256, (samples, *layers[0].input_shape), dtype=np.uint8)
    labels = rng.integers(0, layers[-1].output_shape[2], samples).astype(np.int32)
    return parameters, images, labels


def run(layers, parameters, images, labels, starts, *, threads=1, limit=LIMIT):
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=threads)
    totals = np.full(plan.parameter_count + engine.COUNTS, -7, np.int64)
    plan.step(parameters, addresses(images), labels, starts, limit=limit, totals=totals)
    return totals


def normalised(images):
    """What the engine reads: one rounding to float32 of pixel * scale + offset in the constants' float32 values."""
    return (images * np.float64(np.float32(SCALE)) + np.float64(np.float32(OFFSET))).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("samples", [1, 15, 16, 17, 33])
def test_step_follows_the_definition(name, samples, isa):  # noqa: F811, ARG001
    """Loss, every gradient and the counts agree with a float64 network."""
    layers = NETWORKS[name]
    parameters, images, labels = problem(layers, samples)
    totals = run(layers, parameters, images, labels, groups(samples))
    loss, logits, gradient = reference.network_step(layers, parameters, normalised(images), labels)
    # Relative to the largest of a layer's gradients: a few hundred chained roundings of 2**-24 in depth and width.
    for layer in layers:
        own = slice(layer.offset, layer.offset + layer.parameter_count)
        scale = np.abs(gradient[own]).max(initial=1e-3)
        assert np.abs(totals[own] * engine.QUANTUM - gradient[own]).max(initial=0) <= 500 * 2**-24 * scale, layer.name
    assert totals[engine.LOSS] * engine.QUANTUM == pytest.approx(loss.sum(), rel=1e-5)
    ahead = (logits > logits[np.arange(samples), labels][:, None]).sum(1)
    assert totals[engine.SAMPLES] == samples
    assert totals[engine.TOP1] == (ahead < 1).sum()
    assert totals[engine.TOP5] == (ahead < 5).sum()
    assert totals[engine.REFUSED] == 0


@st.composite
def first_convolutions(draw):
    """Draw a network whose first convolution has any kernel, stride, border and image; nothing in it has a kink."""
    height, width, channels = (draw(st.integers(1, most)) for most in (14, 14, 4))
    stride, padding = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    kernel = tuple(draw(st.integers(1, min(6, size + 2 * padding))) for size in (height, width))
    rows = [(CONV, draw(st.integers(1, 8)), kernel, stride, padding)]
    rows += draw(st.sampled_from([[], ["squash"], ["sigmoid"]]))
    size = [output_size(n, k, stride, padding) for n, k in zip((height, width), kernel, strict=True)]
    window = draw(st.integers(1, 3))
    if min(size) >= window:
        rows.append((draw(st.sampled_from([AVERAGE, SUBSAMPLE])), 0, (window, window), window, 0))
    return chain((height, width, channels), *rows, (DENSE, 3, None, 1, 0))


@given(first_convolutions(), st.sampled_from(["n1p1", "0p1", "lenet5"]), st.integers(0, 99))
def test_first_convolution_reads_bytes_as_the_definition_says(layers, normalisation, seed):
    """Loss and gradients are those of the normalised image with zeros around it, and the same bits on every variant."""
    parameters, images, labels = problem(layers, 5, seed)
    scale, offset = scale_and_offset(normalisation)
    found = []
    for variant in engine.available():
        with mock.patch.dict(os.environ, LENET_MP_ISA=variant):
            plan = engine.Plan(layers, scale=scale, offset=offset, threads=1)
        found.append(np.zeros(plan.parameter_count + engine.COUNTS, np.int64))
        plan.step(parameters, addresses(images), labels, groups(5), limit=LIMIT, totals=found[-1])
    totals = found[0]
    for other in found:
        np.testing.assert_array_equal(other, totals)
    x = (images * np.float64(np.float32(scale)) + np.float64(np.float32(offset))).astype(np.float32)
    loss, _, gradient = reference.network_step(layers, parameters, x, labels)
    # As in test_step_follows_the_definition.
    error = np.abs(totals[: -engine.COUNTS] * engine.QUANTUM - gradient)
    assert error.max() <= 500 * 2**-24 * np.abs(gradient).max(initial=1e-3)
    assert totals[engine.LOSS] * engine.QUANTUM == pytest.approx(loss.sum(), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "pool first"])
def test_gradient_is_the_slope_of_the_loss(name):
    """Along a random direction the gradient predicts the central difference of the loss, taken in float64."""
    layers = NETWORKS[name]
    parameters, images, labels = problem(layers, 5, seed=3)
    x = normalised(images)
    gradient = run(layers, parameters, images, labels, groups(5))[: -engine.COUNTS] * engine.QUANTUM
    direction = np.random.default_rng(4).normal(size=parameters.size)
    h = 1e-5  # error of the difference: h**2 times a third derivative, and 2**-53 * loss / h
    high, low = (reference.network_step(layers, parameters + step * direction, x, labels)[0].sum() for step in (h, -h))
    slope = (high - low) / (2 * h)
    assert gradient @ direction == pytest.approx(slope, rel=1e-4, abs=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_on_every_instruction_set_and_any_number_of_threads(name, monkeypatch):
    """Totals, counts included, are one sequence of integers for all variants and 1, 2, 3, 4, 7 threads."""
    layers = NETWORKS[name]
    starts = np.array([0, 16, 29, 29, 30, 38, 47, 50], np.int32)
    parameters, images, labels = problem(layers, 50)
    expected = run(layers, parameters, images, labels, starts)
    for variant in engine.available():
        monkeypatch.setenv("LENET_MP_ISA", variant)
        for threads in (1, 2, 3, 4, 7):
            totals = run(layers, parameters, images, labels, starts, threads=threads)
            np.testing.assert_array_equal(totals, expected, err_msg=f"{variant}, {threads} threads")


def test_same_bits_for_any_partition_into_calls():
    """Groups may be dealt to calls, and so to ranks, in any way: the sum of the totals is the same integers."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, 60)
    starts = groups(60, 13)
    whole = run(layers, parameters, images, labels, starts)
    for owners in ([0, 1, 0, 1, 0], [2, 1, 0, 2, 1], [3, 3, 1, 0, 0]):
        parts = np.zeros_like(whole)
        for rank in range(4):
            for (start, end), owner in zip(pairwise(starts), owners, strict=True):
                if owner == rank:
                    parts += run(layers, parameters, images[start:end], labels[start:end], groups(end - start))
        np.testing.assert_array_equal(parts, whole)


def test_profile_counts_only_when_asked():
    """A plan measures nothing until it is asked to, then every phase, and starts anew at each call."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, 40)
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=2)
    totals = np.empty(plan.parameter_count + engine.COUNTS, np.int64)

    def step():
        plan.step(parameters, addresses(images), labels, groups(40), limit=LIMIT, totals=totals)

    step()
    assert set(plan.profile().values()) == {0.0}
    step()
    seconds = plan.profile(on=False)
    assert list(seconds) == ["load", "forward", "backward", "reduction"]
    assert all(value > 0 for value in seconds.values())
    assert seconds["load"] < seconds["forward"] + seconds["backward"]
    step()
    assert set(plan.profile().values()) == {0.0}


def test_no_samples():
    """A call without samples, or with empty groups only, gives zeros."""
    layers = NETWORKS["dense only"]
    parameters, images, labels = problem(layers, 1)
    for starts in ([0], [0, 0, 0]):
        plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=2)
        totals = np.full(plan.parameter_count + engine.COUNTS, -7, np.int64)
        plan.step(parameters, addresses(images)[:0], labels[:0], np.array(starts, np.int32), limit=LIMIT, totals=totals)
        assert not totals.any()


@pytest.mark.parametrize("samples", [1, 7, 16, 17, 40])
def test_evaluation_agrees_with_the_step(samples, isa):  # noqa: F811, ARG001
    """Evaluation counts exactly what the step counts; its logits are those of forward, nearly of the layers alone."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, samples)
    expected = run(layers, parameters, images, labels, groups(samples))[-engine.COUNTS :]
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=2)
    counts, logits = np.empty(engine.COUNTS, np.int64), np.empty((samples, plan.classes), np.float32)
    plan.evaluate(parameters, addresses(images), labels, totals=counts, logits=logits)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(plan.forward(parameters, addresses(images)), logits)
    x = normalised(images)
    for layer in layers:
        x = engine.layer_forward(layer, x, parameters)
    # The plan has folded the normalisation into the first convolution: its weights, biases and sums round otherwise.
    np.testing.assert_allclose(x.reshape(samples, -1), logits, rtol=0, atol=100 * 2**-24 * np.abs(logits).max())


def test_pixels_are_read_exactly(isa):  # noqa: F811, ARG001
    """Each of the 256 pixel values enters as the float32 nearest to pixel * scale + offset, at every place."""
    layers = chain((16, 16, 1), (DENSE, 256, None, 1, 0))
    weight = np.eye(256, dtype=np.float32)
    parameters = np.concatenate([weight.ravel(), np.zeros(256, np.float32)])
    images = np.stack([np.roll(np.arange(256, dtype=np.uint8), shift) for shift in range(19)]).reshape(19, 16, 16, 1)
    for scale, offset in ((1 / 255, 0.0), (2 / 255, -1.0), (1.275 / 255, -0.1)):
        plan = engine.Plan(layers, scale=scale, offset=offset, threads=1)
        exact = images * np.float64(np.float32(scale)) + np.float64(np.float32(offset))
        np.testing.assert_array_equal(
            plan.forward(parameters, addresses(images)), exact.astype(np.float32).reshape(19, 256))


def test_ties_rank_by_index_and_nan_is_never_right():
    """Equal logits rank by class; a sample with a NaN logit of its own, or in the way, is not right."""
    layers = chain((1, 1, 1), (DENSE, 7, None, 1, 0))
    plan = engine.Plan(layers, scale=1.0, offset=0.0, threads=1)
    images = np.zeros((7, 1, 1, 1), np.uint8)
    labels = np.arange(7, dtype=np.int32)
    counts = np.empty(engine.COUNTS, np.int64)
    parameters = np.zeros(14, np.float32)
    plan.evaluate(parameters, addresses(images), labels, totals=counts)
    assert counts[[engine.TOP1, engine.TOP5]].tolist() == [1, 5]
    parameters[7] = np.nan  # the bias of class 0
    plan.evaluate(parameters, addresses(images), labels, totals=counts)
    assert counts[[engine.TOP1, engine.TOP5]].tolist() == [0, 4]
    assert counts[engine.LOSS] == 0
    assert counts[engine.REFUSED] == 7


def test_divergence_is_counted_and_adds_nothing():
    """Values that are not finite, or not below the limit, add zero and are counted; the others stay."""
    layers = NETWORKS["dense only"]
    parameters, images, labels = problem(layers, 4)
    fine = run(layers, parameters, images, labels, groups(4))
    low = run(layers, parameters, images, labels, groups(4), limit=1e-3)
    gradients, kept = fine[: -engine.COUNTS], low[: -engine.COUNTS]
    over = np.abs(gradients) * engine.QUANTUM >= 1e-3
    assert over.any()
    np.testing.assert_array_equal(kept, np.where(over, 0, gradients))
    assert low[engine.REFUSED] == over.sum() + 4  # and the four losses
    parameters[:] = np.inf
    assert run(layers, parameters, images, labels, groups(4))[engine.REFUSED] == parameters.size + 4


def test_short_group_ignores_its_empty_lanes():
    """A lone sample overflowing in no way of its own gives finite gradients, whatever lies in the lanes beside it."""
    layers = NETWORKS["like model 2"]
    parameters, images, labels = problem(layers, 1)
    totals = run(layers, parameters * 8, images, labels, groups(1))
    assert totals[engine.REFUSED] == 0
    assert totals[engine.SAMPLES] == 1
