"""Reading a prepared data set: ``open_dataset(folder)`` gives its splits, checked, and maps their images.

With a ``manifest.json`` exactly the files that it names are read. Without one, the folder is taken for the original
program's: ``0.h5``, ``1.h5``, ... and ``data.h5``, no attributes, channels in OpenCV's order (BGR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data import manifest as manifests
from lenet_mp.data import original
from lenet_mp.data.memory import available_bytes
from lenet_mp.data.seals import Seal
from lenet_mp.data.shard_file import Split, read_shard_file
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from lenet_mp.data.manifest import Manifest

__all__ = ["Dataset", "Split", "open_dataset"]

ImageShape = tuple[int, int, int]
Files = dict[str, dict[str, Split]]  # file name -> split name -> split

# A mapping holds a file descriptor, of which a process often may have no more than 1,024.
_MOST_KEPT = 500


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
    seals : one a file
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
    seals: tuple[Seal, ...] = ()

    @property
    def resampling(self) -> str:
        """Filter by which the images were resized; OpenCV's default, bilinear, where nothing says so."""
        return str(self.manifest.options.get("resampling", "bilinear")) if self.manifest else "bilinear"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def class_counts(self) -> dict[str, NDArray[np.int64]]:
        """Images of every class, (K,), by split."""
        return _class_counts(self._splits(), self.classes)

    def has_room_for(self, shards: int) -> bool:
        """Whether so many training shards at once take at most half of the memory that is free."""
        largest = max(split.count for split in self.train) * math.prod(self.image_shape)
        return 2 * shards * largest <= available_bytes()

    def check_unchanged(self) -> None:
        """Raise ``DataError`` if one of the files is no longer the one that was opened; costs one ``stat`` a file."""
        for split in self._splits():
            split.check_unchanged()

    def share_seals(self, shared: Callable[[int, str], NDArray[np.uint8]]) -> None:
        """Let processes of this machine that see the same files tell each other which were compared with their XXH3.

        ``shared`` is :meth:`lenet_mp.parallel.comm.Comm.shared_bytes`. Those that come to a file at the same time
        compare it each.
        """
        identities = {split.path: split.identity for split in self._splits()}
        subject = [(identities.get(seal.path), seal.xxh3) for seal in self.seals]
        compared = shared(max(1, len(self.seals)), str(subject))
        for number, seal in enumerate(self.seals):
            seal.share(compared[number : number + 1])

    def _splits(self) -> list[Split]:
        return [split for split in (*self.train, self.validation, self.test) if split is not None]


def open_dataset(folder: str | os.PathLike[str], *, sealed: bool = True) -> Dataset:
    """Open a data folder for reading; sizes, shapes, types and labels of everything in it are checked.

    Parameters
    ----------
    folder : path
    sealed : bool
        Compare what is read with the manifest: the labels now, a shard's XXH3 before its first image is handed out.

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
    names = [entry.name for entry in manifest.shards] if manifest else original.shard_names(folder)
    files, seals = _read(folder, names, manifest, sealed=sealed)
    splits = [split for by_name in files.values() for split in by_name.values()]
    train = tuple(by_name["train"] for by_name in files.values() if "train" in by_name)
    if not train:
        raise DataError(f"{folder}: no training shard (0.h5, 1.h5, ...); prepare a data set into it")
    shape = _common_shape(splits)
    if manifest:
        _check_against(manifest, files, shape, folder)
        class_names, order, fingerprint = manifest.class_names, manifest.channel_order, manifest.fingerprint()
    else:
        class_names, order, fingerprint = original.facts(splits, shape)
    _check_labels(splits, len(class_names))
    if manifest and sealed:
        _check_counts(manifest, splits, folder)
    held_out = files.get(manifests.HELD_OUT, {})
    validation, test = held_out.get("validation"), held_out.get("test")
    return Dataset(folder, shape, order, class_names, fingerprint, train, validation, test, manifest, seals)


def _read(
    folder: Path, names: list[str], manifest: Manifest | None, *, sealed: bool
) -> tuple[Files, tuple[Seal, ...]]:
    """Open all files, sealed with the XXH3 that the manifest states of them, if it does and if that is wanted."""
    keep = _fits_memory([folder / name for name in names])
    stated = {entry.name: entry.xxh3 for entry in manifest.shards} if manifest and sealed else {}
    seals = {name: Seal(folder / name, stated.get(name, "")) for name in names}
    files = {name: read_shard_file(folder / name, seals[name], original=manifest is None, keep=keep) for name in names}
    return files, tuple(seals.values())


def _fits_memory(paths: list[Path]) -> bool:
    """Whether all files may stay mapped: they take at most half of the free memory, and not too many descriptors."""
    size = sum(path.stat().st_size for path in paths if path.is_file())
    return len(paths) <= _MOST_KEPT and 2 * size <= available_bytes()


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


def _class_counts(splits: Iterable[Split], classes: int) -> dict[str, NDArray[np.int64]]:
    """Images of every class, (K,), by the splits' names."""
    counts: dict[str, NDArray[np.int64]] = {}
    for split in splits:
        name = split.name.rpartition(":")[2]
        counts[name] = counts.get(name, 0) + np.bincount(split.labels, minlength=classes)
    return counts


def _check_counts(manifest: Manifest, splits: list[Split], folder: Path) -> None:
    """Compare the images of every class: the labels are in use before their shards' hashes are compared."""
    stated = manifest.extra.get("class_counts")
    counts = _class_counts(splits, len(manifest.class_names))
    if stated is not None and stated != {name: values.tolist() for name, values in counts.items()}:
        raise DataError(
            f"{folder}: the labels in the shards do not add up to the class_counts of manifest.json; 'lenet-mp verify' "
            "finds the damaged shard, copy it again"
        )


def _times(shape: ImageShape) -> str:
    return " x ".join(str(size) for size in shape)
