"""What the JSON text in a checkpoint may say: exactly these names, each with a value that some run can have.

Nothing is converted: a number where a text belongs is damage or malice, and what follows relies on every figure.
"""

from __future__ import annotations

from typing import Any

from lenet_mp import documents
from lenet_mp.data import classes
from lenet_mp.data.images import FILTERS
from lenet_mp.data.manifest import CHANNEL_ORDERS
from lenet_mp.errors import UsageError
from lenet_mp.networks.normalization import RANGES

VERSION = 1
NAMES = frozenset({
    "version", "model", "input_shape", "class_names", "channel_order", "resampling", "normalize", "config",
    "data_fingerprint", "history", "epoch", "step", "counts", "arrays",
})  # fmt: skip
ARRAYS = ("parameters", "velocity", "class_weights")
DTYPE = "<f4"
METRICS = (
    "epoch", "lr", "loss", "train_top1", "train_top5", "val_loss", "val_top1", "val_top5", "seconds",
    "images_per_second",
)  # fmt: skip
"""Figures of every epoch."""
NEEDED = ("epoch", "lr", "loss", "seconds")
"""Figures that no run is without."""
COUNTS = 5
"""Loss, samples, top-1, top-5, refused: as many as a plan counts, told here so that reading loads no engine."""
MAX_STEPS = 1 << 40
MAX_COUNT = 1 << 100
MAX_FIGURE = 1e100
"""Far above any figure of a run, and far below what arithmetic on it could take beyond all floats."""


def read(text: bytes) -> dict[str, Any]:
    """Parse and check the text; ``ValueError``, ``RecursionError`` or ``UsageError`` where no run wrote it."""
    document: dict[str, Any] = documents.parse_json(text)
    if not isinstance(document, dict):
        raise UsageError("its text is no JSON object")
    if document.get("version") != VERSION or type(document["version"]) is not int:
        raise UsageError(f"it has format version {document.get('version')}, this program reads {VERSION}: update it")
    strange = sorted(NAMES ^ document.keys())
    if strange:
        raise UsageError(f"its {strange[0][:80]!r} is {'missing' if strange[0] in NAMES else 'unknown'}")
    shape, names, counts = (document[name] for name in ("input_shape", "class_names", "counts"))
    _require(documents.is_list(shape, int) and len(shape) == 3 and min(shape) > 0, "input shape")  # noqa: PLR2004
    _require(document["channel_order"] in CHANNEL_ORDERS.get(shape[2], ()), "channel order")
    _require(documents.is_list(names, str) and len(names) > 0 and not classes.fault(names), "class names")
    _require(document["resampling"] in FILTERS, "filter")
    _require(document["normalize"] in RANGES, "pixel range")
    _require(isinstance(document["config"], dict), "options")
    _require(isinstance(document["data_fingerprint"], str), "data set's identity")
    _require(type(document["step"]) is int and 0 <= document["step"] < MAX_STEPS, "step")
    fits = documents.is_list(counts, int) and len(counts) == COUNTS and all(0 <= n < MAX_COUNT for n in counts)
    _require(fits, "counts")
    _check_history(document)
    _check_arrays(document["arrays"])
    return document


def _check_history(document: dict[str, Any]) -> None:
    history = document["history"]
    _require(documents.is_list(history, dict), "history")
    # An older run knew fewer figures.
    document["history"] = [dict.fromkeys(METRICS) | row for row in history]
    for place, row in enumerate(document["history"], 1):
        numbers = [value for value in row.values() if value is not None]
        fit = all(type(value) in (int, float) and abs(value) <= MAX_FIGURE for value in numbers)
        whole = fit and len(row) == len(METRICS) and row["epoch"] == place
        _require(whole and all(row[name] is not None for name in NEEDED), "history")
    _require(type(document["epoch"]) is int and document["epoch"] == len(history), "epoch")


def _check_arrays(entries: object) -> None:
    _require(documents.is_list(entries, dict), "list of arrays")
    assert isinstance(entries, list)  # noqa: S101 - for mypy
    for entry in entries:
        _require(documents.has_exactly(entry, {"name", "dtype", "shape"}), "list of arrays")
        sizes = entry["shape"]
        _require(entry["dtype"] == DTYPE and documents.is_list(sizes, int), "list of arrays")
        _require(len(sizes) == 1 and sizes[0] >= 0, "list of arrays")
    names = [entry["name"] for entry in entries]
    _require(names in (list(ARRAYS), list(ARRAYS[:2])), "list of arrays")


def _require(condition: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise UsageError(f"its {what} cannot be")
