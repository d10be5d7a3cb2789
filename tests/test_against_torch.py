"""One step of models 1 and 2 against PyTorch in float64; skipped where PyTorch is not installed."""

import numpy as np
import pytest

from lenet_mp.engine import LOSS, QUANTUM, Plan
from lenet_mp.networks.geometry import Kind
from lenet_mp.networks.models import MODELS
from lenet_mp.networks.network import compile_network
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.targets import make_targets

torch = pytest.importorskip("torch")

SAMPLES = 20  # a full group and a short one
MARGIN = 4


def forward(network, arrays, images):
    """Compute the logits in PyTorch, in the dtype of ``arrays``: the layers' definition, written once more."""
    functional = torch.nn.functional
    x = images.permute(0, 3, 1, 2)
    for layer in network.layers:
        if layer.kind is Kind.CONV:
            weight, bias = arrays[f"{layer.name}.weight"].permute(3, 2, 0, 1), arrays[f"{layer.name}.bias"]
            x = functional.conv2d(x, weight, bias, layer.stride, layer.padding)
        elif layer.kind is Kind.DENSE:
            weight, bias = arrays[f"{layer.name}.weight"], arrays[f"{layer.name}.bias"]
            x = (x.flatten(1) @ weight + bias)[:, :, None, None]
        elif layer.kind is Kind.AVERAGE_POOL:
            x = functional.avg_pool2d(x, layer.kernel_size, layer.stride)
        elif layer.activation == "squash":
            x = 1.7159 * torch.tanh(x * (2 / 3))
        else:
            x = functional.elu(x, 0.5)
    return x.flatten(1)


def torch_step(network, flat, images, labels, dtype, weights=None, smoothing=0.0):
    """Loss summed over the samples, and its gradient by array name."""
    arrays = {
        name: torch.tensor(view, dtype=dtype, requires_grad=True) for name, view in network.views(flat).items()
    }
    scale, offset = scale_and_offset("n1p1")
    x = torch.tensor(images, dtype=dtype) * scale + offset
    loss = torch.nn.functional.cross_entropy(
        forward(network, arrays, x),
        torch.tensor(labels, dtype=torch.int64),
        weight=None if weights is None else torch.tensor(weights, dtype=dtype),
        label_smoothing=smoothing,
        reduction="sum",
    )
    loss.backward()
    return loss.item(), {name: array.grad.numpy() for name, array in arrays.items()}


@pytest.mark.parametrize(("model", "smoothing"), [("1", 0.0), ("2", 0.0), ("1", 0.1), ("2", 0.3)])
def test_one_step_agrees_with_torch(model, smoothing):
    """Loss and every gradient are as close to PyTorch's float64 as PyTorch's own float32 is, within a factor.

    With label smoothing, class weights too.
    """
    network = compile_network(MODELS[model])
    rng = np.random.default_rng(1)
    flat = network.initialise(1)
    # Biases other than their common start, so that one taken for another would show.
    flat += rng.normal(0, 0.01, flat.shape).astype(np.float32)
    images = rng.integers(0, 256, (SAMPLES, *network.input_shape), dtype=np.uint8)
    labels = rng.integers(0, network.classes, SAMPLES).astype(np.int32)

    scale, offset = scale_and_offset("n1p1")
    plan = Plan(network.layers, scale=scale, offset=offset, threads=2)
    totals = np.zeros(network.parameter_count + 5, np.int64)
    addresses = np.array([image.ctypes.data for image in images], np.uintp)
    weights = rng.uniform(0.25, 4, network.classes).astype(np.float32) if smoothing else None
    targets = make_targets(network.classes, smoothing=smoothing, weights=weights)
    starts = np.array([0, 16, 20], np.int32)
    plan.step(flat, addresses, labels, starts, limit=2.0**20, totals=totals, targets=targets)
    gradients = network.views(totals[: network.parameter_count] * QUANTUM)

    loss64, exact = torch_step(network, flat, images, labels, torch.float64, weights, smoothing)
    loss32, single = torch_step(network, flat, images, labels, torch.float32, weights, smoothing)
    # The loss is a sum of 20 values near 4 (16 with weights), each rounded to float32: half an ulp of 4 is 2^-22.
    heaviest = 1.0 if weights is None else 4.0
    assert abs(totals[LOSS] * QUANTUM - loss64) < max(MARGIN * abs(loss32 - loss64), SAMPLES * heaviest * 2.0**-21)
    for name, expected in exact.items():
        ours = np.linalg.norm(gradients[name] - expected)
        theirs = np.linalg.norm(single[name] - expected)
        # Both sum the same products in float32, in different orders. A factor covers the luck of the order; a
        # wrong term would be larger than rounding by four or five orders of magnitude.
        assert ours < MARGIN * theirs, f"{name}: {ours / np.linalg.norm(expected):.2e} of its norm"
