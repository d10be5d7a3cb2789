"""Models in files: a user's own table in TOML, and any table inside a checkpoint.

A model file has one ``[[layer]]`` a row, ``kind`` first; beside it a name, the image [height, width, channels] and
the number of classes it was designed for::

    name = "small"
    image = [28, 28, 1]
    classes = 10
    [[layer]]
    kind = "conv"
    channels = 8
    kernel = 5
    [[layer]]
    kind = "relu"
    [[layer]]
    kind = "max_pool"
    kernel = 2
    [[layer]]
    kind = "dense"
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_mp import documents, files
from lenet_mp.errors import UsageError
from lenet_mp.networks.geometry import ACTIVATIONS, POOLS, Kind
from lenet_mp.networks.models import CHOICES, MODEL_1, MODELS, Model, Row, check_row, is_choice

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LAYERS = 64


def find_model(name: str) -> Model:
    """Return the model called ``name``, or read it from the TOML file of that name.

    Raises
    ------
    UsageError
        If there is no such model or file, or the file is not a valid table.
    """
    if name in MODELS:
        return MODELS[name]
    if name.endswith(".toml"):
        return read_model(Path(name))
    raise UsageError(f"unknown model '{name}': choose one of {', '.join(MODELS)}, or name a .toml file")


def read_model(path: Path) -> Model:
    """Read a table from a TOML file with one ``[[layer]]`` a row; ``UsageError`` names the file and the row."""
    try:
        document = documents.parse_toml(files.read(path, documents.LARGEST_TOML))
    except OSError as error:
        raise UsageError(f"cannot read model {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"model {path} is not valid TOML: {error}") from error
    return from_document(document, str(path), default_name=path.stem)


def from_document(document: dict[str, Any], source: str, *, default_name: str = "") -> Model:
    """Make a model from the nested dictionaries that :func:`to_document` writes, checking every value."""
    unknown = sorted(set(document) - {"name", "layer", "image", "classes"})
    if unknown:
        raise UsageError(f"{source}: unknown key '{unknown[0]}'; a model has name, image, classes and [[layer]] rows")
    tables = document.get("layer")
    if not isinstance(tables, list) or not tables or len(tables) > MAX_LAYERS:
        raise UsageError(f"{source}: a model needs 1 to {MAX_LAYERS} [[layer]] rows")
    rows = _with_names(_row(table, f"{source}: layer {i}") for i, table in enumerate(tables, 1))
    name = document.get("name", default_name)
    image = document.get("image", list(MODEL_1.input_shape))
    classes = document.get("classes", MODEL_1.classes)
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w .-]{0,63}", name):
        raise UsageError(f"{source}: name must be at most 64 letters, digits, '_', '-', '.' or blanks")
    if not (isinstance(image, list) and len(image) == 3 and all(is_choice(n, 1) for n in image)):  # noqa: PLR2004
        raise UsageError(f"{source}: image must be [height, width, channels]")
    if not is_choice(classes, 2):
        raise UsageError(f"{source}: classes must be a whole number of at least 2")
    return Model(name, rows, (image[0], image[1], image[2]), classes)


def to_document(model: Model) -> dict[str, Any]:
    """Return ``model`` as nested dictionaries, for TOML and JSON; choices left at their default are left out."""
    tables = []
    for row in model.rows:
        if row.kind is Kind.ACTIVATION:
            tables.append({"kind": row.activation})
            continue
        chosen = {f.name: getattr(row, f.name) for f in fields(Row) if getattr(row, f.name) != f.default}
        tables.append(chosen | {"kind": row.kind.value})
    return {"name": model.name, "image": list(model.input_shape), "classes": model.classes, "layer": tables}


def _row(table: object, where: str) -> Row:
    """Check one ``[[layer]]`` table: known keys, right types, choices that its kind has."""
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table")
    kind = table.get("kind")
    if kind in ACTIVATIONS:
        row = Row(kind=Kind.ACTIVATION, activation=kind)
        allowed = {"kind"}
    elif kind in {k.value for k in Kind} - {Kind.ACTIVATION}:
        row = Row(kind=Kind(kind))
        allowed = CHOICES[row.kind] | {"kind", "name"}
    else:
        kinds = [k.value for k in Kind if k is not Kind.ACTIVATION]
        raise UsageError(f"{where}: unknown kind {kind!r}; choose one of {', '.join([*kinds, *ACTIVATIONS])}")
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise UsageError(f"{where}: '{kind}' has no setting '{unknown[0]}'; it has {', '.join(sorted(allowed))}")
    name = table.get("name", "")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]{0,32}", name):
        raise UsageError(f"{where}: name must be at most 32 letters, digits, '_' or '-'")
    defaults = {"stride": 1} if row.kind is Kind.CONV else {}
    row = replace(row, name=name, **(defaults | {k: v for k, v in table.items() if k in allowed - {"kind", "name"}}))
    check_row(row, where)
    return row


_LETTERS = {Kind.CONV: "C", Kind.DENSE: "F", **dict.fromkeys(POOLS, "S")}


def _with_names(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Name the rows that have none as C1, S2, C3, ...: a letter for the kind, numbers counted through the model."""
    named, used, position = [], set(), 0
    for row in rows:
        if row.kind is Kind.ACTIVATION:
            named.append(row)
            continue
        position += 1
        name = row.name or f"{_LETTERS[row.kind]}{position}"
        if name in used:
            raise UsageError(f"two layers are called {name}: give each [[layer]] its own name")
        used.add(name)
        named.append(replace(row, name=name))
    return tuple(named)
