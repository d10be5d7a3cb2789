"""A trained network as an ONNX graph: from stored pixels to logits.

Input ``images`` (N, H, W, C) uint8, output ``logits`` (N, K) float32. Normalisation and the change to ONNX's channels
first are part of the graph. A dense layer is written as the convolution that covers its whole input, which it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import lenet_mp
from lenet_mp import files
from lenet_mp.networks.geometry import Kind
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.results import exporters

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from lenet_mp.networks.geometry import Layer
    from lenet_mp.training.checkpoint import Checkpoint

OPSET = 17
IR_VERSION = 8
"""Versions of 2022: old enough for runtimes in use, new enough for all that is needed here."""

ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "prelu": ("LeakyRelu", {"alpha": 0.1}),
    "elu": ("Elu", {"alpha": 0.5}),
}
"""Operator and settings of every activation but squash."""


class _Graph:
    """Nodes in their order, each reading what the one before it wrote, and the constants they use."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = "images"

    def add(self, operator: str, name: str, *constants: tuple[str, ArrayLike], **attributes: Any) -> None:
        """Append a node that takes the current value and ``constants``, given as (name, values), in float32."""
        for constant, array in constants:
            tensor = self._onnx.numpy_helper.from_array(np.array(array, np.float32, order="C"), constant)
            self.constants.append(tensor)
        inputs = [self.value, *(constant for constant, _ in constants)]
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.value = name


def write(checkpoint: Checkpoint, path: Path) -> list[Path]:
    """Write the graph, after ONNX's own check of it; ``UsageError`` where the package onnx is not installed."""
    onnx = exporters.require("onnx")
    network = checkpoint.network
    graph = _Graph(onnx)
    _add_input(graph, checkpoint)
    weights = exporters.arrays(checkpoint)
    for layer in network.layers:
        _add_layer(graph, layer, weights)
    graph.add("Flatten", "logits", axis=1)
    helper, kinds = onnx.helper, onnx.TensorProto
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"lenet_mp model {checkpoint.model.name}",
            [helper.make_tensor_value_info("images", kinds.UINT8, ["N", *network.input_shape])],
            [helper.make_tensor_value_info("logits", kinds.FLOAT, ["N", network.classes])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lenet_mp",
        producer_version=lenet_mp.__version__,
    )
    helper.set_model_props(model, exporters.texts(checkpoint))
    onnx.checker.check_model(model, full_check=True)
    files.write_atomically(path, model.SerializeToString(deterministic=True))
    return [path]


def _add_input(graph: _Graph, checkpoint: Checkpoint) -> None:
    scale, offset = scale_and_offset(checkpoint.normalize)
    graph.add("Cast", "pixels", to=1)  # 1: float32
    graph.add("Mul", "scaled", ("scale", scale))
    graph.add("Add", "normalized", ("offset", offset))
    graph.add("Transpose", "channels_first", perm=[0, 3, 1, 2])


def _add_layer(graph: _Graph, layer: Layer, weights: dict[str, NDArray[np.generic]]) -> None:
    if layer.kind is Kind.ACTIVATION:
        _add_activation(graph, layer)
        return
    if layer.kind in (Kind.CONV, Kind.DENSE):
        # (KH, KW, C_in, C_out) to (C_out, C_in, KH, KW); a dense layer's kernel is its whole input.
        weight = weights[f"{layer.name}.weight"].reshape(layer.weight_shape).transpose(3, 2, 0, 1)
        constants = ((f"{layer.name}.weight", weight), (f"{layer.name}.bias", weights[f"{layer.name}.bias"]))
        strides, pads = [layer.stride] * 2, [layer.padding] * 4
        graph.add("Conv", layer.name, *constants, kernel_shape=layer.kernel_size, strides=strides, pads=pads)
        return
    operator = "MaxPool" if layer.kind is Kind.MAX_POOL else "AveragePool"
    trainable = layer.kind is Kind.SUBSAMPLE
    name = f"{layer.name}.mean" if trainable else layer.name
    graph.add(operator, name, kernel_shape=layer.kernel_size, strides=[layer.stride] * 2)
    if trainable:
        weight, bias = (weights[f"{layer.name}.{part}"].reshape(1, -1, 1, 1) for part in ("weight", "bias"))
        graph.add("Mul", f"{layer.name}.scaled", (f"{layer.name}.weight", weight))
        graph.add("Add", layer.name, (f"{layer.name}.bias", bias))


def _add_activation(graph: _Graph, layer: Layer) -> None:
    # Two activations behind one layer have the same name; a graph's must be unique.
    name = f"{layer.name}.{len(graph.nodes)}"
    if layer.activation == "squash":
        graph.add("Mul", f"{name}.in", (f"{name}.slope", 2 / 3))
        graph.add("Tanh", f"{name}.tanh")
        graph.add("Mul", name, (f"{name}.height", 1.7159))
        return
    operator, attributes = ACTIVATIONS[layer.activation]
    graph.add(operator, name, **attributes)
