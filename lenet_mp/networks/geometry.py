"""Shapes of the layers: what goes in, what comes out, how many parameters lie in between.

Pure arithmetic on integers. A :class:`Layer` is a row of a compiled network: every size is known. Shapes are
(H, W, C), without the sample axis; weights are (KH, KW, C_in, C_out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

Shape = tuple[int, int, int]


class Kind(StrEnum):
    """What a layer does; the values are the words of model tables and of the C core."""

    CONV = "conv"
    DENSE = "dense"
    AVERAGE_POOL = "average_pool"
    MAX_POOL = "max_pool"
    SUBSAMPLE = "subsample"
    ACTIVATION = "activation"


POOLS = frozenset({Kind.AVERAGE_POOL, Kind.MAX_POOL, Kind.SUBSAMPLE})
ACTIVATIONS = ("squash", "sigmoid", "tanh", "relu", "prelu", "elu")
"""squash: 1.7159 tanh(2x/3); prelu: fixed slope 0.1; elu: alpha 0.5."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a compiled network.

    Attributes
    ----------
    name : str
        Unique in the network, for example ``C1``; an activation is named after the layer it follows.
    kind : Kind
    input_shape, output_shape : (H, W, C)
    kernel_size : (KH, KW)
        The window of a convolution or pooling; (H, W) of the input for a dense layer; (1, 1) for an activation.
    stride, padding : int
        The same in both directions. Pooling has no padding.
    activation : str
        One of ``ACTIVATIONS``, for activation layers only.
    offset : int
        Index of the layer's first parameter in the flat parameter vector: its weight, then its bias.
    """

    name: str
    kind: Kind
    input_shape: Shape
    output_shape: Shape
    kernel_size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    activation: str = ""
    offset: int = 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight; empty where the layer has none."""
        channels_in, channels_out = self.input_shape[2], self.output_shape[2]
        if self.kind in (Kind.CONV, Kind.DENSE):
            return (*self.kernel_size, channels_in, channels_out)
        return (channels_out,) if self.kind is Kind.SUBSAMPLE else ()

    @property
    def parameter_count(self) -> int:
        """Number of trainable values; ``KH * KW * C_in * C_out + C_out`` for a convolution."""
        return math.prod(self.weight_shape) + self.output_shape[2] if self.weight_shape else 0

    @property
    def fan_in(self) -> int:
        """Inputs of one output value: ``KH * KW * C_in`` of a convolution or dense layer."""
        return math.prod(self.weight_shape[:-1]) if self.weight_shape else 0


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Output pixels along one axis: ``floor((size + 2 padding - kernel) / stride) + 1``; below 1 does not fit."""
    return (size + 2 * padding - kernel) // stride + 1
