"""No kernel touches a byte beside its arrays: what it reads there would be rubbish, what it writes somebody else's.

Where one does, the process crashes; the test that ran last has found it.
"""

from __future__ import annotations

import guarded
import numpy as np
import pytest
from instruction_sets import isa  # noqa: F401 - a fixture
from test_engine import LIMIT, NETWORKS, OFFSET, SCALE, groups, problem

from lenet_mp import engine
from lenet_mp.augmentation import Augment, parse
from lenet_mp.descent import Momentum

pytestmark = pytest.mark.usefixtures("isa")

CONVOLUTIONS = [
    # N, (H, W), C_in, C_out, kernel, stride, padding: networks' own shapes, then odd ones
    (17, (25, 25), 3, 6, (5, 5), 3, 2),
    (1, (28, 28), 6, 16, (5, 5), 3, 2),
    (3, (28, 28), 6, 16, (3, 3), 1, 0),
    (2, (13, 13), 16, 30, (3, 3), 2, 0),
    (1, (12, 12), 1, 6, (5, 5), 1, 2),
    (1, (14, 14), 6, 16, (5, 5), 1, 0),
    (5, (4, 7), 2, 5, (3, 2), 2, 1),
    (1, (1, 1), 1, 1, (1, 1), 1, 0),
    (16, (3, 90), 5, 7, (2, 3), 1, 2),
]
DENSE = [(1, 1, 1), (3, 7, 5), (16, 33, 17), (17, 120, 50), (2, 13, 31), (33, 24, 48)]


@pytest.fixture(params=["end", "begin"])
def own(request, monkeypatch):
    """Copy arrays to where nothing lies after, or before, them; so lie all results of the engine."""
    end = request.param == "end"
    monkeypatch.setattr(engine, "np", guarded.Numpy(end=end))
    return lambda array: guarded.copy(array, end=end)


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_convolution(own, shape):
    samples, size, inputs, outputs, kernel, stride, padding = shape
    x, weight, bias = own(normal(samples, *size, inputs)), own(normal(*kernel, inputs, outputs)), own(normal(outputs))
    where = {"stride": stride, "padding": padding}
    y = engine.conv2d_forward(x, weight, bias, **where)
    dy = own(y)
    assert np.isfinite(y).all()
    assert np.isfinite(engine.conv2d_backward_weight(dy, x, kernel_size=kernel, **where)[0]).all()
    assert np.isfinite(engine.conv2d_backward_input(dy, weight, input_size=size, **where)).all()


@pytest.mark.parametrize("shape", DENSE)
def test_dense(own, shape):
    samples, inputs, outputs = shape
    x, weight, bias = own(normal(samples, inputs)), own(normal(inputs, outputs)), own(normal(outputs))
    y = engine.dense_forward(x, weight, bias)
    for gradient in engine.dense_backward(own(y), x, weight):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("samples", [1, 17])
@pytest.mark.parametrize(("size", "window", "stride"), [((6, 7), 2, 2), ((5, 5), 3, 1), ((9, 4), 3, 3)])
def test_pooling(own, samples, channels, size, window, stride):
    x, weight, bias = own(normal(samples, *size, channels)), own(normal(channels)), own(normal(channels))
    how = {"kernel_size": (window, window), "stride": stride}
    dy = own(engine.average_pool2d_forward(x, **how))
    found = [
        engine.average_pool2d_backward(dy, input_size=size, **how),
        engine.max_pool2d_forward(x, **how),
        engine.max_pool2d_backward(dy, x, **how),
        engine.subsample2d_forward(x, weight, bias, **how),
        *engine.subsample2d_backward(dy, x, weight, **how),
    ]
    assert all(np.isfinite(array).all() for array in found)


@pytest.mark.parametrize("count", [1, 15, 16, 33])
def test_activations_and_loss(own, count):
    for name in ("squash", "sigmoid", "tanh", "relu", "prelu", "elu"):
        y = own(engine.activation_forward(own(normal(count)), name))
        assert np.isfinite(engine.activation_backward(own(normal(count)), y, name)).all()
    for classes in (1, 5, 50):
        labels = own(np.arange(count, dtype=np.int32) % classes)
        loss, dlogits = engine.softmax_cross_entropy(own(normal(count, classes)), labels)
        assert np.isfinite(loss).all()
        assert np.isfinite(dlogits).all()


@pytest.mark.parametrize("changes", ["none", "flip", "crop=2", "jitter", "erase=1", "flip,crop=1,jitter,erase"])
@pytest.mark.parametrize("shape", [(5, 6, 3), (9, 33, 1), (4, 4, 4)])
def test_augmentation(own, shape, changes):
    images = own(np.random.default_rng(0).integers(0, 256, (17, *shape), np.uint8))
    augment = Augment(parse(changes), 1, 2, own(np.arange(17, dtype=np.int64)))
    assert engine.augment_images(images, augment, fill=7).shape == images.shape


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_step_and_update(own, name, threads):
    """Every image lies alone, as it may at the end of a shard."""
    layers = NETWORKS[name]
    parameters, images, labels = problem(layers, 17)
    parameters, labels, starts = own(parameters), own(labels), own(groups(17))
    images = [own(image) for image in images]
    addresses = own(np.array([image.ctypes.data for image in images], np.uintp))
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=threads)
    totals = own(np.empty(plan.parameter_count + engine.COUNTS, np.int64))
    crop = "crop=1," if min(layers[0].input_shape[:2]) > 1 else ""
    for changes in ("none", f"flip,{crop}jitter,erase"):
        augment = Augment(parse(changes), 1, 2, own(np.arange(17, dtype=np.int64)))
        plan.step(parameters, addresses, labels, starts, limit=LIMIT, totals=totals, augment=augment)
        assert totals[engine.SAMPLES] == 17
    counts = own(np.empty(engine.COUNTS, np.int64))
    logits = own(np.empty((17, plan.classes), np.float32))
    plan.evaluate(parameters, addresses, labels, totals=counts, logits=logits)
    assert counts[engine.SAMPLES] == 17
    assert np.isfinite(logits).all()
    momentum = Momentum(plan.parameter_count, momentum=0.9, weight_decay=0.01, nesterov=True, threads=threads)
    momentum.velocity = own(momentum.velocity)
    momentum.update(parameters, totals[: plan.parameter_count], 0.01, largest_norm=1.0)
    assert np.isfinite(parameters).all()
