"""Class folders as the source of samples: ``DIR/CLASS/.../IMAGE``, split by share into training, validation, test."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, TypeVar

from lenet_mp.data.classes import fault, natural_key
from lenet_mp.data.samples import Collection, Sample
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm"})
_SPLIT_NAMES = frozenset({"train", "val", "valid", "validation", "test"})

T = TypeVar("T")


def shuffled(items: Sequence[T], seed: int, purpose: str) -> list[T]:
    """Permutation of `items` that depends on seed and purpose alone, in every version of every library."""

    def key(place: int) -> bytes:
        return hashlib.blake2b(f"{seed} {purpose} {place}".encode("utf-8", "surrogateescape")).digest()

    return [items[place] for place in sorted(range(len(items)), key=key)]


def read_folders(root: Path, shares: Sequence[float], seed: int) -> Collection:
    """Collect the images of class folders and split every class by the same shares.

    Parameters
    ----------
    root : Path
        Its folders are the classes, in natural order; images may lie deeper inside them.
    shares : (train, validation, test)
        In per cent; they add up to 100.
    seed : int
        Decides which image goes into which split.

    Raises
    ------
    DataError
        If there is no class folder, or the folders look like splits.
    """
    try:
        entries = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror}); give a folder of class folders") from error
    folders = sorted(entries, key=natural_key)
    names = tuple(name.strip(" ") for name in folders)
    if not names:
        raise DataError(f"{root}: has no class folders; give a folder with one folder a class")
    if {name.lower() for name in names} <= _SPLIT_NAMES:
        raise DataError(f"{root}: its folders {', '.join(names)} look like splits, not classes; give lists")
    wrong = fault(names)
    if wrong:
        raise DataError(f"{root}: {wrong}")
    collection = Collection({"train": [], "validation": [], "test": []}, names)
    others = dealt = 0
    quota = [0, 0]
    for label, folder in enumerate(folders):
        images, ignored = _images_below(root, folder)
        others += ignored
        dealt += len(images)
        # Shares of the images so far, less what was dealt: right in the sum even where a class has three images.
        wanted = [round(dealt * shares[place] / 100) - quota[place - 1] for place in (1, 2)]
        room = max(len(images) - 1, 0)  # every class keeps one for training
        validation = min(max(wanted[0], 0), room)
        test = min(max(wanted[1], 0), room - validation)
        quota = [quota[0] + validation, quota[1] + test]
        samples = [Sample(path, label, path) for path in shuffled(images, seed, folder)]
        collection.samples["validation"] += samples[:validation]
        collection.samples["test"] += samples[validation : validation + test]
        collection.samples["train"] += samples[validation + test :]
    for place, split in ((1, "validation"), (2, "test")):
        if shares[place] == 0:
            del collection.samples[split]
    if others:
        collection.notices.append(f"{others} files without an image's suffix were passed over")
    return collection


def _images_below(root: Path, name: str) -> tuple[list[str], int]:
    """Images of one class folder as paths relative to `root`, in natural order, and how many other files there are."""
    images, others = [], 0
    top = root / name
    for folder, folders, files in os.walk(top):
        folders[:] = [inner for inner in folders if inner[0] != "."]
        for file in files:
            if file[0] == ".":
                continue
            path = os.path.join(folder, file)  # noqa: PTH118
            if os.path.splitext(file)[1].lower() in SUFFIXES:  # noqa: PTH122
                images.append(os.path.relpath(path, root))
            else:
                others += 1
    return sorted(images, key=natural_key), others
