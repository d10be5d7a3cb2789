"""The definitions, in NumPy float64: index arithmetic that IS the operation, with no cleverness to hide a mistake.

Arrays are (N, H, W, C), weights (KH, KW, C_in, C_out). Loops run over kernel positions or windows; each names the input
pixel that an output pixel meets.
"""

from __future__ import annotations

import numpy as np

from lenet_mp.networks.geometry import Kind

A, B, PRELU_SLOPE, ELU_ALPHA = 1.7159, 2 / 3, 0.1, 0.5


def pad(x, padding):
    return np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def sizes(shape, kernel_size, stride, padding=0):
    return tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(shape, kernel_size, strict=True))


def _steps(start, count, stride):
    """Pixels that kernel position ``start`` meets over all outputs of one axis."""
    return slice(start, start + (count - 1) * stride + 1, stride)


def conv2d_forward(x, weight, bias, stride=1, padding=0):
    kh_, kw_, _, c_out = weight.shape
    oh, ow = sizes(x.shape[1:3], (kh_, kw_), stride, padding)
    x = pad(x, padding)
    y = np.zeros((len(x), oh, ow, c_out)) + bias
    for kh in range(kh_):
        for kw in range(kw_):
            y += x[:, _steps(kh, oh, stride), _steps(kw, ow, stride)] @ weight[kh, kw].astype(np.float64)
    return y


def conv2d_backward_weight(dy, x, kernel_size, stride=1, padding=0):
    oh, ow = dy.shape[1:3]
    x, dy = pad(x, padding), dy.astype(np.float64)
    dweight = np.zeros((*kernel_size, x.shape[3], dy.shape[3]))
    for kh in range(kernel_size[0]):
        for kw in range(kernel_size[1]):
            pixels = x[:, _steps(kh, oh, stride), _steps(kw, ow, stride)]
            dweight[kh, kw] = np.tensordot(pixels, dy, ((0, 1, 2), (0, 1, 2)))
    return dweight, dy.sum((0, 1, 2))


def conv2d_backward_input(dy, weight, input_size, stride=1, padding=0):
    oh, ow = dy.shape[1:3]
    dx = np.zeros((len(dy), input_size[0] + 2 * padding, input_size[1] + 2 * padding, weight.shape[2]))
    for kh in range(weight.shape[0]):
        for kw in range(weight.shape[1]):
            dx[:, _steps(kh, oh, stride), _steps(kw, ow, stride)] += dy.astype(np.float64) @ weight[kh, kw].T
    return dx[:, padding : padding + input_size[0], padding : padding + input_size[1]]


def windows(x, kernel_size, stride):
    """Every pooling window, its pixels in row-major order: (N, OH, OW, C, KH * KW)."""
    oh, ow = sizes(x.shape[1:3], kernel_size, stride)
    return np.stack([x[:, _steps(kh, oh, stride), _steps(kw, ow, stride)]
                     for kh in range(kernel_size[0]) for kw in range(kernel_size[1])], -1).astype(np.float64)


def spread(shares, shape, kernel_size, stride):
    """Add what each window gives to each of its pixels, (N, OH, OW, C, KH * KW), into an array of ``shape``."""
    dx = np.zeros(shape)
    oh, ow = shares.shape[1:3]
    for k in range(kernel_size[0] * kernel_size[1]):
        kh, kw = divmod(k, kernel_size[1])
        dx[:, _steps(kh, oh, stride), _steps(kw, ow, stride)] += shares[..., k]
    return dx


def average_pool2d_forward(x, kernel_size, stride):
    return windows(x, kernel_size, stride).mean(-1)


def average_pool2d_backward(dy, shape, kernel_size, stride):
    area = kernel_size[0] * kernel_size[1]
    return spread(np.repeat(dy[..., None].astype(np.float64) / area, area, -1), shape, kernel_size, stride)


def max_pool2d_forward(x, kernel_size, stride):
    return windows(x, kernel_size, stride).max(-1)


def max_pool2d_backward(dy, x, kernel_size, stride):
    pixels = windows(x, kernel_size, stride)
    first = np.arange(pixels.shape[-1]) == pixels.argmax(-1)[..., None]
    return spread(first * dy[..., None].astype(np.float64), x.shape, kernel_size, stride)


def activation_forward(x, name):
    x = x.astype(np.float64)
    with np.errstate(over="ignore"):
        return {
            "squash": lambda: A * np.tanh(B * x),
            "sigmoid": lambda: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
            "tanh": lambda: np.tanh(x),
            "relu": lambda: np.maximum(x, 0),
            "prelu": lambda: np.where(x > 0, x, PRELU_SLOPE * x),
            "elu": lambda: np.where(x > 0, x, ELU_ALPHA * np.expm1(np.minimum(x, 0))),
        }[name]()


def activation_backward(dy, y, name):
    y = y.astype(np.float64)
    return dy * {
        "squash": lambda: B * (A - y * y / A),
        "sigmoid": lambda: y * (1 - y),
        "tanh": lambda: 1 - y * y,
        "relu": lambda: np.where(y > 0, 1.0, 0.0),
        "prelu": lambda: np.where(y > 0, 1.0, PRELU_SLOPE),
        "elu": lambda: np.where(y > 0, 1.0, y + ELU_ALPHA),
    }[name]()


def softmax_cross_entropy(logits, labels, smoothing=0.0, weights=None):
    """Loss and its gradient; with label smoothing and class weights as in PyTorch.

    ``torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="none")``:
    the label's one-hot row becomes (1 - smoothing) * one-hot + smoothing / classes, and every class's term of the
    cross-entropy with it is multiplied by that class's weight, not by the label's.
    """
    z = logits.astype(np.float64)
    z = z - z.max(1, keepdims=True)
    log_probs = z - np.log(np.exp(z).sum(1, keepdims=True))
    classes = z.shape[1]
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    target = target * (1.0 if weights is None else weights.astype(np.float64))
    return -(target * log_probs).sum(1), target.sum(1, keepdims=True) * np.exp(log_probs) - target


def layer_forward(layer, x, parameters):
    """Output of one layer of a network; ``parameters`` are the whole network's, in float64."""
    end = layer.offset + layer.parameter_count
    own = parameters[layer.offset : end]
    if layer.kind in (Kind.CONV, Kind.DENSE, Kind.SUBSAMPLE):
        bias = own[-layer.output_shape[2] :]
        weight = own[: -layer.output_shape[2]].reshape(layer.weight_shape)
    if layer.kind in (Kind.CONV, Kind.DENSE):
        return conv2d_forward(x, weight, bias, layer.stride, layer.padding)
    if layer.kind is Kind.ACTIVATION:
        return activation_forward(x, layer.activation)
    if layer.kind is Kind.MAX_POOL:
        return max_pool2d_forward(x, layer.kernel_size, layer.stride)
    average = average_pool2d_forward(x, layer.kernel_size, layer.stride)
    return average * weight + bias if layer.kind is Kind.SUBSAMPLE else average


def layer_backward(layer, dy, x, y, parameters):
    """Gradients of one layer's input and of its own parameters, flat."""
    own = parameters[layer.offset : layer.offset + layer.parameter_count]
    if layer.kind in (Kind.CONV, Kind.DENSE):
        weight = own[: -layer.output_shape[2]].reshape(layer.weight_shape)
        dweight, dbias = conv2d_backward_weight(dy, x, layer.kernel_size, layer.stride, layer.padding)
        dx = conv2d_backward_input(dy, weight, x.shape[1:3], layer.stride, layer.padding)
        return dx, np.concatenate([dweight.ravel(), dbias])
    if layer.kind is Kind.ACTIVATION:
        return activation_backward(dy, y, layer.activation), np.empty(0)
    if layer.kind is Kind.MAX_POOL:
        return max_pool2d_backward(dy, x, layer.kernel_size, layer.stride), np.empty(0)
    if layer.kind is Kind.AVERAGE_POOL:
        return average_pool2d_backward(dy, x.shape, layer.kernel_size, layer.stride), np.empty(0)
    average = average_pool2d_forward(x, layer.kernel_size, layer.stride)
    weight = own[: layer.output_shape[2]]
    dx = average_pool2d_backward(dy * weight, x.shape, layer.kernel_size, layer.stride)
    return dx, np.concatenate([(dy * average).sum((0, 1, 2)), dy.sum((0, 1, 2))])


def network_forward(layers, parameters, x):
    """Every activation of a network, the input first and the logits (N, 1, 1, classes) last."""
    activations = [x.astype(np.float64)]
    for layer in layers:
        activations.append(layer_forward(layer, activations[-1], parameters))
    return activations


def network_step(layers, parameters, x, labels, smoothing=0.0, weights=None):
    """Losses (N,), logits (N, classes) and the gradient of the summed loss, flat."""
    parameters = parameters.astype(np.float64)
    activations = network_forward(layers, parameters, x)
    logits = activations[-1].reshape(len(x), -1)
    loss, dlogits = softmax_cross_entropy(logits, labels, smoothing, weights)
    dy = dlogits.reshape(activations[-1].shape)
    gradient = np.zeros_like(parameters)
    for i in reversed(range(len(layers))):
        layer = layers[i]
        dy, dparameters = layer_backward(layer, dy, activations[i], activations[i + 1], parameters)
        gradient[layer.offset : layer.offset + dparameters.size] = dparameters
    return loss, logits, gradient
