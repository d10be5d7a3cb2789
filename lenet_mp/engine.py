"""The one door to the C core: every operation alone, and the compiled step of a whole network.

Arrays are C-contiguous float32 and (N, H, W, C); weights are (KH, KW, C_in, C_out), biases (C_out,). Each function
checks its arrays, allocates the result, calls C and returns; a wrong dtype, shape or layout is an ``ArrayError`` that
names the argument, sizes that do not fit together a ``GeometryError``. Gradients are named d + the thing. The same C
functions make up the step of :class:`Plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp._guards import check, check_labels
from lenet_mp._native import available, c_augmentation, c_layers, isa, isa_index, lib, pointer
from lenet_mp.errors import ArrayError, GeometryError
from lenet_mp.networks.geometry import ACTIVATIONS, Kind, Layer, Shape, output_size
from lenet_mp.plan import COUNTS, GROUP_SIZE, LOSS, QUANTUM, REFUSED, SAMPLES, TOP1, TOP5, Plan, default_threads
from lenet_mp.targets import FIELDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.augmentation import Augment

    Array = NDArray[np.float32]

__all__ = [
    "COUNTS", "GROUP_SIZE", "LOSS", "QUANTUM", "REFUSED", "SAMPLES", "TOP1", "TOP5", "Plan",
    "activation_backward", "activation_forward", "augment_images", "available", "average_pool2d_backward",
    "average_pool2d_forward",
    "conv2d_backward_input", "conv2d_backward_weight", "conv2d_forward", "default_threads", "dense_backward",
    "dense_forward", "isa", "layer_forward", "max_pool2d_backward", "max_pool2d_forward", "softmax_cross_entropy",
    "subsample2d_backward", "subsample2d_forward",
]  # fmt: skip


def _windowed(kind: Kind, shape: Shape, kernel_size: tuple[int, int], stride: int, padding: int,
              channels: int) -> Layer:
    """Return a layer whose window moves over (H, W, C) input; ``GeometryError`` where it does not fit."""
    height, width, _ = shape
    if min(*kernel_size, stride) < 1 or padding < 0:
        raise GeometryError(f"{kind}: kernel_size {kernel_size} and stride {stride} must be at least 1, "
                            f"padding {padding} at least 0")
    out = tuple(output_size(size, kernel, stride, padding)
                for size, kernel in zip((height, width), kernel_size, strict=True))
    if min(*out, *shape, channels) < 1:
        raise GeometryError(f"{kind}: a {kernel_size[0]} x {kernel_size[1]} kernel with padding {padding} does not fit "
                            f"an input of {height} x {width} x {shape[2]}")
    return Layer(name=str(kind), kind=kind, input_shape=shape, output_shape=(out[0], out[1], channels),
                 kernel_size=kernel_size, stride=stride, padding=padding)


def _forward(layer: Layer, x: Array, parameters: Array | None) -> Array:
    y = np.empty((len(x), *layer.output_shape), np.float32)
    result = lib.lenet_layer_forward(pointer("float *", y), pointer("float *", x), pointer("float *", parameters),
                                     len(x), c_layers([layer]), isa_index())
    _require_memory(result)
    return y


def _backward(layer: Layer, dy: Array, *, x: Array | None = None, y: Array | None = None,
              parameters: Array | None = None, dx: Array | None = None, dparameters: Array | None = None) -> None:
    """Fill ``dx`` and ``dparameters``, whichever are given."""
    arrays = (pointer("float *", array) for array in (dx, dparameters, dy, x, y, parameters))
    _require_memory(lib.lenet_layer_backward(*arrays, len(dy), c_layers([layer]), isa_index()))


def _require_memory(result: int) -> None:
    if result:
        raise MemoryError("the engine could not allocate its working memory: use smaller arrays")


def _flat(weight: Array, bias: Array) -> Array:
    return np.concatenate([weight.ravel(), bias.ravel()])


def _split(layer: Layer, parameters: Array) -> tuple[Array, Array]:
    """Cut a layer's flat parameters into weight and bias."""
    count = parameters.size - layer.output_shape[2]
    return parameters[:count].reshape(layer.weight_shape), parameters[count:]


def _shape(array: Any) -> Shape:
    return (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))


# --- convolution


def conv2d_forward(x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Cross-correlate ``x`` (N, H, W, C_in) with ``weight`` and add ``bias``: (N, OH, OW, C_out).

    Each output value starts from its bias and adds its products by fused multiply-adds in the order kh, kw, ci.
    """
    check("x", x, np.float32, ("N", "H", "W", "C_in"))
    check("weight", weight, np.float32, ("KH", "KW", x.shape[3], "C_out"))
    check("bias", bias, np.float32, (weight.shape[3],))
    kernel = (weight.shape[0], weight.shape[1])
    layer = _windowed(Kind.CONV, _shape(x), kernel, stride, padding, weight.shape[3])
    return _forward(layer, x, _flat(weight, bias))


def conv2d_backward_weight(dy: Array, x: Array, *, kernel_size: tuple[int, int], stride: int = 1,
                           padding: int = 0) -> tuple[Array, Array]:
    """Gradient of weight (KH, KW, C_in, C_out) and bias (C_out,), summed over the samples."""
    check("x", x, np.float32, ("N", "H", "W", "C_in"))
    check("dy", dy, np.float32, (x.shape[0], "OH", "OW", "C_out"))
    layer = _windowed(Kind.CONV, _shape(x), kernel_size, stride, padding, dy.shape[3])
    check("dy", dy, np.float32, (x.shape[0], *layer.output_shape))
    dparameters = np.empty(layer.parameter_count, np.float32)
    _backward(layer, dy, x=x, dparameters=dparameters)
    return _split(layer, dparameters)


def conv2d_backward_input(dy: Array, weight: Array, *, input_size: tuple[int, int], stride: int = 1,
                          padding: int = 0) -> Array:
    """Gradient of the input (N, H, W, C_in), where ``input_size`` is (H, W)."""
    check("weight", weight, np.float32, ("KH", "KW", "C_in", "C_out"))
    kernel = (weight.shape[0], weight.shape[1])
    layer = _windowed(Kind.CONV, (*input_size, weight.shape[2]), kernel, stride, padding, weight.shape[3])
    check("dy", dy, np.float32, ("N", *layer.output_shape))
    dx = np.empty((len(dy), *layer.input_shape), np.float32)
    _backward(layer, dy, parameters=_flat(weight, np.zeros(weight.shape[3], np.float32)), dx=dx)
    return dx


# --- pooling


def _pool(kind: Kind, x: Array, kernel_size: tuple[int, int], stride: int) -> Layer:
    check("x", x, np.float32, ("N", "H", "W", "C"))
    return _windowed(kind, _shape(x), kernel_size, stride, 0, x.shape[3])


def average_pool2d_forward(x: Array, *, kernel_size: tuple[int, int], stride: int) -> Array:
    """Mean of each window of ``x`` (N, H, W, C): (N, OH, OW, C)."""
    return _forward(_pool(Kind.AVERAGE_POOL, x, kernel_size, stride), x, None)


def average_pool2d_backward(dy: Array, *, input_size: tuple[int, int], kernel_size: tuple[int, int],
                            stride: int) -> Array:
    """Gradient of the input (N, H, W, C), where ``input_size`` is (H, W): each window's share of ``dy``."""
    check("dy", dy, np.float32, ("N", "OH", "OW", "C"))
    layer = _windowed(Kind.AVERAGE_POOL, (*input_size, dy.shape[3]), kernel_size, stride, 0, dy.shape[3])
    check("dy", dy, np.float32, ("N", *layer.output_shape))
    dx = np.empty((len(dy), *layer.input_shape), np.float32)
    _backward(layer, dy, dx=dx)
    return dx


def max_pool2d_forward(x: Array, *, kernel_size: tuple[int, int], stride: int) -> Array:
    """Maximum of each window of ``x`` (N, H, W, C): (N, OH, OW, C); NaN where the window holds one."""
    return _forward(_pool(Kind.MAX_POOL, x, kernel_size, stride), x, None)


def max_pool2d_backward(dy: Array, x: Array, *, kernel_size: tuple[int, int], stride: int) -> Array:
    """Gradient of the input: the first maximum of each window, in row-major order, takes all of ``dy``."""
    layer = _pool(Kind.MAX_POOL, x, kernel_size, stride)
    check("dy", dy, np.float32, (len(x), *layer.output_shape))
    dx = np.empty(x.shape, np.float32)
    _backward(layer, dy, x=x, dx=dx)
    return dx


def subsample2d_forward(x: Array, weight: Array, bias: Array, *, kernel_size: tuple[int, int], stride: int) -> Array:
    """LeNet's trainable pooling: mean of each window * weight (C,) + bias (C,)."""
    layer = _pool(Kind.SUBSAMPLE, x, kernel_size, stride)
    check("weight", weight, np.float32, (x.shape[3],))
    check("bias", bias, np.float32, (x.shape[3],))
    return _forward(layer, x, _flat(weight, bias))


def subsample2d_backward(dy: Array, x: Array, weight: Array, *, kernel_size: tuple[int, int],
                         stride: int) -> tuple[Array, Array, Array]:
    """Gradients of input (N, H, W, C), weight (C,) and bias (C,)."""
    layer = _pool(Kind.SUBSAMPLE, x, kernel_size, stride)
    check("weight", weight, np.float32, (x.shape[3],))
    check("dy", dy, np.float32, (len(x), *layer.output_shape))
    dx, dparameters = np.empty(x.shape, np.float32), np.empty(layer.parameter_count, np.float32)
    _backward(layer, dy, x=x, parameters=_flat(weight, weight), dx=dx, dparameters=dparameters)
    return dx, *_split(layer, dparameters)


# --- dense


def _dense(x: Array, weight: Array) -> Layer:
    """A dense layer over x (N, H, W, C_in) or (N, C_in)."""
    check("x", x, np.float32, ("N", "H", "W", "C_in") if getattr(x, "ndim", 0) == 4 else ("N", "C_in"))  # noqa: PLR2004
    check("weight", weight, np.float32, (*x.shape[1:], "C_out"))
    shape = (1, 1, x.shape[1]) if x.ndim == 2 else _shape(x)  # noqa: PLR2004
    return _windowed(Kind.DENSE, shape, (shape[0], shape[1]), 1, 0, weight.shape[-1])


def dense_forward(x: Array, weight: Array, bias: Array) -> Array:
    """(N, C_out): x (N, H, W, C_in) or (N, C_in) times weight (H, W, C_in, C_out) or (C_in, C_out), plus bias."""
    layer = _dense(x, weight)
    check("bias", bias, np.float32, (weight.shape[-1],))
    return _forward(layer, x, _flat(weight, bias)).reshape(len(x), -1)


def dense_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradients of input, weight and bias, each in the shape of its own."""
    layer = _dense(x, weight)
    check("dy", dy, np.float32, (len(x), weight.shape[-1]))
    dx, dparameters = np.empty(x.shape, np.float32), np.empty(layer.parameter_count, np.float32)
    parameters = _flat(weight, np.zeros(weight.shape[-1], np.float32))
    _backward(layer, dy, x=x, parameters=parameters, dx=dx, dparameters=dparameters)
    dweight, dbias = _split(layer, dparameters)
    return dx, dweight.reshape(weight.shape), dbias


# --- activations and loss


def _activation(array: Array, name: str) -> Layer:
    """Elements side by side, as if each were a sample of one value."""
    if name not in ACTIVATIONS:
        raise ArrayError(f"name: expected one of {', '.join(ACTIVATIONS)}, got '{name}'")
    check("array", array, np.float32, [f"axis{axis}" for axis in range(getattr(array, "ndim", 1))])
    return Layer(name=name, kind=Kind.ACTIVATION, input_shape=(1, 1, 1), output_shape=(1, 1, 1), activation=name)


def activation_forward(x: Array, name: str) -> Array:
    """Apply the activation ``name`` to every element of ``x``, of any shape."""
    return _forward(_activation(x, name), x.reshape(-1), None).reshape(x.shape)


def activation_backward(dy: Array, y: Array, name: str) -> Array:
    """Gradient of the input, from the activation's OUTPUT ``y`` and its gradient ``dy``, of the same shape."""
    layer = _activation(y, name)
    check("dy", dy, np.float32, y.shape)
    dx = np.empty(y.shape, np.float32)
    _backward(layer, dy.reshape(-1), y=y, dx=dx)
    return dx


def softmax_cross_entropy(logits: Array, labels: NDArray[np.int32],
                          targets: Array | None = None) -> tuple[Array, Array]:
    """Loss (N,) of logits (N, C) for labels (N,) int32, and the gradient of the SUM of the losses, (N, C).

    ``targets`` (C, 3) of :func:`lenet_mp.targets.make_targets` smooth and weigh it.
    """
    check("logits", logits, np.float32, ("N", "C"))
    check("labels", labels, np.int32, (len(logits),))
    check_labels(labels, logits.shape[1])
    if targets is not None:
        check("targets", targets, np.float32, (logits.shape[1], FIELDS))
    loss, dlogits = np.empty(len(logits), np.float32), np.empty(logits.shape, np.float32)
    result = lib.lenet_softmax_cross_entropy(
        pointer("float *", loss), pointer("float *", dlogits), pointer("float *", logits),
        pointer("int32_t *", labels), pointer("struct lenet_target *", targets), len(logits), logits.shape[1],
        isa_index())
    _require_memory(result)
    return loss, dlogits


def augment_images(images: NDArray[np.uint8], augment: Augment, *, fill: int) -> NDArray[np.uint8]:
    """Return ``images`` (N, H, W, C) uint8 as a step with ``augment`` reads them; ``fill`` is what is not image."""
    check("images", images, np.uint8, ("N", "H", "W", "C"))
    check("samples", augment.samples, np.int64, (len(images),))
    out = np.empty_like(images)
    addresses = images.ctypes.data + np.arange(len(images), dtype=np.uintp) * images.strides[0]
    rules = c_augmentation(augment, _shape(images), fill)
    _require_memory(lib.lenet_augment(pointer("uint8_t *", out), pointer("uintptr_t *", addresses),
                                      pointer("int64_t *", augment.samples), len(images), rules, isa_index()))
    return out


def layer_forward(layer: Layer, x: Array, parameters: Array) -> Array:
    """Output (N, H, W, C) of any layer of a network for ``x``; ``parameters`` are the whole network's."""
    check("x", x, np.float32, ("N", *layer.input_shape))
    check("parameters", parameters, np.float32, ("P",))
    end = layer.offset + layer.parameter_count
    if parameters.size < end:
        raise ArrayError(f"parameters: expected at least {end} values for layer {layer.name}, got {parameters.size}")
    return _forward(layer, x, parameters[layer.offset : end])
