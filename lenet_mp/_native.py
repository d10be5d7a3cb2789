"""The C extension itself: which instruction set it runs on, and layers as C structures.

Only this package's engine modules import it; no cffi object leaves them.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lenet_mp._kernels import ffi, lib
from lenet_mp.augmentation import LEAST_ERASED, MOST_RATIO
from lenet_mp.errors import UsageError
from lenet_mp.networks.geometry import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.augmentation import Augment
    from lenet_mp.networks.geometry import Layer, Shape

__all__ = ["VARIABLE", "available", "c_augmentation", "c_layers", "ffi", "isa", "isa_index", "lib", "pointer", "select"]

VARIABLE = "LENET_MP_ISA"
"""Environment variable that forces an instruction set."""

_KINDS = {
    Kind.CONV: lib.LENET_CONV,
    Kind.DENSE: lib.LENET_DENSE,
    Kind.AVERAGE_POOL: lib.LENET_AVERAGE_POOL,
    Kind.MAX_POOL: lib.LENET_MAX_POOL,
    Kind.SUBSAMPLE: lib.LENET_SUBSAMPLE,
    Kind.ACTIVATION: lib.LENET_ACTIVATION,
}
_ACTIVATIONS = {
    "": 0,
    "squash": lib.LENET_SQUASH,
    "sigmoid": lib.LENET_SIGMOID,
    "tanh": lib.LENET_TANH,
    "relu": lib.LENET_RELU,
    "prelu": lib.LENET_PRELU,
    "elu": lib.LENET_ELU,
}


def _names() -> list[str]:
    """All instruction sets of this build, best last."""
    names: list[str] = []
    while (name := lib.lenet_isa_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def available() -> tuple[str, ...]:
    """Instruction sets that this CPU has, best last; ``generic`` is always there."""
    return tuple(name for index, name in enumerate(_names()) if lib.lenet_isa_supported(index))


@lru_cache(maxsize=8)
def select(name: str) -> int:
    """Return the number that C knows an instruction set by; ``""`` is the best of this CPU.

    Raises
    ------
    UsageError
        If this build does not know the name, or this CPU does not have it.
    """
    names, usable = _names(), available()
    if not name:
        return names.index(usable[-1])
    if name not in usable:
        reason = "this CPU does not have it" if name in names else "no such instruction set"
        raise UsageError(f"{VARIABLE}={name}: {reason}; choose one of {', '.join(usable)}, or unset it")
    return names.index(name)


def isa_index() -> int:
    """Return the chosen instruction set's number: ``LENET_MP_ISA``, or the best of this CPU."""
    return select(os.environ.get(VARIABLE, ""))


def isa() -> str:
    """Name of the instruction set in use: ``generic``, ``avx2`` or ``avx512``."""
    return _names()[isa_index()]


def c_layers(layers: Sequence[Layer]) -> Any:
    """Return the layers as a C array of ``struct lenet_layer``."""
    rows = ffi.new("struct lenet_layer[]", len(layers))
    for row, layer in zip(rows, layers, strict=True):
        row.kind = _KINDS[layer.kind]
        row.activation = _ACTIVATIONS[layer.activation]
        row.height, row.width, row.channels = layer.input_shape
        row.out_height, row.out_width, row.out_channels = layer.output_shape
        row.kernel_height, row.kernel_width = layer.kernel_size
        row.stride, row.padding, row.offset = layer.stride, layer.padding, layer.offset
    return rows


def c_augmentation(augment: Augment, shape: Shape, fill: int) -> Any:
    """Return what a step changes in images of ``shape`` as a ``struct lenet_augmentation``."""
    rules, chosen = ffi.new("struct lenet_augmentation *"), augment.augmentation
    rules.seed, rules.epoch = augment.seed, augment.epoch
    rules.height, rules.width, rules.channels = shape
    rules.fill = fill
    rules.mirror, rules.erase = round(chosen.flip * 2**16), round(chosen.erase * 2**16)
    rules.padding_rows, rules.padding_columns = chosen.padding(shape)
    rules.brightness, rules.contrast = round(chosen.brightness * 2**8), round(chosen.contrast * 2**8)
    rules.least_area = max(1, round(LEAST_ERASED * shape[0] * shape[1]))
    rules.most_area = max(rules.least_area, round(chosen.erase_area * shape[0] * shape[1]))
    rules.most_ratio = round(MOST_RATIO * 2**16)
    return rules


def pointer(ctype: str, array: Any) -> Any:
    """Address of a checked array's first element; NULL for ``None``."""
    return ffi.NULL if array is None else ffi.cast(ctype, array.ctypes.data)
