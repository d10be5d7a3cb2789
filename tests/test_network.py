"""Flat parameter vectors and their views."""

import numpy as np
import pytest

from lenet_mp.errors import UsageError
from lenet_mp.networks.model_files import from_document
from lenet_mp.networks.models import MODELS
from lenet_mp.networks.network import INITIALISERS, compile_network


def test_views_cover_the_flat_vector_once():
    """Every parameter belongs to exactly one named array, and writing to a view writes to the vector."""
    network = compile_network(MODELS["1"])
    flat = np.zeros(network.parameter_count, np.float32)
    for view in network.views(flat).values():
        np.add(view, 1, out=view)
    assert flat.tolist() == [1] * network.parameter_count


def test_view_shapes():
    """Weights are (KH, KW, C_in, C_out), of dense layers (C_in, C_out), biases (C_out,)."""
    network = compile_network(MODELS["2"])
    shapes = {name: view.shape for name, view in network.views(network.initialise(0)).items()}
    assert shapes["C1.weight"] == (3, 3, 3, 6)
    assert shapes["C5.weight"] == (3, 3, 30, 120)
    assert shapes["F7.weight"] == (120, 84)
    assert shapes["F8.bias"] == (50,)


def test_views_refuse_another_length():
    """A vector of another network is refused with both lengths."""
    with pytest.raises(UsageError, match="52332"):
        compile_network(MODELS["2"]).views(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("scheme", "deviation"), [("Xavier", 150**-0.5), ("Gaussian_dist", 0.1), ("Fan-in", 2.4 / 150 / 3**0.5)]
)
def test_initial_weights_have_the_deviation_of_their_scheme(scheme, deviation):
    """The 2,400 weights of C2 have mean 0 and the scheme's standard deviation; every bias is 0.01."""
    network = compile_network(MODELS["1"])
    arrays = network.views(network.initialise(3, scheme))
    weight = arrays["C2.weight"]
    # Standard errors: of the mean sd/sqrt(n), of the deviation at most sd/sqrt(2n); 5 of each.
    assert abs(weight.mean()) < 5 * deviation / weight.size**0.5
    assert abs(weight.std() - deviation) < 5 * deviation / (2 * weight.size) ** 0.5
    if scheme == "Fan-in":
        assert np.abs(weight).max() <= np.float32(2.4 / 150)
    assert all((view == np.float32(0.01)).all() for name, view in arrays.items() if name.endswith("bias"))


def test_initial_weights_follow_the_seed():
    """The same seed gives the same weights, another seed others, and no two layers draw alike."""
    network = compile_network(MODELS["1"])
    assert np.array_equal(network.initialise(1), network.initialise(1))
    assert not np.array_equal(network.initialise(1), network.initialise(2))
    arrays = network.views(network.initialise(1))
    assert not np.array_equal(arrays["F7.weight"].ravel()[:50], arrays["F8.weight"].ravel()[:50])


def test_subsampling_starts_as_plain_pooling():
    """Trainable subsampling starts with weight 1."""
    rows = [{"kind": "subsample", "kernel": 2}, {"kind": "dense"}]
    network = compile_network(from_document({"name": "s", "layer": rows}, "test"), (8, 8, 3), 4)
    assert network.views(network.initialise(0))["S1.weight"].tolist() == [1, 1, 1]


def test_unknown_scheme():
    """An unknown initialisation is told with those there are."""
    with pytest.raises(UsageError, match=", ".join(INITIALISERS)):
        compile_network(MODELS["1"]).initialise(0, "zeros")
