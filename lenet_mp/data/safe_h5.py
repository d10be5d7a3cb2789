"""Opening H5 files that somebody else wrote: everything suspicious is refused before a single sample is read.

An H5 file can point at other files (links, external storage, virtual datasets: a password file would come
back as pixels), can name filters that load plug-ins, and can declare terabytes in a kilobyte. None of that has
a place in a shard, so one door checks it all: :func:`safe_open`, then :func:`checked_dataset`.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py

from lenet_mp import crashes
from lenet_mp.data import chunks
from lenet_mp.errors import DataError, LenetError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Photographs shrink by a quarter; a dataset that unfolds to 200 times its whole file is a bomb. Small ones are
# let through, since a handful of blank test images does the same and harms nobody.
_LARGEST_EXPANSION = 200
_HARMLESS_BYTES = 16 << 20


@contextmanager
def safe_open(path: Path) -> Iterator[h5py.File]:
    """Open an H5 file for reading, without file locks and without following anything out of it.

    Raises
    ------
    DataError
        If there is no such file, it is not a regular file, or HDF5 cannot read it (also while it is in use). Where
        HDF5 crashes on it, the process ends as for a ``DataError``.
    OutputError
        If the disk fails, or HDF5 was told by its environment to lock files and cannot.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; copy it there or prepare the data set again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its folder and permissions") from error
    if not stat.S_ISREG(mode):  # opening a FIFO would wait for ever
        raise DataError(f"{path}: not a regular file; a shard must be one")
    try:
        # Without locks: nobody writes a finished shard, and NFS and Lustre often refuse to lock.
        with crashes.expected(path), h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        if isinstance(error, LenetError):
            raise
        if f"errno = {errno.EIO}," in str(error):
            raise OutputError(f"{path}: cannot be read ({os.strerror(errno.EIO)}); check the disk") from error
        if "unable to lock file" in str(error):  # the variable has the last word, whatever was asked for above
            raise OutputError(f"{path}: cannot be locked; unset HDF5_USE_FILE_LOCKING, no lock is needed") from error
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"{path}: damaged or not an H5 file ({reason}); copy it again or prepare the data set again"
        ) from error


def checked_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset | None:
    """Return the root dataset `name` of an open file, or None if there is none.

    Raises
    ------
    DataError
        If the dataset is a link, lives outside the file, needs a filter that is not HDF5's own, or declares
        more bytes than the file can hold.
    """
    link = file.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise _refused(path, name, "is a link to another place")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise _refused(path, name, "is not a dataset")
    if dataset.external:
        raise _refused(path, name, "keeps its bytes in another file")
    if dataset.is_virtual:
        raise _refused(path, name, "is a virtual dataset")
    plist = dataset.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        code = plist.get_filter(index)[0]
        if code not in chunks.FILTERS:
            allowed = ", ".join(chunks.FILTERS.values())
            raise _refused(path, name, f"uses filter {code} (only {allowed} are read)")
    _check_size(dataset, path, name)
    return dataset


def _check_size(dataset: h5py.Dataset, path: Path, name: str) -> None:
    """Refuse a dataset whose declared size the file's own bytes cannot account for."""
    if dataset.dtype.kind not in "iu":
        raise _refused(path, name, f"has dtype {dataset.dtype}, not integers")
    if dataset.shape is None or dataset.ndim == 0:
        raise _refused(path, name, "is not an array")
    file_bytes = path.stat().st_size
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if is_contiguous(dataset):
        offset = dataset.id.get_offset() or 0
        if declared and (dataset.id.get_storage_size() != declared or offset + declared > file_bytes):
            raise _refused(path, name, f"declares {declared:,} bytes that the file does not hold")
        return
    if declared > max(_HARMLESS_BYTES, _LARGEST_EXPANSION * file_bytes):
        raise _refused(path, name, f"declares {declared:,} bytes in a file of {file_bytes:,}")
    chunk_bytes = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if chunk_bytes > max(_HARMLESS_BYTES, 2 * declared):
        raise _refused(path, name, f"has chunks of {chunk_bytes:,} bytes, more than its contents")


def is_contiguous(dataset: h5py.Dataset) -> bool:
    """Whether the dataset's bytes lie in one piece in the file, as they are in memory."""
    return bool(dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS)


def is_bytes(dataset: h5py.Dataset) -> bool:
    """Whether the dataset's elements are whole bytes, one a number: HDF5 knows numbers of five bits of a byte too."""
    stored = dataset.id.get_type()
    return bool(stored.equal(h5py.h5t.STD_U8LE) or stored.equal(h5py.h5t.STD_U8BE))


def small_integers(file: h5py.File, name: str, count: int) -> tuple[int, ...]:
    """Values of a root attribute of so many integers; nothing if it is missing or another thing, perhaps a huge one."""
    if name not in file.attrs:
        return ()
    attribute = file.attrs.get_id(name)
    if attribute.shape != (count,) or attribute.dtype.kind not in "iu":
        return ()
    return tuple(file.attrs[name].tolist())


def _refused(path: Path, name: str, what: str) -> DataError:
    return DataError(f"{path}: dataset {name!r} {what}; refused, prepare the data set again from its images")
