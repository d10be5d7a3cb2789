"""A trained network as one C header and one C source, for programs without Python and chips without libraries."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

import lenet_mp
from lenet_mp import engine, files
from lenet_mp.errors import DivergenceError, UsageError
from lenet_mp.networks.geometry import Kind
from lenet_mp.networks.normalization import RANGES, scale_and_offset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.networks.geometry import Layer
    from lenet_mp.networks.network import Network
    from lenet_mp.training.checkpoint import Checkpoint

SEEDS = (1, 2, 3)
"""Of the images whose answers are stored for the self-test."""
A_LINE = 8
TANH = "tanh_all"
"""The function is not called tanh because compilers know one of that name."""


def write(checkpoint: Checkpoint, path: Path) -> list[Path]:
    """Write ``path`` (.c) and the header beside it; the file's name gives its functions their prefix.

    Raises
    ------
    UsageError
        If ``path`` does not end in ``.c``.
    DivergenceError
        If a weight is not finite.
    """
    if path.suffix != ".c":
        raise UsageError(f"{path}: a C source must end in .c; the header is written beside it")
    if not np.isfinite(checkpoint.parameters).all():
        raise DivergenceError("a weight is not finite: the training diverged, use another checkpoint")
    header = path.with_suffix(".h")
    environment = jinja2.Environment(  # noqa: S701 - C, not HTML
        loader=jinja2.PackageLoader("lenet_mp.results"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    facts = _facts(checkpoint, prefix(path.stem)) | {"header": header.name}
    texts = {place: environment.get_template(f"model{place.suffix}").render(facts) for place in (header, path)}
    for place, text in texts.items():
        files.write_atomically(place, text.encode())
    return list(texts)


def prefix(stem: str) -> str:
    """Make a file's name one for C functions: ``model-1`` gives ``model_1``."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if re.match(r"[A-Za-z]", name) else f"m_{name}"


def _facts(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Everything that the templates fill in."""
    network = checkpoint.network
    scale, offset = scale_and_offset(checkpoint.normalize)
    low, high = RANGES[checkpoint.normalize]
    model = re.sub(r"[^A-Za-z0-9_.+-]", " ", checkpoint.model.name)
    count = f"{network.parameter_count:,}"
    return {
        "about": f"Model {model} with {count} parameters, written by lenet_mp {lenet_mp.__version__}.",
        "name": name,
        "macro": name.upper(),
        "order": "grey" if checkpoint.channel_order == "L" else ", ".join(checkpoint.channel_order),
        "shape": network.input_shape,
        "classes": [string(text) for text in checkpoint.class_names],
        "scale": number(np.float32(scale)),
        "offset": number(np.float32(offset)),
        "low": low,
        "high": high,
        "answers": [numbers(logits) for logits in answers(checkpoint)],
        **_functions(network),
        **_program(network, checkpoint.parameters),
    }


def _functions(network: Network) -> dict[str, Any]:
    """Which functions the source needs: compilers warn of those that nothing calls."""
    kinds = {str(layer.kind) for layer in network.layers}
    activations = {layer.activation for layer in network.layers if layer.kind is Kind.ACTIVATION}
    return {
        "used": kinds | ({"conv"} if Kind.DENSE in kinds else set()),
        "activations": sorted(map(_activation, activations)),
        "uses_exp": bool(activations & {"squash", "tanh", "sigmoid", "elu"}),
        "uses_tanh": bool(activations & {"squash", "tanh"}),
    }


def _activation(name: str) -> str:
    return TANH if name == "tanh" else name


def _program(network: Network, parameters: NDArray[np.float32]) -> dict[str, Any]:
    """Weights, windows and calls in their order, and the sizes of the two buffers that the calls write to in turn."""
    arrays: list[dict[str, Any]] = []
    windows: list[dict[str, str]] = []
    calls = []
    sizes = [math.prod(network.input_shape), 0]
    last = [layer for layer in network.layers if layer.kind is not Kind.ACTIVATION][-1]
    here, place = 0, "a"
    for layer in network.layers:
        count = math.prod(layer.output_shape)
        if layer.kind is Kind.ACTIVATION:
            calls.append(f"{_activation(layer.activation)}({place}, {count})")
            continue
        source, place = place, "logits"
        if layer is not last:
            here = 1 - here
            sizes[here] = max(sizes[here], count)
            place = "ab"[here]
        # The number keeps layers apart whose names differ in what C does not allow.
        name = f"layer_{len(windows) + 1}_{re.sub(r'[^A-Za-z0-9]', '_', layer.name)}"
        windows.append({"name": name, "numbers": _window(layer)})
        weights = ""
        if layer.parameter_count:
            values = parameters[layer.offset : layer.offset + layer.parameter_count]
            arrays.append({"name": f"{name}_weights", "count": len(values), "lines": numbers(values)})
            weights = f"{name}_weights, "
        function = "conv" if layer.kind is Kind.DENSE else str(layer.kind)
        calls.append(f"{function}({place}, {source}, {weights}{name}_window)")
    return {
        "arrays": arrays,
        "windows": windows,
        "calls": calls,
        "first_buffer": sizes[0],
        "uses_second": sizes[1] > 0,
        "scratch": sum(sizes),
    }


def _window(layer: Layer) -> str:
    figures = (*layer.input_shape, *layer.output_shape, *layer.kernel_size, layer.stride, layer.padding)
    return ", ".join(map(str, figures))


def answers(checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Logits (S, K) of the self-test's images."""
    scale, offset = scale_and_offset(checkpoint.normalize)
    plan = engine.Plan(checkpoint.network.layers, scale=scale, offset=offset)
    images = [noise(seed, math.prod(checkpoint.input_shape)) for seed in SEEDS]
    return plan.forward(checkpoint.parameters, np.array([image.ctypes.data for image in images], np.uintp))


def noise(seed: int, count: int) -> NDArray[np.uint8]:
    """Bytes (count,) of the generator in the self-test: the high ones of a linear congruential sequence."""
    values = np.empty(count, np.uint8)
    state = seed
    for place in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[place] = state >> 24
    return values


def numbers(values: Iterable[np.float32]) -> list[str]:
    """Lines of float constants."""
    texts = [f"{number(value)}," for value in values]
    return [" ".join(texts[start : start + A_LINE]) for start in range(0, len(texts), A_LINE)]


def number(value: np.float32) -> str:
    """Write a constant that a C compiler reads as exactly this float."""
    text = f"{value:.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def string(text: str) -> str:
    """Write a string constant; what is not plain ASCII becomes octal escapes, and ``?`` cannot begin a trigraph."""
    plain = {ord(c) for c in text if " " <= c <= "~"} - set(b'"\\?')
    data: Sequence[int] = text.encode("utf-8", "surrogateescape")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data) + '"'
