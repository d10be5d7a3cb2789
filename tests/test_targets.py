"""Label smoothing and class weights in the C core: the definition, in every variant, and the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from instruction_sets import isa  # noqa: F401 - a fixture
from test_engine import LIMIT, NETWORKS, OFFSET, SCALE, addresses, groups, normalised, problem

from lenet_mp import engine
from lenet_mp.errors import ArrayError, UsageError
from lenet_mp.targets import make_targets

SMOOTHING = [0.0, 0.1, 1.0]


def some_weights(classes, seed=5):
    """Weights over three decades, one of them 0."""
    weights = (10 ** np.random.default_rng(seed).uniform(-1, 2, classes)).astype(np.float32)
    weights[classes // 2] = 0 if classes > 1 else 1
    return weights


def run(layers, parameters, images, labels, starts, targets, *, threads=1, limit=LIMIT):
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=threads)
    totals = np.empty(plan.parameter_count + engine.COUNTS, np.int64)
    plan.step(parameters, addresses(images), labels, starts, limit=limit, totals=totals, targets=targets)
    return totals


@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 10, 50])
def test_loss_and_gradient_follow_the_definition(smoothing, weighted, classes, isa):  # noqa: F811, ARG001
    """Loss and gradient agree with float64 to the roundings that there are."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(33, classes)).astype(np.float32) * 5
    labels = rng.integers(0, classes, 33).astype(np.int32)
    weights = some_weights(classes) if weighted else None
    targets = make_targets(classes, smoothing=smoothing, weights=weights)
    loss, dlogits = engine.softmax_cross_entropy(logits, labels, targets)
    expected_loss, expected = reference.softmax_cross_entropy(logits, labels, smoothing, weights)
    mass = np.ones(33) if targets is None else targets[labels, 2].astype(np.float64)
    # Of the softmax, and so of log(sum), as in test_cross_entropy: exp is off by 2 ulp, its argument by a rounding of
    # up to 40, a sum of `classes` terms by as many. Both are multiplied by the mass. Six roundings more of values up
    # to the mass: of the mass, its product, the target's two parts, their sum, the difference. The loss itself is
    # rounded once, and each target twice, relative to its part of the loss.
    softmax = mass * (6 + 40 + classes) * 2**-24
    assert (np.abs(dlogits - expected) <= (softmax + mass * 6 * 2**-24)[:, None]).all()
    assert (np.abs(loss - expected_loss) <= softmax + 3 * 2**-24 * expected_loss).all()


@pytest.mark.parametrize("name", ["like model 1", "like model 2", "1 x 1 with a border"])
def test_the_step_follows_the_definition(name, isa):  # noqa: F811, ARG001
    """The summed loss and every gradient of a whole network agree with a float64 network."""
    layers = NETWORKS[name]
    parameters, images, labels = problem(layers, 33)
    weights = some_weights(layers[-1].output_shape[2])
    targets = make_targets(len(weights), smoothing=0.1, weights=weights)
    totals = run(layers, parameters, images, labels, groups(33), targets)
    loss, logits, gradient = reference.network_step(layers, parameters, normalised(images), labels, 0.1, weights)
    # As in test_engine: relative to the largest of a layer's gradients, a few hundred chained roundings.
    for layer in layers:
        own = slice(layer.offset, layer.offset + layer.parameter_count)
        scale = np.abs(gradient[own]).max(initial=1e-3)
        assert np.abs(totals[own] * engine.QUANTUM - gradient[own]).max(initial=0) <= 500 * 2**-24 * scale, layer.name
    assert totals[engine.LOSS] * engine.QUANTUM == pytest.approx(loss.sum(), rel=1e-5)
    ahead = (logits > logits[np.arange(33), labels][:, None]).sum(1)
    assert totals[engine.TOP1] == (ahead < 1).sum()  # weights weigh the loss, not the count of those that are right


@pytest.mark.parametrize("name", ["like model 1", "like model 2", "dense only"])
def test_same_bits_on_every_instruction_set_and_any_number_of_threads(name, monkeypatch):
    """Totals are one sequence of integers for all variants and 1, 2, 3 and 7 threads."""
    layers = NETWORKS[name]
    parameters, images, labels = problem(layers, 50)
    starts = np.array([0, 16, 29, 29, 30, 38, 47, 50], np.int32)
    weights = some_weights(layers[-1].output_shape[2])
    targets = make_targets(len(weights), smoothing=0.1, weights=weights)
    expected = run(layers, parameters, images, labels, starts, targets)
    for variant in engine.available():
        monkeypatch.setenv("LENET_MP_ISA", variant)
        for threads in (1, 2, 3, 7):
            totals = run(layers, parameters, images, labels, starts, targets, threads=threads)
            np.testing.assert_array_equal(totals, expected, err_msg=f"{variant}, {threads} threads")


def test_weights_of_one_are_plain_cross_entropy():
    """Without smoothing and with equal weights of 1 the loss and the gradient are the plain ones, bit for bit."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, 40)
    ones = make_targets(7, weights=np.ones(7, np.float32))
    expected = run(layers, parameters, images, labels, groups(40), None)
    np.testing.assert_array_equal(run(layers, parameters, images, labels, groups(40), ones), expected)
    assert make_targets(7) is None


def test_a_weight_of_zero_takes_a_class_out():
    """Samples of a class that weighs nothing add nothing to loss and gradient, and are counted all the same."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, 32)
    weights = np.ones(7, np.float32)
    weights[3] = 0
    labels[:16] = 3
    labels[16:][labels[16:] == 3] = 4
    totals = run(layers, parameters, images, labels, groups(32), make_targets(7, weights=weights))
    rest = run(layers, parameters, images[16:], labels[16:], groups(16), None)
    np.testing.assert_array_equal(totals[: engine.LOSS + 1], rest[: engine.LOSS + 1])
    assert totals[engine.SAMPLES] == 32


def test_evaluation_is_of_plain_cross_entropy():
    """An evaluation counts the plain loss, whatever the step before it was trained with."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, 20)
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=2)
    totals = np.empty(plan.parameter_count + engine.COUNTS, np.int64)
    targets = make_targets(7, smoothing=0.2)
    plan.step(parameters, addresses(images), labels, groups(20), limit=LIMIT, totals=totals, targets=targets)
    counts = np.empty(engine.COUNTS, np.int64)
    plan.evaluate(parameters, addresses(images), labels, totals=counts)
    plain = run(layers, parameters, images, labels, groups(20), None)
    np.testing.assert_array_equal(counts, plain[-engine.COUNTS :])
    assert totals[engine.LOSS] != counts[engine.LOSS]


def test_what_is_bounded_is_the_weighted_value():
    """A loss or gradient that its weight lifts over the limit is refused: no weight overflows a sum."""
    layers = NETWORKS["dense only"]
    parameters, images, labels = problem(layers, 4)
    heavy = make_targets(4, weights=np.full(4, 1e9, np.float32))
    totals = run(layers, parameters, images, labels, groups(4), heavy, limit=2.0**22)
    assert totals[engine.LOSS] == 0
    assert totals[engine.REFUSED] >= 4
    assert np.abs(totals[: -engine.COUNTS]).max() < 2**62


def test_an_infinite_logit_counts_only_where_something_is_asked_of_its_class():
    """A class that is infinitely far off costs nothing without smoothing, and everything with it."""
    logits = np.array([[0, 1, -np.inf]], np.float32)
    labels = np.array([1], np.int32)
    weighted = make_targets(3, weights=np.array([1, 2, 3], np.float32))
    loss, dlogits = engine.softmax_cross_entropy(logits, labels, weighted)
    plain, plain_dlogits = engine.softmax_cross_entropy(logits, labels)
    assert loss[0] == 2 * plain[0]  # twice is exact
    np.testing.assert_array_equal(dlogits, 2 * plain_dlogits)
    assert not np.isfinite(engine.softmax_cross_entropy(logits, labels, make_targets(3, smoothing=0.1))[0][0])


def test_bad_targets_are_refused():
    """What is out of range, or of another form, is named."""
    with pytest.raises(UsageError, match=r"smoothing: expected a number from 0 to 1, got 1\.5"):
        make_targets(3, smoothing=1.5)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="weights: expected finite numbers"):
            make_targets(2, weights=np.array([1, bad], np.float32))
    with pytest.raises(ArrayError, match=r"weights: expected float32 \(3,\)"):
        make_targets(3, weights=np.ones(2, np.float32))
    with pytest.raises(ArrayError, match=r"targets: expected float32 \(3, 3\)"):
        engine.softmax_cross_entropy(np.zeros((1, 3), np.float32), np.zeros(1, np.int32), np.zeros((2, 3), np.float32))
