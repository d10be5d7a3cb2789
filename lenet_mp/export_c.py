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
from lenet_mp.geometry import Kind
from lenet_mp.normalization import RANGES, scale_and_offset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.checkpoint import Checkpoint
    from lenet_mp.geometry import Layer
    from lenet_mp.network import Network

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
        loader=jinja2.PackageLoader("lenet_mp"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
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
    network = checkpoint.network
    scale, offset = scale_and_offset(checkpoint.normalize)
    low, high = RANGES[checkpoint.normalize]
    steps, sizes = _steps(network)
    used = {str(layer.activation or layer.kind) for layer in network.layers}
    used = {"conv" if word == Kind.DENSE else word for word in used}
    functions = {TANH if word == "tanh" else word for word in used & {layer.activation for layer in network.layers}}
    return {
        "about": f"Model {re.sub(r'[^A-Za-z0-9_.+-]', ' ', checkpoint.model.name)} with {network.parameter_count:,} "
        f"parameters, written by lenet_mp {lenet_mp.__version__}.",
        "name": name,
        "macro": name.upper(),
        "order": "grey" if checkpoint.channel_order == "L" else ", ".join(checkpoint.channel_order),
        "shape": network.input_shape,
        "classes": [string(text) for text in checkpoint.class_names],
        "arrays": [
            {"name": f"{_identifier(layer)}_weights", "count": layer.parameter_count,
             "lines": numbers(checkpoint.parameters[layer.offset : layer.offset + layer.parameter_count])}
            for layer in network.layers if layer.parameter_count
        ],
        "windows": [
            {"name": _identifier(layer), "numbers": _window(layer)}
            for layer in network.layers if layer.kind is not Kind.ACTIVATION
        ],
        "used": used,
        "activations": sorted(functions),
        "uses_exp": bool(used & {"squash", "tanh", "sigmoid", "elu"}),
        "uses_tanh": bool(used & {"squash", "tanh"}),
        "scale": number(np.float32(scale)),
        "offset": number(np.float32(offset)),
        "low": low,
        "high": high,
        "calls": steps,
        "first_buffer": sizes[0],
        "uses_second": sizes[1] > 0,
        "scratch": sum(sizes),
        "answers": [numbers(logits) for logits in answers(checkpoint)],
    }  # fmt: skip


def _steps(network: Network) -> tuple[list[str], list[int]]:
    """Return the calls that make up the network, and the sizes of the two buffers that they write to in turn."""
    sizes = [math.prod(network.input_shape), 0]
    calls = []
    here = 0
    windows = [layer for layer in network.layers if layer.kind is not Kind.ACTIVATION]
    place = "a"
    for layer in network.layers:
        count = math.prod(layer.output_shape)
        if layer.kind is Kind.ACTIVATION:
            calls.append(f"{TANH if layer.activation == 'tanh' else layer.activation}({place}, {count})")
            continue
        source = place
        if layer is windows[-1]:
            place = "logits"
        else:
            here = 1 - here
            sizes[here] = max(sizes[here], count)
            place = "ab"[here]
        function = "conv" if layer.kind is Kind.DENSE else str(layer.kind)
        weights = f"{_identifier(layer)}_weights, " if layer.parameter_count else ""
        calls.append(f"{function}({place}, {source}, {weights}{_identifier(layer)}_window)")
    return calls, sizes


def _window(layer: Layer) -> str:
    figures = (*layer.input_shape, *layer.output_shape, *layer.kernel_size, layer.stride, layer.padding)
    return ", ".join(map(str, figures))


def _identifier(layer: Layer) -> str:
    """Name a layer in C; the prefix keeps a layer called ``a`` or ``int`` from meaning something else."""
    return "layer_" + re.sub(r"\W", lambda match: f"_{ord(match[0]):x}_", layer.name.replace("-", "__"), flags=re.ASCII)


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
