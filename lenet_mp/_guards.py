"""Arrays at the door to C: dtype, shape and memory layout are checked here, once, and nowhere else.

C trusts what passes. Nothing is converted silently: a copy that nobody asked for would hide a slow caller, and an
output that was copied would be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.errors import ArrayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

Axis = int | str
"""A size that must match, or the name of one that is free (``"N"``)."""


def check(name: str, array: object, dtype: DTypeLike, shape: Sequence[Axis], *, writable: bool = False) -> Any:
    """Return ``array`` if C can read it as it lies.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    array : object
        What the caller handed in.
    dtype : DTypeLike
        Required, in native byte order.
    shape : sequence of int or str
        Required sizes; a str stands for any size.
    writable : bool
        Whether C writes to it.

    Raises
    ------
    ArrayError
        Naming the argument, what was expected and what came.
    """
    wanted = np.dtype(dtype)
    text = f"{wanted.name} ({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    if not isinstance(array, np.ndarray):
        raise ArrayError(f"{name}: expected an array {text}, got {type(array).__name__}")
    fits = len(shape) == array.ndim and all(
        isinstance(axis, str) or axis == size for axis, size in zip(shape, array.shape, strict=True))
    if array.dtype != wanted or not fits:
        raise ArrayError(f"{name}: expected {text}, got {array.dtype.name} {array.shape}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ArrayError(f"{name}: expected {text} C-contiguous, got strides {array.strides}: "
                         "pass numpy.ascontiguousarray(...)")
    if writable and not array.flags.writeable:
        raise ArrayError(f"{name}: expected {text} writable, got a read-only array")
    return array


def check_labels(labels: NDArray[np.int32], classes: int) -> None:
    """Raise ``ArrayError`` with the first label that is not in 0 ... ``classes - 1``."""
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        where = int(bad[0])
        raise ArrayError(f"labels: expected 0 to {classes - 1}, got {labels[where]} at index {where}")
