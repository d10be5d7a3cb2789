"""How much memory a data set may occupy, and how pages of mapped files are made ready."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

_AROUND = 1 << 16
"""Bytes that Linux enters into the page table at a fault, if they are cached (``fault_around_bytes``)."""


def available_bytes(root: Path = Path("/")) -> int:
    """Bytes of memory that are free or can be freed, within this process's control group; 0 if unknown.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    limits = [_meminfo(root / "proc/meminfo")]
    groups = root / "sys/fs/cgroup"
    for own in _own_groups(root / "proc/self/cgroup"):
        limits += [
            _number(groups / own / "memory.max"),
            _number(groups / "memory" / own / "memory.limit_in_bytes"),
        ]
    known = [limit for limit in limits if limit]
    return min(known, default=0)


def address_space() -> int:
    """Bytes of address space that this process has taken."""
    return int(_text(Path("/proc/self/statm")).split()[0]) * resource.getpagesize()


_LIMITING = threading.Lock()


@contextlib.contextmanager
def limited(spare: int) -> Iterator[None]:
    """Let this process take no more than ``spare`` bytes beside what it has, while somebody's file is looked into."""
    with _LIMITING:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = address_space() + spare
        if soft != resource.RLIM_INFINITY:
            limit = min(limit, soft)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def make_ready(pages: np.ndarray, descriptor: int) -> None:
    """Read a mapped file's pages and enter them, or most, into this process's page table; waits until it is done.

    By touching them: where they are cached, MADV_POPULATE_READ takes twice as long, since it looks at every page by
    itself.

    Parameters
    ----------
    pages : array that begins at the mapping's first byte
    descriptor : of the file, open for reading
    """
    from lenet_mp._kernels import ffi, lib  # noqa: PLC0415 - OpenMP reads its environment when this is loaded

    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    lib.lenet_mapped_touch(ffi.cast("uint8_t *", pages.ctypes.data), pages.nbytes, _AROUND)


def _meminfo(path: Path) -> int:
    for line in _text(path).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _own_groups(path: Path) -> list[str]:
    """Paths of the control groups of this process, and their parents, relative to the hierarchy's root."""
    found = []
    for line in _text(path).splitlines():
        group = Path(line.split(":", 2)[-1].lstrip("/"))
        found += [str(part) for part in (group, *group.parents)]
    return list(dict.fromkeys(found))


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
