"""The original program's folders: ``0.h5``, ``1.h5``, ... and ``data.h5``, with nothing that says what they hold."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from lenet_mp.data.manifest import HELD_OUT
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lenet_mp.data.shard_file import Split

_SHARD_NAME = re.compile(r"(0|[1-9][0-9]*)\.h5")


def shard_names(folder: Path) -> list[str]:
    """Names of the files in a folder: the numbered shards from 0 on, then ``data.h5`` if it is there.

    Raises
    ------
    DataError
        If there is no shard, or a number is missing.
    """
    present = {path.name for path in folder.iterdir()}
    numbers = sorted(int(match[1]) for name in present if (match := _SHARD_NAME.fullmatch(name)))
    if not numbers:
        raise DataError(f"{folder}: no manifest.json and no 0.h5; prepare a data set into it with 'lenet-mp prepare'")
    missing = next((i for i, number in enumerate(numbers) if i != number), None)
    if missing is not None:
        raise DataError(f"{folder}: {missing}.h5 is missing, {numbers[-1]}.h5 is there; copy the folder again")
    return [f"{number}.h5" for number in numbers] + [HELD_OUT] * (HELD_OUT in present)


def facts(splits: Sequence[Split], shape: tuple[int, int, int]) -> tuple[tuple[str, ...], str, str]:
    """Class names, channel order and fingerprint of a folder that states none of them."""
    classes = 1 + max(int(split.labels.max()) for split in splits)
    order = "L" if shape[2] == 1 else "BGR"  # the original's images come from OpenCV
    digest = hashlib.sha256(repr(shape).encode())
    for split in splits:
        # Names and counts alone would take two folders with other samples for the same.
        digest.update(f"{split.path.name} {split.count} ".encode() + split.labels.astype("<i4").tobytes())
    return tuple(str(label) for label in range(classes)), order, digest.hexdigest()
