"""One H5 file of a data set: its splits, with labels read and checked and images ready to be mapped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import crashes
from lenet_mp.data import chunks, memory
from lenet_mp.data.classes import MOST_CLASSES
from lenet_mp.data.jpeg_store import EncodedImages
from lenet_mp.data.pixels import LoadedImages, MappedImages
from lenet_mp.data.safe_h5 import checked_dataset, is_bytes, is_contiguous, safe_open, small_integers
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from lenet_mp.data.pixels import ImageSource, Pixels
    from lenet_mp.data.seals import Seal

Labels = np.ndarray[tuple[int], np.dtype[np.int32]]

FORMAT_ATTRIBUTE = "lenet_mp_format"
"""Root attribute of every file written here; the original's files have none."""
FORMAT = 1
SUFFIXES = {"train": "train", "validation": "val", "test": "test"}
"""Split to ending of its datasets' names: ``image_train``, ``label_train``, ``image_val``, ..."""

_IMAGE_AXES = 4  # N, H, W, C
_CHANNELS = (1, 3)
_MOST_MEMORY = 160 << 20
"""For opening a file: its labels are the largest thing in it that is read then."""
_LARGEST_EXPANSION = 2000  # of JPEG: an even grey image


class Split:
    """The samples of one split in one file.

    Attributes
    ----------
    name : str
        File and split, for example ``data/3.h5:train``.
    path : Path
        The file.
    count : int
        Number of samples N, at least 1.
    image_shape : (H, W, C)
    labels : (N,) int32, read-only, not negative
    identity : tuple of int
        What tells the file from another or a changed one: device, inode, size and time of change.
    """

    def __init__(self, name: str, path: Path, labels: Labels, source: ImageSource) -> None:
        self.name = name
        self.path = path
        self.labels = labels
        self.count = len(labels)
        self.image_shape = source.shape[1:]
        self._source = source
        self.identity = _identity(path)

    @property
    def images(self) -> Pixels:
        """Images, (N, H, W, C) uint8, read-only; a view of the page cache where the file allows it."""
        return self._source.array()

    @property
    def mapped(self) -> bool:
        """Whether ``images`` is a view of the page cache, without a copy."""
        return isinstance(self._source, MappedImages)

    def check_unchanged(self) -> None:
        """Raise ``DataError`` if the file was replaced, changed or removed since it was opened."""
        if _identity(self.path) != self.identity:
            raise DataError(f"{self.path}: was changed while in use; leave a data set alone while it is trained on")

    def prefetch(self) -> None:
        """Begin to fetch the images in the background, because they are wanted soon."""
        self._source.prefetch()

    def release(self) -> None:
        """Let go of the images; ``images`` fetches them again. Views handed out before stay valid."""
        self._source.release()


def _identity(path: Path) -> tuple[int, ...]:
    """Return a file's :attr:`Split.identity`; empty if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_shard_file(path: Path, seal: Seal, *, original: bool, keep: bool = False) -> dict[str, Split]:
    """Open one H5 file and return its non-empty splits by name ("train", "validation", "test").

    Parameters
    ----------
    path : Path
    seal : Seal
        What the file's bytes must be, compared before the first image is handed out.
    original : bool
        The folder has no manifest, so the file must be one without attributes, as the original program writes.
    keep : bool
        Leave images mapped once they were used, because there is memory enough.

    Raises
    ------
    DataError
        If the file is damaged, hostile or not of the expected kind.
    """
    crashes.load()
    # HDF5 asks for whatever memory a damaged header tells it to.
    with memory.limited(_MOST_MEMORY), safe_open(path) as file:
        if original and FORMAT_ATTRIBUTE in file.attrs:
            raise DataError(
                f"{path.parent}: has shards but no manifest.json, so the preparation did not finish (or the "
                "manifest was not copied); run 'lenet-mp prepare' again"
            )
        splits = {}
        for split, suffix in SUFFIXES.items():
            images = _image_source(file, path, suffix, seal, keep=keep)
            labels = checked_dataset(file, path, f"label_{suffix}")
            if images is None and labels is None:
                continue
            if images is None or labels is None:
                missing = "image" if images is None else "label"
                raise DataError(f"{path}: dataset '{missing}_{suffix}' is missing; prepare the data set again")
            values = _labels(labels, path, f"label_{suffix}", images.shape[0])
            if len(values):
                splits[split] = Split(f"{path}:{split}", path, values, images)
        if not splits:
            raise DataError(f"{path}: holds no sample; delete it or prepare the data set again")
        return splits


def _image_source(file: h5py.File, path: Path, suffix: str, seal: Seal, *, keep: bool) -> ImageSource | None:
    """Where a split's images come from: pixels, or else JPEG bytes; None if the file has neither."""
    name = f"image_{suffix}"
    pixels = checked_dataset(file, path, name)
    if pixels is not None:
        _check_pixels(pixels, path, name)
        if is_contiguous(pixels) and is_bytes(pixels) and len(pixels):
            return MappedImages(path, pixels.shape, pixels.id.get_offset(), seal, keep=keep)
        return LoadedImages(path, name, pixels.shape, seal)
    encoded = checked_dataset(file, path, f"jpeg_{suffix}")
    return _encoded_images(file, path, suffix, encoded, seal) if encoded is not None else None


def _encoded_images(file: h5py.File, path: Path, suffix: str, encoded: h5py.Dataset, seal: Seal) -> ImageSource:
    offsets = checked_dataset(file, path, f"offset_{suffix}")
    shape = small_integers(file, "image_shape", _IMAGE_AXES - 1)
    fits = (
        offsets is not None
        and offsets.ndim == 1
        and encoded.ndim == 1
        and is_contiguous(encoded)
        and is_bytes(encoded)
        and len(shape) == _IMAGE_AXES - 1
        and shape[2] in _CHANNELS
        and min(shape) > 0
        and len(offsets) * math.prod(shape) <= _LARGEST_EXPANSION * (len(encoded) + 4096)
    )
    ends = chunks.read(offsets, path).astype(np.int64) if offsets is not None and fits else np.zeros(0, np.int64)
    if len(ends) < 2 or ends[0] != 0 or ends[-1] != len(encoded) or (np.diff(ends) <= 0).any():  # noqa: PLR2004
        raise DataError(f"{path}: jpeg_{suffix} and offset_{suffix} do not fit together; prepare the data set again")
    stored = MappedImages(path, (1, len(encoded), 1, 1), encoded.id.get_offset(), seal, keep=False)
    return EncodedImages(path, stored, ends.tolist(), (shape[0], shape[1], shape[2]))


def _check_pixels(dataset: h5py.Dataset, path: Path, name: str) -> None:
    shape = dataset.shape
    if dataset.dtype != np.uint8:
        raise DataError(f"{path}: {name} has dtype {dataset.dtype}, expected uint8; prepare the data set again")
    if len(shape) != _IMAGE_AXES or shape[3] not in _CHANNELS or 0 in shape[1:]:
        raise DataError(
            f"{path}: {name} has shape {shape}, expected (samples, height, width, 1 or 3 channels); prepare it again"
        )


def _labels(dataset: h5py.Dataset, path: Path, name: str, samples: int) -> Labels:
    """Labels of any integer type, of shape (n,) or (n, 1), as int32."""
    if dataset.shape not in {(samples,), (samples, 1)}:
        raise DataError(
            f"{path}: {name} has shape {dataset.shape} for {samples} images, expected ({samples},); prepare it again"
        )
    stored = chunks.read(dataset, path).reshape(samples)
    wrong = np.flatnonzero((stored < 0) | (stored >= MOST_CLASSES))
    if len(wrong):
        raise DataError(
            f"{path}: {name} holds {stored[wrong[0]]} at sample {wrong[0]}, expected a class from 0; "
            "prepare the data set again"
        )
    labels: Labels = stored.astype(np.int32)
    labels.flags.writeable = False
    return labels
