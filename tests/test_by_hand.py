"""The formulas that explanations are worked with: those of the tests' own reference, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from lenet_mp.explaining import by_hand
from lenet_mp.networks.geometry import ACTIVATIONS, Kind
from lenet_mp.networks.models import MODELS, Model, activation, average_pool, conv, dense
from lenet_mp.networks.models import Row as ModelRow
from lenet_mp.networks.network import compile_network

POOLINGS = Model(
    "poolings",
    (
        conv("C1", 4, kernel=3, stride=2, padding=1), activation("elu"),
        ModelRow(kind=Kind.MAX_POOL, name="S1", kernel=3, stride=2),
        ModelRow(kind=Kind.SUBSAMPLE, name="S2", kernel=2), activation("sigmoid"),
        average_pool("S3", 2, 1),
        conv("C4", 5), activation("relu"),
        dense("F5"),
    ),
    (27, 31, 2),
    3,
)  # fmt: skip
# Sums of up to a thousand products of magnitude 1 in float64, in another order.
CLOSE = 1e-12


@pytest.mark.parametrize("model", [*MODELS.values(), POOLINGS], ids=lambda model: model.name)
def test_values_and_gradients_are_those_of_the_reference(model):
    """Every layer's output, and the bias gradients that follow from the output gradients, agree in float64."""
    network = compile_network(model)
    parameters = network.initialise(3).astype(np.float64)
    x = np.random.default_rng(5).normal(size=network.input_shape)
    values = by_hand.activations(network, parameters, x)
    for ours, theirs in zip(values, reference.network_forward(network.layers, parameters, x[np.newaxis]), strict=True):
        np.testing.assert_allclose(ours, theirs[0], rtol=0, atol=CLOSE)
    dy = by_hand.output_gradients(network, parameters, values, 2)
    gradient = reference.network_step(network.layers, parameters, x[np.newaxis], np.array([2]))[2]
    biases = network.views(gradient)
    for layer, dlayer in zip(network.layers, dy, strict=True):
        assert dlayer.shape == layer.output_shape
        if layer.parameter_count:
            np.testing.assert_allclose(dlayer.sum((0, 1)), biases[f"{layer.name}.bias"], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_slopes_are_those_of_the_reference(name):
    """All activations, left and right of their kinks and far out."""
    x = np.linspace(-30, 30, 401)
    y = by_hand.activate(x, name)
    np.testing.assert_allclose(y, reference.activation_forward(x, name), rtol=0, atol=1e-15)
    np.testing.assert_allclose(by_hand.slope(y, name), reference.activation_backward(1.0, y, name), rtol=0, atol=1e-15)
