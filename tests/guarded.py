"""Arrays beside which there is no memory: a process that touches the byte after their last, or before, crashes."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
PROT_NONE = 0


def empty(shape, dtype=np.float32, *, end=True):
    """Return an array whose last byte, or first if not ``end``, has a page beside it that cannot be touched."""
    count, size = int(np.prod(shape)), np.dtype(dtype).itemsize
    pages = -(-max(count * size, 1) // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    begin = np.frombuffer(memory, np.uint8).ctypes.data
    for page in (0, pages + 1):
        if _LIBC.mprotect(ctypes.c_void_p(begin + page * mmap.PAGESIZE), mmap.PAGESIZE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = (pages + 1) * mmap.PAGESIZE - count * size if end else mmap.PAGESIZE
    return np.frombuffer(memory, dtype, count, offset).reshape(shape)


def copy(array, *, end=True):
    """Return a copy of an array as of :func:`empty`."""
    new = empty(array.shape, array.dtype, end=end)
    new[...] = array
    return new


class Numpy:
    """NumPy, but what ``empty``, ``empty_like`` and ``concatenate`` make is guarded; for the module under test."""

    def __init__(self, *, end):
        self._end = end

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=np.float64):
        """Return a guarded array."""
        return empty(shape, dtype, end=self._end)

    def concatenate(self, arrays):
        """Return a guarded array of all values."""
        return copy(np.concatenate(arrays), end=self._end)

    def empty_like(self, array):
        """Return a guarded array of the same type and shape."""
        return empty(array.shape, array.dtype, end=self._end)
