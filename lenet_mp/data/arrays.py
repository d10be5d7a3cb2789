"""Images and labels in memory: checked, as a split for evaluation, or written as a data set for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data import classes, manifest
from lenet_mp.data.array_writer import write_arrays
from lenet_mp.data.shard_file import Split
from lenet_mp.errors import ArrayError, DataError
from lenet_mp.files import make_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from lenet_mp.data.pixels import Pixels
    from lenet_mp.data.shard_file import Labels
    from lenet_mp.networks.geometry import Shape

    Samples = tuple[ArrayLike, ArrayLike]

AXES = 4
"""N, H, W, C."""


def as_images(images: ArrayLike, shape: Shape | None = None) -> Pixels:
    """Return ``images`` (N, H, W, C) uint8, C-contiguous, of 1 or 3 channels; (N, H, W) is taken for one channel.

    Raises
    ------
    ArrayError
        If they are of another type or form, or not of ``shape`` (H, W, C) where that is given.
    """
    array = np.asarray(images)
    wanted = f"uint8 (N, {', '.join(map(str, shape))})" if shape else "uint8 (N, H, W, C) with 1 or 3 channels"
    if array.ndim == AXES - 1 and not (shape and array.shape == shape):
        array = array[..., np.newaxis]
    fits = array.ndim == AXES and array.shape[3] in manifest.CHANNEL_ORDERS and (not shape or array.shape[1:] == shape)
    if array.dtype != np.uint8 or not fits:
        raise ArrayError(f"images: expected {wanted}, got {array.dtype} {np.shape(images)}")
    pixels: Pixels = np.ascontiguousarray(array)
    return pixels


def as_labels(labels: ArrayLike, count: int) -> Labels:
    """Return ``labels`` (N,) of any integer type as int32; ``ArrayError`` if they are others than ``count``."""
    array = np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ArrayError(f"labels: expected integers ({count},), one an image, got {array.dtype} {array.shape}")
    if count and int(array.min()) < 0:
        raise ArrayError(f"labels: expected classes from 0, got {int(array.min())} at index {int(array.argmin())}")
    found: Labels = array.astype(np.int32)
    return found


def as_split(images: ArrayLike, labels: ArrayLike, shape: Shape, classes: int) -> Split:
    """Return samples in memory as a split, without a copy where they lie as they should."""
    pixels = as_images(images, shape)
    numbers = as_labels(labels, len(pixels))
    if not len(pixels) or int(numbers.max()) >= classes:
        raise ArrayError(f"labels: expected at least one, each from 0 to {classes - 1}")
    return Split("memory", Path("memory"), numbers, _Held(pixels))


class _Held:
    """Images that are in memory already."""

    def __init__(self, pixels: Pixels) -> None:
        self.shape = pixels.shape
        self._pixels = pixels

    def array(self) -> Pixels:
        return self._pixels

    def prefetch(self) -> None:
        """Do nothing: they are here."""

    def release(self) -> None:
        """Do nothing: they belong to the caller."""


def save_dataset(
    folder: str | os.PathLike[str],
    train: Samples,
    *,
    validation: Samples | None = None,
    test: Samples | None = None,
    class_names: Sequence[str] = (),
) -> Path:
    """Write arrays as a data set that every command takes; return its folder.

    Parameters
    ----------
    folder : path
        Made if it is missing; must not hold a data set.
    train, validation, test : (images, labels)
        uint8 (N, H, W, C), RGB or one channel, and integers (N,). The training samples are shuffled once.
    class_names : sequence of str
        One a class; numbers if left out.

    Raises
    ------
    ArrayError
        If an array has another type or form.
    DataError
        If there is a data set in ``folder`` already.
    OutputError
        If it cannot be written.
    """
    folder = make_folder(Path(folder))
    if (folder / manifest.NAME).exists() or any(folder.glob("*.h5")):
        raise DataError(f"{folder} holds a data set already: choose another folder, or train on that one")
    samples = _checked({"train": train, "validation": validation, "test": test})
    names = _class_names(class_names, [labels for _, labels in samples.values()])
    write_arrays(folder, samples, names, {"from": "arrays"})
    return folder


def _checked(given: Mapping[str, Samples | None]) -> dict[str, tuple[Pixels, Labels]]:
    """Check every split that is given; all images must have the form of the training images."""
    found: dict[str, tuple[Pixels, Labels]] = {}
    for split, samples in given.items():
        if samples is None:
            continue
        first = found["train"][0].shape[1:] if found else None
        pixels = as_images(samples[0], first and (first[0], first[1], first[2]))
        if not len(pixels):
            raise ArrayError(f"{split}: expected at least one image")
        found[split] = pixels, as_labels(samples[1], len(pixels))
    return found


def _class_names(given: Sequence[str], labels: Sequence[Labels]) -> tuple[str, ...]:
    needed = 1 + max(int(numbers.max()) for numbers in labels)
    if needed > classes.MOST_CLASSES:
        raise ArrayError(f"labels: expected classes from 0 to {classes.MOST_CLASSES - 1:,}, got {needed - 1:,}")
    names = tuple(map(str, given)) or tuple(map(str, range(needed)))
    wrong = classes.fault(names)
    if wrong:
        raise ArrayError(f"class_names: {wrong}")
    if len(names) < needed:
        raise ArrayError(f"class_names: expected a name for each of {needed} classes, got {len(names)}")
    return names
