"""Where a split's images come from: mapped from the page cache, or read through h5py into memory.

Both kinds answer the same three calls: ``array()`` gives the images, ``prefetch()`` says that they will be
wanted soon and returns at once, ``release()`` says that they are done with. Views handed out before stay valid.
"""

from __future__ import annotations

import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lenet_mp.errors import DataError
from lenet_mp.safe_h5 import checked_dataset, safe_open

if TYPE_CHECKING:
    from pathlib import Path

Pixels = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]


class ImageSource(Protocol):
    """Images of one split, (N, H, W, C) uint8, read-only."""

    shape: tuple[int, int, int, int]

    def array(self) -> Pixels:
        """Return all images; the first call may wait for the disk."""

    def prefetch(self) -> None:
        """Begin to fetch the images in the background."""

    def release(self) -> None:
        """Let go of the images; a later call of ``array`` fetches them again."""


class MappedImages:
    """Contiguous images, mapped from the file: no copy, and every process on the machine shares the pages."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int], offset: int) -> None:
        self.shape = shape
        self._path = path
        self._offset = offset
        self._count = int(np.prod(shape, dtype=np.int64))
        self._map: mmap.mmap | None = None

    def array(self) -> Pixels:
        """Images as a read-only view of the page cache."""
        flat = np.frombuffer(self._mapping(), dtype=np.uint8, count=self._count, offset=self._offset)
        return flat.reshape(self.shape)

    def prefetch(self) -> None:
        """Tell the kernel to read the file's pages ahead."""
        self._mapping().madvise(mmap.MADV_WILLNEED)

    def release(self) -> None:
        """Take the pages out of this process; they stay in the page cache as long as there is room."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._map = None

    def _mapping(self) -> mmap.mmap:
        if self._map is None:
            try:
                with self._path.open("rb") as file:
                    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise DataError(f"{self._path}: cannot be mapped ({error}); was it changed while in use?") from error
            if len(mapping) < self._offset + self._count:
                raise DataError(f"{self._path}: became shorter while in use; copy it again")
            self._map = mapping
        return self._map


class LoadedImages:
    """Images that must be unpacked (chunked, compressed): read through h5py, held until released."""

    # One thread is enough: HDF5 has one lock for the whole process.
    _reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lenet-mp-h5")

    def __init__(self, path: Path, name: str, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape
        self._path = path
        self._name = name
        self._pending: Future[Pixels] | None = None

    def array(self) -> Pixels:
        """Images in memory of this process, read-only."""
        self.prefetch()
        assert self._pending is not None  # noqa: S101 - set by prefetch
        return self._pending.result()

    def prefetch(self) -> None:
        """Begin to read in the background thread."""
        if self._pending is None:
            self._pending = self._reader.submit(self._read)

    def release(self) -> None:
        """Forget the images; the memory is free once the last view of them is gone."""
        self._pending = None

    def _read(self) -> Pixels:
        with safe_open(self._path) as file:
            dataset = checked_dataset(file, self._path, self._name)
            if dataset is None or dataset.shape != self.shape or dataset.dtype != np.uint8:
                raise DataError(f"{self._path}: {self._name} changed while in use; copy it again")
            images: Pixels = dataset[...]
        images.flags.writeable = False
        return images
