"""A compiled network: the size of every layer, and the place of every array in one flat parameter vector."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.errors import GeometryError, UsageError
from lenet_mp.networks.geometry import POOLS, Kind, Layer, Shape, output_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lenet_mp.networks.models import Model, Row

    Flat = NDArray[np.float32]

BIAS = 0.01
"""Every bias starts here."""


@dataclass(frozen=True)
class Network:
    """A model compiled for one image shape and number of classes.

    Attributes
    ----------
    model : Model
        The table that it was compiled from.
    layers : tuple of Layer
        In the order of the forward pass. The last one gives the logits.
    """

    model: Model
    layers: tuple[Layer, ...]

    @property
    def input_shape(self) -> Shape:
        """(H, W, C) of an image."""
        return self.layers[0].input_shape

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.layers[-1].output_shape[2]

    @property
    def parameter_count(self) -> int:
        """Length of the flat parameter vector."""
        return sum(layer.parameter_count for layer in self.layers)

    def views(self, flat: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        """Return every array of the flat vector by name, ``C1.weight`` (KH, KW, C_in, C_out) and ``C1.bias`` (C_out,).

        The arrays are views: writing to one writes to ``flat``. A dense layer on a 1 x 1 input has its weight as
        (C_in, C_out).
        """
        if flat.shape != (self.parameter_count,):
            raise UsageError(f"flat vector has shape {flat.shape}, the network needs ({self.parameter_count},)")
        arrays = {}
        for layer in self.layers:
            if not layer.weight_shape:
                continue
            middle = layer.offset + math.prod(layer.weight_shape)
            shape = layer.weight_shape
            if layer.kind is Kind.DENSE and layer.kernel_size == (1, 1):
                shape = shape[2:]
            arrays[f"{layer.name}.weight"] = flat[layer.offset : middle].reshape(shape)
            arrays[f"{layer.name}.bias"] = flat[middle : layer.offset + layer.parameter_count]
        return arrays

    def initialise(self, seed: int, scheme: str = "Xavier") -> Flat:
        """Return a fresh flat vector (parameter_count,), drawn by ``scheme``, one of ``INITIALISERS``.

        Subsampling layers start as plain pooling (weight 1). The draws depend on the seed and the layer's place
        alone, through NumPy's Philox generator.
        """
        try:
            draw = INITIALISERS[scheme]
        except KeyError:
            raise UsageError(f"unknown initialisation '{scheme}': choose one of {', '.join(INITIALISERS)}") from None
        flat = np.full(self.parameter_count, BIAS, np.float32)
        arrays = self.views(flat)
        for index, layer in enumerate(self.layers):
            if layer.weight_shape:
                weight = arrays[f"{layer.name}.weight"]
                rng = np.random.Generator(np.random.Philox(key=[seed, index]))
                weight[...] = 1 if layer.kind is Kind.SUBSAMPLE else draw(rng, layer.fan_in, weight.shape)
        return flat


INITIALISERS: dict[str, Callable[[np.random.Generator, int, tuple[int, ...]], NDArray[np.float64]]] = {
    "Xavier": lambda rng, fan_in, shape: rng.normal(0, 1 / math.sqrt(fan_in), shape),
    "Gaussian_dist": lambda rng, _, shape: rng.normal(0, 0.1, shape),
    "Fan-in": lambda rng, fan_in, shape: rng.uniform(-2.4 / fan_in, 2.4 / fan_in, shape),
}
"""Draws by name: normal with deviation 1/sqrt(fan_in), normal with 0.1, uniform within 2.4/fan_in."""


def compile_network(model: Model, input_shape: Shape | None = None, classes: int | None = None) -> Network:
    """Work out every layer's sizes for images of ``input_shape`` (H, W, C), by default the model's own.

    Raises
    ------
    GeometryError
        Where a layer does not fit its input; the text names the layer and the smallest image that works.
    """
    shape = input_shape or model.input_shape
    classes = classes or model.classes
    layers = _layers(model.rows, shape, classes)
    if layers is None:
        raise GeometryError(_complaint(model, shape, classes))
    if layers[-1].output_shape[:2] != (1, 1) or layers[-1].output_shape[2] != classes:
        raise GeometryError(
            f"model {model.name} ends in {layers[-1].name} with output {_text(layers[-1].output_shape)}, "
            f"not 1 x 1 x {classes}: end it in a dense layer without 'channels', one output a class"
        )
    return Network(model, layers)


def _layers(rows: tuple[Row, ...], shape: Shape, classes: int, upto: int | None = None) -> tuple[Layer, ...] | None:
    """Compile the first ``upto`` rows, or return None where one does not fit."""
    layers: list[Layer] = []
    offset = 0
    for row in rows[:upto]:
        layer = _layer(row, shape, classes, offset, layers[-1].name if layers else "input")
        if layer is None:
            return None
        layers.append(layer)
        offset += layer.parameter_count
        shape = layer.output_shape
    return tuple(layers)


def _layer(row: Row, shape: Shape, classes: int, offset: int, previous: str) -> Layer | None:
    height, width, channels = shape
    if row.kind is Kind.ACTIVATION:
        name = f"{previous}.{row.activation}"
        return Layer(name=name, kind=row.kind, input_shape=shape, output_shape=shape, activation=row.activation)
    covers = row.kind is Kind.DENSE or not row.kernel
    kernel = (height + 2 * row.padding, width + 2 * row.padding) if covers else (row.kernel, row.kernel)
    stride = row.stride or (row.kernel if row.kind in POOLS else 1)
    out_height = output_size(height, kernel[0], stride, row.padding)
    out_width = output_size(width, kernel[1], stride, row.padding)
    if out_height < 1 or out_width < 1 or row.padding >= min(kernel):
        return None
    return Layer(
        name=row.name,
        kind=row.kind,
        input_shape=shape,
        output_shape=(out_height, out_width, channels if row.kind in POOLS else row.channels or classes),
        kernel_size=kernel,
        stride=stride,
        padding=row.padding,
        offset=offset,
    )


def _complaint(model: Model, shape: Shape, classes: int) -> str:
    """Name the first row that does not fit, its input, and the smallest image that it would fit."""
    index = next(i for i in range(len(model.rows)) if _layers(model.rows, shape, classes, i + 1) is None)
    row = model.rows[index]
    before = _layers(model.rows, shape, classes, index) or ()
    found = before[-1].output_shape if before else shape
    where = f"model {model.name}, layer {row.name}: "
    if row.kernel and row.padding >= row.kernel:
        return f"{where}padding {row.padding} must be smaller than the kernel {row.kernel}; set a smaller padding"
    sizes = range(min(shape[:2]) + 1, 4097)
    # What fits an image fits every larger one.
    place = bisect.bisect_left(sizes, True, key=lambda s: bool(_layers(model.rows, (s, s, shape[2]), classes)))
    smallest = sizes[place] if place < len(sizes) else None
    fit = f"the smallest image that works is {smallest} x {smallest}" if smallest else "no image size up to 4096 works"
    return (
        f"{where}{row.kernel} x {row.kernel} with padding {row.padding} does not fit its {_text(found)} input "
        f"(image {_text(shape)}); {fit}, or reduce a kernel or stride before it"
    )


def _text(shape: Shape) -> str:
    return " x ".join(map(str, shape))
