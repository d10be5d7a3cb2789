"""Where a split's images come from: mapped from the page cache, or read through h5py into memory.

Both kinds answer the same three calls: ``array()`` gives the images, ``prefetch()`` says that they will be
wanted soon and returns at once, ``release()`` says that they are done with. Views handed out before stay valid.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lenet_mp import crashes
from lenet_mp.affinity import roam
from lenet_mp.data import chunks
from lenet_mp.data.memory import make_ready
from lenet_mp.data.safe_h5 import checked_dataset, safe_open
from lenet_mp.errors import DataError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from lenet_mp.data.seals import Seal

# One thread is enough: the disk is one, and HDF5 has one lock for the whole process.
_BACKGROUND = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lenet-mp-reader", initializer=roam)

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
    """Contiguous images, mapped from the file: no copy, and every process on the machine shares the pages.

    Parameters
    ----------
    path : Path
    shape : (N, H, W, C)
    offset : of the first byte in the file
    seal : Seal
        What the whole file's bytes must be, compared before the first of them is handed out.
    keep : bool
        Stay mapped after ``release``: the data set fits into memory, and entering 20,000 pages into the page table
        again in each epoch costs several per cent of a step.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int, int], offset: int, seal: Seal, *, keep: bool
    ) -> None:
        self.shape = shape
        self._path = path
        self._seal = seal
        self._offset = offset
        self._count = math.prod(shape)
        self._keep = keep
        self._pages: np.ndarray | None = None
        self._mapping = threading.Lock()
        self._pending: Future[None] | None = None

    def array(self) -> Pixels:
        """Images as a read-only view of the page cache."""
        pages = self._mapped()
        self._seal.check(pages)
        return pages[self._offset : self._offset + self._count].reshape(self.shape)

    def prefetch(self) -> None:
        """Read the file's pages, enter them into the page table and compare the seal, in the background."""
        if self._pages is None and self._pending is None:
            self._pending = _BACKGROUND.submit(self._make_ready)

    def release(self) -> None:
        """Let go of the mapping unless it is to be kept; the pages stay cached as long as there is room."""
        if self._pending:
            self._pending.cancel()  # it was wanted sooner than the thread came to it
            self._pending = None
        if not self._keep and self._pages is not None:
            _BACKGROUND.submit(_unmap, self._pages)
            self._pages = None

    def _mapped(self) -> np.ndarray:
        with self._mapping:
            if self._pages is None:
                self._pages = self._map()
            return self._pages

    def _map(self) -> np.ndarray:
        mapping = _mapping(self._path)
        if len(mapping) < self._offset + self._count:
            raise DataError(f"{self._path}: became shorter while in use; copy it again")
        pages = np.frombuffer(mapping, dtype=np.uint8)
        crashes.watch(mapping, pages.ctypes.data, self._path)
        return pages

    def _make_ready(self) -> None:
        # Mapped here and not by who will want them: to begin a mapping waits until no other is being made ready.
        with contextlib.suppress(DataError, OSError), self._path.open("rb") as file:  # it was only advice
            pages = self._mapped()
            make_ready(pages, file.fileno())
            self._seal.check(pages)  # a damaged file is told to who asks for its images


def _mapping(path: Path) -> mmap.mmap:
    """Map a file for reading; ``DataError`` if that fails, ``OutputError`` if the disk does."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO:
            raise OutputError(f"{path}: cannot be mapped ({error.strerror}); check the disk") from error
        reason = error.strerror if isinstance(error, OSError) else "it is empty"
        advice = "is it still there, are memory or open files short?"
        raise DataError(f"{path}: cannot be mapped ({reason}); {advice}") from error


def _unmap(_pages: np.ndarray) -> None:
    """Hold the last reference to a mapping, if nobody has a view of it: to end it waits as to begin it does."""


class LoadedImages:
    """Images that must be unpacked (chunked, compressed): read through h5py, held until released."""

    def __init__(self, path: Path, name: str, shape: tuple[int, int, int, int], seal: Seal) -> None:
        self.shape = shape
        self._path = path
        self._seal = seal
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
            self._pending = _BACKGROUND.submit(self._read)

    def release(self) -> None:
        """Forget the images; the memory is free once the last view of them is gone."""
        self._pending = None

    def _read(self) -> Pixels:
        self._seal.check(np.frombuffer(_mapping(self._path), np.uint8))
        with safe_open(self._path) as file:
            dataset = checked_dataset(file, self._path, self._name)
            if dataset is None or dataset.shape != self.shape or dataset.dtype != np.uint8:
                raise DataError(f"{self._path}: {self._name} changed while in use; copy it again")
            images: Pixels = chunks.read(dataset, self._path)
        images.flags.writeable = False
        return images
