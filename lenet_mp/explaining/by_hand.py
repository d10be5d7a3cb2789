"""The layers as their formulas say, in float64 on one image: what the C kernels are explained and compared with.

Every function takes and gives (H, W, C) arrays. A window of a convolution or pooling at output (row, column) covers
the padded input from (row * stride, column * stride) on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.networks.geometry import POOLS, Kind, Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.networks.network import Network

    Array = NDArray[np.float64]

SQUASH_HEIGHT, SQUASH_SLOPE = 1.7159, 2 / 3
PRELU_SLOPE, ELU_ALPHA = 0.1, 0.5


def windows(layer: Layer, x: Array) -> Array:
    """Return every window that ``layer`` looks through: (OH, OW, C_in, KH, KW), a view."""
    p = layer.padding
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    every = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel_size, axis=(0, 1))
    height, width, _ = layer.output_shape
    found: Array = every[:: layer.stride, :: layer.stride][:height, :width]
    return found


def weight_and_bias(layer: Layer, parameters: NDArray[np.floating]) -> tuple[Array, Array]:
    """Return a layer's arrays, in float64; ``parameters`` (P,) are the whole network's."""
    own = parameters[layer.offset : layer.offset + layer.parameter_count].astype(np.float64)
    channels = layer.output_shape[2]
    return own[:-channels].reshape(layer.weight_shape), own[-channels:]


def forward(layer: Layer, x: Array, parameters: NDArray[np.floating]) -> Array:
    """Return the layer's output."""
    if layer.kind is Kind.ACTIVATION:
        return activate(x, layer.activation)
    seen = windows(layer, x)
    if layer.kind is Kind.MAX_POOL:
        return np.asarray(seen.max(axis=(3, 4)))
    if layer.kind is Kind.AVERAGE_POOL:
        return np.asarray(seen.mean(axis=(3, 4)))
    weight, bias = weight_and_bias(layer, parameters)
    if layer.kind is Kind.SUBSAMPLE:
        return np.asarray(seen.mean(axis=(3, 4)) * weight + bias)
    return np.asarray(np.tensordot(seen, weight, axes=((3, 4, 2), (0, 1, 2))) + bias)


def backward(layer: Layer, dy: Array, x: Array, y: Array, parameters: NDArray[np.floating]) -> Array:
    """Return the gradient of the layer's input, from that of its output ``y``."""
    if layer.kind is Kind.ACTIVATION:
        return dy * slope(y, layer.activation)
    if layer.kind in POOLS:
        return _spread(layer, dy[..., np.newaxis, np.newaxis] * _shares(layer, x, parameters))
    weight, _ = weight_and_bias(layer, parameters)
    return _spread(layer, np.moveaxis(np.tensordot(dy, weight, axes=(2, 3)), 4, 2))


def _shares(layer: Layer, x: Array, parameters: NDArray[np.floating]) -> Array:
    """How much each pixel of a window counts in a pooling's output, (OH, OW, C, KH, KW) or less."""
    height, width = layer.kernel_size
    if layer.kind is Kind.MAX_POOL:
        # The first maximum in row-major order takes all.
        flat = windows(layer, x).reshape(*layer.output_shape, height * width)
        first: Array = (np.arange(height * width) == flat.argmax(axis=3)[..., np.newaxis]).astype(np.float64)
        return first.reshape(*layer.output_shape, height, width)
    shares: Array = np.full((height, width), 1 / (height * width))
    if layer.kind is Kind.SUBSAMPLE:
        shares = weight_and_bias(layer, parameters)[0][:, np.newaxis, np.newaxis] * shares
    return shares


def _spread(layer: Layer, parts: Array) -> Array:
    """Add up what all windows (OH, OW, C_in, KH, KW) give to each pixel of the input."""
    height, width, channels = layer.input_shape
    p, s = layer.padding, layer.stride
    dx = np.zeros((height + 2 * p, width + 2 * p, channels))
    rows, columns, _ = layer.output_shape
    for kh, kw in np.ndindex(*layer.kernel_size):
        dx[kh : kh + s * rows : s, kw : kw + s * columns : s] += parts[..., kh, kw]
    return dx[p : p + height, p : p + width]


def activate(x: Array, name: str) -> Array:
    """Apply an activation, one of ``geometry.ACTIVATIONS``."""
    if name == "squash":
        return SQUASH_HEIGHT * np.tanh(SQUASH_SLOPE * x)
    if name == "sigmoid":
        return (1 + np.tanh(x / 2)) / 2
    if name == "tanh":
        return np.tanh(x)
    below = {"relu": 0 * x, "prelu": PRELU_SLOPE * x, "elu": ELU_ALPHA * np.expm1(np.minimum(x, 0))}[name]
    return np.where(x > 0, x, below)


def slope(y: Array, name: str) -> Array:
    """Return an activation's derivative, from its output ``y``."""
    if name == "squash":
        return SQUASH_SLOPE * (SQUASH_HEIGHT - y * y / SQUASH_HEIGHT)
    if name == "sigmoid":
        return y * (1 - y)
    if name == "tanh":
        return 1 - y * y
    below = {"relu": 0 * y, "prelu": PRELU_SLOPE + 0 * y, "elu": y + ELU_ALPHA}[name]
    return np.where(y > 0, 1.0, below)


def activations(network: Network, parameters: NDArray[np.floating], x: Array) -> list[Array]:
    """Return the input and every layer's output, the logits (1, 1, K) last."""
    found = [x]
    for layer in network.layers:
        found.append(forward(layer, found[-1], parameters))
    return found


def output_gradients(
    network: Network, parameters: NDArray[np.floating], values: list[Array], label: int
) -> list[Array]:
    """Return the gradient of the cross-entropy by every layer's output.

    ``values`` are those of :func:`activations`. The last one's is softmax minus 1 at the label; each one before
    follows from the next by the chain rule.
    """
    logits = values[-1].reshape(-1)
    powers = np.exp(logits - logits.max())
    dy = powers / powers.sum()
    dy[label] -= 1
    found = [dy.reshape(values[-1].shape)]
    for index in range(len(network.layers) - 1, 0, -1):
        found.append(backward(network.layers[index], found[-1], values[index], values[index + 1], parameters))
    return found[::-1]
