"""How much memory a data set may occupy, and how pages of mapped files are made ready."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

_MADV_POPULATE_READ = 22  # Linux 5.14; older kernels refuse it, and the pages come one fault at a time
# Through ctypes, because mmap.madvise holds the interpreter's lock while it waits for the disk.
_LIBC = ctypes.CDLL(None)


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
    """Read a mapped file's pages and enter them into this process's page table; waits until it is done.

    Parameters
    ----------
    pages : array that begins at the mapping's first byte
    descriptor : of the file, open for reading
    """
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    _LIBC.madvise(ctypes.c_void_p(pages.ctypes.data), ctypes.c_size_t(pages.nbytes), _MADV_POPULATE_READ)


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
