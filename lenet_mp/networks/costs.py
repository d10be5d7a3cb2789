"""What each layer of a network costs: parameters, connections, floating-point operations, memory.

All figures are for the forward pass of one sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lenet_mp.networks.geometry import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.networks.geometry import Layer
    from lenet_mp.networks.network import Network

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One row of the table; an activation is part of the row of the layer that it follows.

    Attributes
    ----------
    layer, kind, output : str
        ``C1``, ``conv + squash``, ``84 x 84 x 6``.
    kernel, stride, padding : str
        Empty where the layer has none.
    parameters : int
        ``KH * KW * C_in * C_out + C_out`` for a convolution.
    connections : int
        Output area times parameters.
    flops : int
        A multiply-add is 2. The bias is where a sum starts and costs nothing, nor do activations; pooling costs 1
        a value that it reads, trainable subsampling 2 more an output.
    activation_bytes : int
        The output in float32; an activation works in place.
    """

    layer: str
    kind: str
    kernel: str = ""
    stride: str = ""
    padding: str = ""
    output: str
    parameters: int = 0
    connections: int = 0
    flops: int = 0
    activation_bytes: int


COLUMNS = tuple(field.name for field in fields(Cost))
AMOUNTS = ("parameters", "connections", "flops", "activation_bytes")
"""The columns that can be added up."""


def layer_costs(network: Network) -> list[Cost]:
    """Return one row for the input (stored as bytes) and one for each layer."""
    rows = [Cost(layer="input", kind="uint8", output=_times(network.input_shape), activation_bytes=0)]
    for layer in network.layers:
        if layer.kind is Kind.ACTIVATION:
            last = rows.pop()
            rows.append(Cost(**(vars(last) | {"kind": f"{last.kind} + {layer.activation}"})))
        else:
            rows.append(_cost(layer))
    return rows


def total_cost(rows: Sequence[Cost]) -> Cost:
    """Return the row of sums, called ``total``."""
    return Cost(
        layer="total",
        kind="",
        output="",
        parameters=sum(row.parameters for row in rows),
        connections=sum(row.connections for row in rows),
        flops=sum(row.flops for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
    )


def _cost(layer: Layer) -> Cost:
    height, width, _ = layer.output_shape
    windows = layer.kind is not Kind.DENSE
    return Cost(
        layer=layer.name,
        kind=layer.kind.replace("_", " "),
        kernel=_times(layer.kernel_size) if windows else "",
        stride=str(layer.stride) if windows else "",
        padding=str(layer.padding) if windows else "",
        output=_times(layer.output_shape),
        parameters=layer.parameter_count,
        connections=height * width * layer.parameter_count,
        flops=_flops(layer),
        activation_bytes=math.prod(layer.output_shape) * FLOAT_BYTES,
    )


def _flops(layer: Layer) -> int:
    outputs = math.prod(layer.output_shape)
    if layer.kind in (Kind.CONV, Kind.DENSE):
        return 2 * layer.fan_in * outputs
    reads = math.prod(layer.kernel_size) * outputs
    return reads + 2 * outputs if layer.kind is Kind.SUBSAMPLE else reads


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
