"""``--class-weights``: from what the user writes to one weight a class, whose mean over the training images is 1.

Only how the weights compare with each other matters. Scaled so, the mean of an epoch's weighted losses is the weighted
mean of its losses (the sum of ``weight * loss`` over the sum of the weights, as PyTorch's ``reduction="mean"`` has it),
and a learning rate means what it means without weights.
"""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import files
from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lenet_mp.data.shards import Dataset

BALANCED = "balanced"
LARGEST = 1e9
SHOWN = 10
"""More classes than this are summed up where weights are shown."""


def resolve(text: str, dataset: Dataset) -> NDArray[np.float32] | None:
    """Return the weights (classes,) that ``text`` stands for; None for an empty text.

    ``balanced`` gives every class the same part in the loss: ``N / (K n)`` for a class with ``n`` of ``N`` training
    images, where ``K`` classes have any. ``1,2.5,...`` has one number a class. Anything else names a file with
    ``CLASS WEIGHT`` on every line, the class by name or number; classes that it leaves out weigh 1.

    Raises
    ------
    UsageError
        If there is no such file, or it does not fit the classes.
    """
    if not text:
        return None
    counts = dataset.class_counts()["train"]
    if text == BALANCED:
        weights = [1 / count if count else 0.0 for count in counts.tolist()]
    elif _is_list(text):
        weights = [_weight(part, "--class-weights") for part in text.split(",")]
        if len(weights) != dataset.classes:
            raise UsageError(
                f"--class-weights: {len(weights)} numbers for {dataset.classes} classes; give each class one, in order"
            )
    else:
        weights = _read(Path(text), dataset.class_names)
    return _scaled(weights, counts.tolist())


def describe(text: str, weights: NDArray[np.float32], class_names: Sequence[str]) -> str:
    """Say in one line what the classes weigh."""
    pairs = sorted(zip(weights.tolist(), class_names, strict=True))
    if len(pairs) > SHOWN:
        shown = f"{pairs[0][0]:.3g} ({pairs[0][1]}) to {pairs[-1][0]:.3g} ({pairs[-1][1]})"
    else:
        shown = ", ".join(f"{weight:.3g} ({name})" for weight, name in zip(weights.tolist(), class_names, strict=True))
    return f"class weights {BALANCED if text == BALANCED else 'given'}: {shown}; mean over the training images 1"


def _is_list(text: str) -> bool:
    """Whether ``text`` begins as a list of numbers does; a mistake in it is then told as one."""
    try:
        float(text.split(",", maxsplit=1)[0])
    except ValueError:
        return False
    return True


def _weight(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LARGEST:
        raise UsageError(f"{where}: '{text.strip()}' is no weight; write a number from 0 to {LARGEST:g}")
    return value


def _read(path: Path, class_names: Sequence[str]) -> list[float]:
    try:
        lines = files.read(path).decode("utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UsageError(
            f"--class-weights: cannot read {path} ({error.strerror}); write 'balanced', a number for each class "
            "(1,2.5,...), or name a file with 'CLASS WEIGHT' on every line"
        ) from error
    found: dict[int, float] = {}
    for number, line in enumerate(lines, 1):
        words = line.rsplit(maxsplit=1)
        if not words or line.lstrip().startswith("#"):
            continue
        where = f"{path}:{number}"
        if len(words) == 1:
            raise UsageError(f"{where}: expected 'CLASS WEIGHT', got '{line.strip()}'")
        label = _label(words[0].strip(), class_names, where)
        if label in found:
            raise UsageError(f"{where}: class '{class_names[label]}' is there twice; give every class one weight")
        found[label] = _weight(words[1], where)
    return [found.get(label, 1.0) for label in range(len(class_names))]


def _label(name: str, class_names: Sequence[str], where: str) -> int:
    if name in class_names:
        return class_names.index(name)
    if name.isascii() and name.isdigit() and int(name[:9]) < len(class_names):
        return int(name[:9])
    near = difflib.get_close_matches(name, class_names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"classes are '{class_names[0]}' to '{class_names[-1]}'"
    raise UsageError(f"{where}: there is no class '{name}'; {hint}")


def _scaled(weights: Sequence[float], counts: Sequence[int]) -> NDArray[np.float32]:
    """Scale so that the mean over the training images is 1; sums are exact, so the result is the same everywhere."""
    total = math.fsum(weight * count for weight, count in zip(weights, counts, strict=True))
    if not total:
        raise UsageError("--class-weights: no training image has a weight above 0")
    return np.array([weight * sum(counts) / total for weight in weights], np.float32)
