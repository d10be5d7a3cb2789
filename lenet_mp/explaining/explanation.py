"""One image in a network: takes apart where an output or a gradient comes from, and asks C for the same number."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import engine
from lenet_mp.errors import UsageError
from lenet_mp.explaining import by_hand
from lenet_mp.explaining.derivations import Gradient, Output
from lenet_mp.networks.geometry import POOLS, Kind, Layer
from lenet_mp.plan import COUNTS, LARGEST_LIMIT, LOSS, QUANTUM, REFUSED, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.explaining.by_hand import Array
    from lenet_mp.explaining.derivations import Place
    from lenet_mp.networks.network import Network

NUDGE = 2.0**-7
"""How far a weight is moved for the finite difference: near the cube root of float32's rounding, where the errors of
rounding and of curvature are equally small."""


class Scene:
    """One image in a network.

    Parameters
    ----------
    network : Network
    parameters : (P,) float32
    image : (H, W, C) uint8
    scale, offset : float
        Of the normalisation.
    """

    def __init__(
        self, network: Network, parameters: NDArray[np.float32], image: NDArray[np.uint8], scale: float, offset: float
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.image = np.ascontiguousarray(image)
        self._plan = Plan(network.layers, scale=scale, offset=offset, threads=1)
        # In float64 the product is exact, so that this rounds once, as the fused multiply-add of the C core does.
        pixels = self.image.astype(np.float64) * np.float32(scale) + np.float32(offset)
        self._pixels = np.ascontiguousarray(pixels[np.newaxis], np.float32)

    @cached_property
    def values(self) -> list[NDArray[np.float32]]:
        """The normalised image and every layer's output (H, W, C), by the C kernels."""
        found = [self._pixels]
        for layer in self.network.layers:
            found.append(engine.layer_forward(layer, found[-1], self.parameters))
        return [values[0] for values in found]

    @property
    def prediction(self) -> int:
        """The most likely class."""
        return int(self.values[-1].argmax())

    def find(self, name: str) -> int:
        """Return a layer's number; ``UsageError`` names the layers that there are."""
        names = [layer.name for layer in self.network.layers if layer.kind is not Kind.ACTIVATION]
        if name not in names:
            raise UsageError(f"model {self.network.model.name} has no layer '{name}': choose one of {', '.join(names)}")
        return next(number for number, layer in enumerate(self.network.layers) if layer.name == name)

    def strongest(self, name: str) -> Place:
        """Return the place of the largest value that comes out of a layer."""
        values = self.values[self.find(name) + 1]
        row, column, channel = np.unravel_index(int(values.argmax()), values.shape)
        return int(row), int(column), int(channel)

    def output(self, name: str, at: Place) -> Output:
        """Take apart the output of layer ``name`` at (row, column, channel), all counted from 0."""
        number = self.find(name)
        layer = self.network.layers[number]
        row, column, channel = at
        if any(not 0 <= place < size for place, size in zip(at, layer.output_shape, strict=True)):
            raise UsageError(
                f"{name} has no output {_commas(at)}: it has {' x '.join(map(str, layer.output_shape))} rows, columns "
                "and channels, counted from 0"
            )
        patch = np.moveaxis(by_hand.windows(layer, self.values[number].astype(np.float64))[row, column], 0, 2)
        if layer.kind in POOLS:
            patch = patch[..., channel : channel + 1]
        kernel, scale, bias = self._weights(layer, patch, channel)
        after = self.network.layers[number + 1] if number + 1 < len(self.network.layers) else None
        activation = after.activation if after and after.kind is Kind.ACTIVATION else ""
        return Output(
            layer=layer,
            activation=activation,
            at=at,
            corner=(row * layer.stride - layer.padding, column * layer.stride - layer.padding),
            patch=patch,
            kernel=kernel,
            products=patch * kernel,
            scale=scale,
            bias=bias,
            by_c=float(self.values[number + 1][at]),
            by_c_activated=float(self.values[number + 1 + bool(activation)][at]),
        )

    def _weights(self, layer: Layer, patch: Array, channel: int) -> tuple[Array, float, float]:
        """Return what the patch is multiplied with, and the scale and bias of the sum."""
        if layer.kind is Kind.MAX_POOL:
            kernel = np.zeros(patch.shape)
            kernel.flat[patch.argmax()] = 1
            return kernel, 1.0, 0.0
        if layer.kind is Kind.AVERAGE_POOL:
            return np.full(patch.shape, 1 / patch.size), 1.0, 0.0
        weight, bias = by_hand.weight_and_bias(layer, self.parameters)
        if layer.kind is Kind.SUBSAMPLE:
            return np.full(patch.shape, 1 / patch.size), float(weight[channel]), float(bias[channel])
        return weight[..., channel], 1.0, float(bias[channel])

    def gradient(self, name: str, index: tuple[int, ...], label: int) -> Gradient:
        """Take apart the gradient of the loss for ``label`` by one element of the array ``name``, as ``C1.weight``."""
        place = self._place(name, index)
        layer_number = self.find(name.partition(".")[0])
        values = by_hand.activations(self.network, self.parameters, self._pixels[0].astype(np.float64))
        dy = by_hand.output_gradients(self.network, self.parameters, values, label)[layer_number]
        inputs, channel = _meets(self.network.layers[layer_number], name, index, values[layer_number])
        value = float(self.parameters[place])
        by_c, loss = self._step(place, label)
        high, low = np.float32(value + NUDGE), np.float32(value - NUDGE)
        difference = self._loss(place, high, label) - self._loss(place, low, label)
        return Gradient(
            name=name,
            index=index,
            value=value,
            label=label,
            loss=loss,
            inputs=inputs,
            dy=dy[..., channel],
            by_c=by_c,
            by_difference=difference / (float(high) - float(low)),
            nudge=NUDGE,
        )

    def _place(self, name: str, index: tuple[int, ...]) -> int:
        """Return the index of an element in the flat vector."""
        places = self.network.views(np.arange(self.network.parameter_count))
        if name not in places:
            having = ", ".join(array.removesuffix(".weight") for array in places if array.endswith(".weight"))
            raise UsageError(f"{name.partition('.')[0]} has no weights: choose a layer that has some, of {having}")
        shape = places[name].shape
        if len(index) != len(shape) or any(not 0 <= i < size for i, size in zip(index, shape, strict=True)):
            raise UsageError(f"{name} has no element {_commas(index)}: its shape is {_commas(shape)}, counted from 0")
        return int(places[name][index])

    def _step(self, place: int, label: int) -> tuple[float, float]:
        """Return a gradient and the loss, by the engine's training step on this image alone."""
        totals = np.zeros(self.network.parameter_count + COUNTS, np.int64)
        labels, groups = np.array([label], np.int32), np.array([0, 1], np.int32)
        self._plan.step(self.parameters, [self.image.ctypes.data], labels, groups, limit=LARGEST_LIMIT, totals=totals)
        if totals[REFUSED]:
            raise UsageError("the gradient for this image is not finite: the training diverged, use another checkpoint")
        return int(totals[place]) * QUANTUM, int(totals[LOSS]) * QUANTUM

    def _loss(self, place: int, weight: np.float32, label: int) -> float:
        """Return C's loss with one weight set to another value."""
        moved = self.parameters.copy()
        moved[place] = weight
        counts = np.zeros(COUNTS, np.int64)
        self._plan.evaluate(moved, [self.image.ctypes.data], np.array([label], np.int32), totals=counts)
        return int(counts[LOSS]) * QUANTUM


def _meets(layer: Layer, name: str, index: tuple[int, ...], x: Array) -> tuple[Array, int]:
    """Return the input that a weight meets at every output position (OH, OW), and its output channel."""
    channel = index[-1]
    if name.endswith(".bias"):
        return np.ones(layer.output_shape[:2]), channel
    if layer.kind is Kind.SUBSAMPLE:
        return by_hand.windows(layer, x)[:, :, channel].mean(axis=(2, 3)), channel
    # A dense layer behind 1 x 1 maps is addressed by its input and output alone.
    kh, kw, ci = (0, 0, index[0]) if len(index) == 2 else index[:3]  # noqa: PLR2004
    return by_hand.windows(layer, x)[:, :, ci, kh, kw], channel


def _commas(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
