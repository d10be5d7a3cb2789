"""Architectures as data: a model is a table of rows.

A row says what the designer chose (channels, kernel, stride, padding); sizes follow from the image, in
:mod:`lenet_mp.networks.network`. A new model is a new table, never a new code path. Tables in files are read and
written by :mod:`lenet_mp.networks.model_files`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lenet_mp.errors import UsageError
from lenet_mp.networks.geometry import POOLS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHOICE = 65_536


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a model's table.

    Attributes
    ----------
    kind : Kind
    name : str
        Unique in the model. Activations need none.
    channels : int
        Output channels of a convolution or dense layer; 0 for the number of classes.
    kernel : int
        Window of a convolution or pooling; 0 for one that covers the whole input.
    stride : int
        0 for a pooling's own kernel.
    padding : int
    activation : str
    """

    kind: Kind
    name: str = ""
    channels: int = 0
    kernel: int = 0
    stride: int = 0
    padding: int = 0
    activation: str = ""


@dataclass(frozen=True)
class Model:
    """A named table of rows, with the image shape (H, W, C) and number of classes it was designed for."""

    name: str
    rows: tuple[Row, ...]
    input_shape: tuple[int, int, int] = (250, 250, 3)
    classes: int = 50


def conv(name: str, channels: int, *, kernel: int = 0, stride: int = 1, padding: int = 0) -> Row:
    """Make a convolution row; ``kernel=0`` covers the whole input and gives 1 x 1 outputs."""
    return Row(kind=Kind.CONV, name=name, channels=channels, kernel=kernel, stride=stride, padding=padding)


def average_pool(name: str, kernel: int, stride: int = 0) -> Row:
    """Make an average-pooling row; the stride is the kernel unless given."""
    return Row(kind=Kind.AVERAGE_POOL, name=name, kernel=kernel, stride=stride)


def dense(name: str, outputs: int = 0) -> Row:
    """Make a fully connected row; ``outputs=0`` stands for the number of classes."""
    return Row(kind=Kind.DENSE, name=name, channels=outputs)


def activation(name: str) -> Row:
    """Make a row for one of ``ACTIVATIONS``."""
    return Row(kind=Kind.ACTIVATION, activation=name)


SQUASH = activation("squash")
ELU = activation("elu")

MODEL_1 = Model(
    "1",
    (
        conv("C1", 6, kernel=5, stride=3, padding=2), SQUASH,
        average_pool("S1", 3),
        conv("C2", 16, kernel=5, stride=3, padding=2), SQUASH,
        average_pool("S2", 2),
        conv("C5", 120), SQUASH,
        dense("F7", 84), SQUASH,
        dense("F8"),
    ),
)  # fmt: skip

MODEL_2 = Model(
    "2",
    (
        conv("C1", 6, kernel=3, stride=3, padding=1), ELU,
        average_pool("S1", 3),
        conv("C2", 16, kernel=3), ELU,
        average_pool("S2", 2),
        conv("C3", 30, kernel=3, stride=2), ELU,
        average_pool("S3", 2),
        conv("C5", 120), ELU,
        dense("F7", 84), ELU,
        dense("F8"),
    ),
)  # fmt: skip

# LeCun et al. (1998), figure 2, with average pooling for its trainable subsampling, every map of S2 connected to
# every map of C3, and softmax in place of the radial basis functions.
LENET5 = Model(
    "lenet5",
    (
        conv("C1", 6, kernel=5), SQUASH,
        average_pool("S2", 2),
        conv("C3", 16, kernel=5), SQUASH,
        average_pool("S4", 2),
        conv("C5", 120), SQUASH,
        dense("F6", 84), SQUASH,
        dense("F7"),
    ),
    input_shape=(32, 32, 1),
    classes=10,
)  # fmt: skip

MODELS = {model.name: model for model in (MODEL_1, MODEL_2, LENET5)}


def change(model: Model, settings: Iterable[str]) -> Model:
    """Return ``model`` with settings such as ``C1.stride=2`` applied; ``UsageError`` for an unknown name or value."""
    rows = {row.name: row for row in model.rows if row.name}
    for setting in settings:
        match = re.fullmatch(r"([^.=]+)\.(channels|kernel|stride|padding)=(\d+)", setting)
        if not match:
            raise UsageError(f"cannot read setting '{setting}': write LAYER.channels|kernel|stride|padding=NUMBER")
        name, key, value = match[1], match[2], int(match[3])
        if name not in rows:
            raise UsageError(f"setting '{setting}': no layer {name}; model {model.name} has {', '.join(rows)}")
        rows[name] = replace(rows[name], **{key: value})  # type: ignore[arg-type]
        check_row(rows[name], f"setting '{setting}'")
    return replace(model, rows=tuple(rows.get(row.name, row) for row in model.rows))


def is_choice(value: object, low: int) -> bool:
    """Whether ``value`` is a whole number from ``low`` to ``MAX_CHOICE``."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= MAX_CHOICE


CHOICES = {
    Kind.CONV: {"channels", "kernel", "stride", "padding"},
    Kind.DENSE: {"channels"},
    **{kind: {"kernel", "stride"} for kind in POOLS},
}
"""What can be chosen for a kind of layer, beside its name."""


def check_row(row: Row, where: str) -> None:
    """Refuse choices that no layer of this kind can have, whatever its input."""
    low = {"channels": 0, "kernel": 0, "stride": 0, "padding": 0}
    if row.kind is Kind.CONV:
        low |= {"channels": 1, "stride": 1}
    if row.kind in POOLS:
        low |= {"kernel": 1}
    for key, least in low.items():
        if not is_choice(getattr(row, key), least):
            raise UsageError(f"{where}: {key} must be a whole number from {least} to {MAX_CHOICE}")
        if getattr(row, key) and row.kind is not Kind.ACTIVATION and key not in CHOICES[row.kind]:
            raise UsageError(f"{where}: a {row.kind} layer has no {key}")
