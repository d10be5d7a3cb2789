"""A few bytes of memory that the ranks of one machine share, for what one of them need not find out again."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class _Place(NamedTuple):
    """Where a process holds memory that others may open: it has no name that could be left behind."""

    process: int
    descriptor: int
    device: int
    inode: int


def share(node: Any, count: int, subject: str) -> NDArray[np.uint8]:
    """Return ``count`` bytes, zero at first, that this rank shares with those of ``node`` that name the same subject.

    Where the system does not let it open what is another process's, it gets bytes of its own: they are for hints.

    Parameters
    ----------
    node : mpi4py.MPI.Comm
        Ranks of one machine, all of which call this at the same time.
    count : int
        At least 1; the same for ranks with the same subject.
    subject : str
        What the bytes are about.
    """
    key = hashlib.sha256(subject.encode()).digest()  # what a data set of many shards is about is long
    with _memory(count) as mine:
        places = dict(reversed(node.allgather((key, mine))))  # the first rank's of each subject
        array = _open(places[key], count)
        node.Barrier()  # until all have opened it, each keeps its own
    return array


@contextlib.contextmanager
def _memory(count: int) -> Iterator[_Place | None]:
    with contextlib.ExitStack() as stack:
        place = None
        with contextlib.suppress(OSError, AttributeError):  # a Python for old systems has no memfd_create
            descriptor = os.memfd_create("lenet-mp-shared")
            stack.callback(os.close, descriptor)
            os.truncate(descriptor, count)
            status = os.fstat(descriptor)
            place = _Place(os.getpid(), descriptor, status.st_dev, status.st_ino)
        yield place


def _open(place: _Place | None, count: int) -> NDArray[np.uint8]:
    """Map the memory; own bytes where that cannot be, or where this process sees other ones under the same number."""
    if place:
        path = Path(f"/proc/{place.process}/fd/{place.descriptor}")
        with contextlib.suppress(OSError, ValueError), path.open("r+b") as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino, status.st_size) == (place.device, place.inode, count):
                return np.frombuffer(mmap.mmap(file.fileno(), count), np.uint8)
    return np.zeros(count, np.uint8)
