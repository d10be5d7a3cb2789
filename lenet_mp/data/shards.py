"""Reading a prepared data set: ``open_dataset(folder)`` gives its splits, checked, and maps their images.

With a ``manifest.json`` exactly the files that it names are read. Without one, the folder is taken for the original
program's: ``0.h5``, ``1.h5``, ... and ``data.h5``, no attributes, channels in OpenCV's order (BGR).
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data import manifest as manifests
from lenet_mp.data.memory import available_bytes
from lenet_mp.data.shard_file import Split, read_shard_file
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    import os

    from lenet_mp.data.manifest import Manifest

__all__ = ["Dataset", "Split", "open_dataset"]

ImageShape = tuple[int, int, int]
Files = dict[str, dict[str, Split]]  # file name -> split name -> split

# A mapping holds a file descriptor, of which a process often may have no more than 1,024.
_MOST_KEPT = 500
_SHARD_NAME = re.compile(r"(0|[1-9][0-9]*)\.h5")


@dataclass(frozen=True)
class Dataset:
    """A data folder, opened and checked; nothing but labels is in memory yet.

    Attributes
    ----------
    image_shape : (H, W, C)
    channel_order : "RGB", "BGR" or "L"
    class_names : the position is the label
    fingerprint : hex digest; equal for equal data sets, whatever folder and machine
    train : one split a shard, in the order of their numbers
    validation, test : None where the data set has none
    manifest : None for the original's folders
    """

    folder: Path
    image_shape: ImageShape
    channel_order: str
    class_names: tuple[str, ...]
    fingerprint: str
    train: tuple[Split, ...]
    validation: Split | None
    test: Split | None
    manifest: Manifest | None

    @property
    def resampling(self) -> str:
        """Filter by which the images were resized; OpenCV's default, bilinear, where nothing says so."""
        return str(self.manifest.options.get("resampling", "bilinear")) if self.manifest else "bilinear"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def has_room_for(self, shards: int) -> bool:
        """Whether so many training shards at once take at most half of the memory that is free."""
        largest = max(split.count for split in self.train) * math.prod(self.image_shape)
        return 2 * shards * largest <= available_bytes()

    def check_unchanged(self) -> None:
        """Raise ``DataError`` if one of the files is no longer the one that was opened; costs one ``stat`` a file."""
        for split in (*self.train, self.validation, self.test):
            if split is not None:
                split.check_unchanged()


def open_dataset(folder: str | os.PathLike[str]) -> Dataset:
    """Open a data folder for reading; sizes, shapes, types and labels of everything in it are checked.

    Raises
    ------
    DataError
        With one line that names the file, what is wrong and what to do.
    """
    folder = Path(folder)
    try:
        there = folder.is_dir()
    except OSError as error:
        raise DataError(f"{str(folder)[:99]}: cannot be looked into ({error.strerror}); name another folder") from error
    if not there:
        raise DataError(f"{folder}: no such folder; prepare a data set into it with 'lenet-mp prepare'")
    manifest = manifests.load(folder)
    names = [entry.name for entry in manifest.shards] if manifest else _original_names(folder)
    keep = _fits_memory([folder / name for name in names])
    files = {name: read_shard_file(folder / name, original=manifest is None, keep=keep) for name in names}
    splits = [split for by_name in files.values() for split in by_name.values()]
    train = tuple(by_name["train"] for by_name in files.values() if "train" in by_name)
    if not train:
        raise DataError(f"{folder}: no training shard (0.h5, 1.h5, ...); prepare a data set into it")
    shape = _common_shape(splits)
    if manifest:
        _check_against(manifest, files, shape, folder)
        class_names, order, fingerprint = manifest.class_names, manifest.channel_order, manifest.fingerprint()
    else:
        class_names, order, fingerprint = _original_facts(splits, shape)
    _check_labels(splits, len(class_names))
    held_out = files.get(manifests.HELD_OUT, {})
    validation, test = held_out.get("validation"), held_out.get("test")
    return Dataset(folder, shape, order, class_names, fingerprint, train, validation, test, manifest)


def _fits_memory(paths: list[Path]) -> bool:
    """Whether all files may stay mapped: they take at most half of the free memory, and not too many descriptors."""
    size = sum(path.stat().st_size for path in paths if path.is_file())
    return len(paths) <= _MOST_KEPT and 2 * size <= available_bytes()


def _original_names(folder: Path) -> list[str]:
    """Names of the original's files: the numbered shards from 0 on, then ``data.h5`` if it is there."""
    present = {path.name for path in folder.iterdir()}
    numbers = sorted(int(match[1]) for name in present if (match := _SHARD_NAME.fullmatch(name)))
    if not numbers:
        raise DataError(f"{folder}: no manifest.json and no 0.h5; prepare a data set into it with 'lenet-mp prepare'")
    missing = next((i for i, number in enumerate(numbers) if i != number), None)
    if missing is not None:
        raise DataError(f"{folder}: {missing}.h5 is missing, {numbers[-1]}.h5 is there; copy the folder again")
    return [f"{number}.h5" for number in numbers] + [manifests.HELD_OUT] * (manifests.HELD_OUT in present)


def _original_facts(splits: list[Split], shape: ImageShape) -> tuple[tuple[str, ...], str, str]:
    """Class names, channel order and fingerprint of a folder that states none of them."""
    classes = 1 + max(int(split.labels.max()) for split in splits)
    order = "L" if shape[2] == 1 else "BGR"  # the original's images come from OpenCV
    digest = hashlib.sha256(repr(shape).encode())
    for split in splits:
        # Names and counts alone would take two folders with other samples for the same.
        digest.update(f"{split.path.name} {split.count} ".encode() + split.labels.astype("<i4").tobytes())
    return tuple(str(label) for label in range(classes)), order, digest.hexdigest()


def _common_shape(splits: list[Split]) -> ImageShape:
    first = splits[0]
    for split in splits:
        if split.image_shape != first.image_shape:
            raise DataError(
                f"{split.name}: images of {_times(split.image_shape)}, but {first.name} has "
                f"{_times(first.image_shape)}; a folder must hold one data set, prepare it again"
            )
    return first.image_shape


def _check_against(manifest: Manifest, files: Files, shape: ImageShape, folder: Path) -> None:
    """Compare what the files hold with what the manifest says they hold."""
    if shape != manifest.image_shape:
        raise DataError(
            f"{folder}: shards of {_times(shape)}, but manifest.json says {_times(manifest.image_shape)}; "
            "files of two preparations are mixed, prepare the data set again"
        )
    for entry in manifest.shards:
        counts = {name: split.count for name, split in files[entry.name].items()}
        size = (folder / entry.name).stat().st_size
        if counts != entry.counts or size != entry.bytes:
            raise DataError(
                f"{folder / entry.name}: holds {counts} in {size:,} bytes, but manifest.json says {entry.counts} in "
                f"{entry.bytes:,}; files of two preparations are mixed, copy or prepare the data set again"
            )


def _check_labels(splits: list[Split], classes: int) -> None:
    for split in splits:
        sample = int(np.argmax(split.labels))
        if split.labels[sample] >= classes:
            raise DataError(
                f"{split.name}: label {split.labels[sample]} at sample {sample}, but there are {classes} classes "
                f"(0 to {classes - 1}); prepare the data set again"
            )


def _times(shape: ImageShape) -> str:
    return " x ".join(str(size) for size in shape)
