"""What one number is made of: an output value of a layer, or the gradient of a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.explaining import by_hand

if TYPE_CHECKING:
    from lenet_mp.explaining.by_hand import Array
    from lenet_mp.networks.geometry import Layer

Place = tuple[int, int, int]
HALF_ULP = 2.0**-24
"""Half of float32's relative spacing: what rounding can do to each operation."""


@dataclass(frozen=True)
class Output:
    """One output value and what it is made of.

    Attributes
    ----------
    layer : Layer
    activation : str
        The one that follows the layer; empty where none does.
    at : (row, column, channel)
    corner : (row, column)
        Of the input pixel under the window's top left; negative in the padding.
    patch, kernel, products : (KH, KW, C_in) float64
        What the window covers, its weights, and each times the other. A pooling sees its own channel alone; a
        maximum has weight 1 at the pixel that it takes.
    scale, bias : float
        Of trainable subsampling and of layers with a bias; else 1 and 0.
    by_c, by_c_activated : float
        The C kernel's values before and after the activation.
    """

    layer: Layer
    activation: str
    at: Place
    corner: tuple[int, int]
    patch: Array
    kernel: Array
    products: Array
    scale: float
    bias: float
    by_c: float
    by_c_activated: float

    @property
    def total(self) -> float:
        """The layer's value by formula, before the activation."""
        return math.fsum(self.products.ravel()) * self.scale + self.bias

    @property
    def activated(self) -> float:
        """The value after the activation."""
        if not self.activation:
            return self.total
        return float(by_hand.activate(np.array(self.total), self.activation))

    @property
    def rounding(self) -> float:
        """How far float32 sums of these products can be from the exact value: half a unit for each operation."""
        size = float(np.abs(self.products).sum()) * abs(self.scale) + abs(self.bias)
        return (self.products.size + 2) * HALF_ULP * size


@dataclass(frozen=True)
class Gradient:
    """The gradient of one weight or bias for one image, in three ways.

    Attributes
    ----------
    name : str
        For example ``C1.weight``.
    index : tuple of int
        Place in that array.
    value : float
        The weight itself.
    label : int
        Class for which the loss is taken.
    loss : float
        Cross-entropy of the image, by C.
    inputs, dy : (OH, OW) float64
        At every output position: the input that the weight meets there, and the gradient of the loss by that output
        before its activation. One position for dense layers.
    by_c : float
        From the engine's training step.
    by_difference : float
        ``(loss(w + h) - loss(w - h)) / 2h``, by C's loss.
    nudge : float
        h.
    """

    name: str
    index: tuple[int, ...]
    value: float
    label: int
    loss: float
    inputs: Array
    dy: Array
    by_c: float
    by_difference: float
    nudge: float

    @property
    def products(self) -> Array:
        """What every output position adds to the gradient."""
        return self.inputs * self.dy

    @property
    def by_formula(self) -> float:
        """Sum of ``input * dy`` over the positions."""
        return math.fsum(self.products.ravel())
