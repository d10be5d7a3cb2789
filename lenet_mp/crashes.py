"""The end of a process that a file brings down: one line and an exit code, not just "Bus error" or worse.

A mapped file may be cut short while C reads it, and HDF5 may crash on a damaged one: no exception comes of either; see
``csrc/crashes.c``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING

from lenet_mp.errors import DataError, OutputError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator
    from pathlib import Path

STACK = 1 << 16
"""Bytes for the end of a process whose stack has overflowed."""

_who = "lenet-mp"
_end: Callable[[int], None] | None = None


def speak_as(who: str, end: Callable[[int], None] | None = None) -> None:
    """Let the line of files that are mapped or opened from now on begin with ``who``: a command, perhaps with its rank.

    ``end``, called in a thread with the exit code, ends the other ranks too.
    """
    global _who, _end
    _who, _end = who, end


def watch(mapping: mmap.mmap, address: int, path: Path) -> None:
    """Be prepared for the loss of a file's pages as long as ``mapping`` of it, which is at ``address``, exists."""
    from lenet_mp._kernels import ffi, lib  # noqa: PLC0415 - OpenMP reads its environment when this is loaded

    if _end:
        _listen(_end)
    words = [
        f"{_who}: error: {path}: was cut short while in use; copy or prepare it again, then resume\n",
        f"{_who}: error: {path}: cannot be read any more; check the disk, then resume\n",
    ]
    cut, failed = (ffi.new("char[]", text.encode(errors="backslashreplace")) for text in words)
    name = ffi.new("char[]", os.fsencode(path))
    ends = (cut, DataError.exit_code), (failed, OutputError.exit_code)
    file = ffi.new("struct lenet_mapped *", (address, len(mapping), name, *ends))
    number = lib.lenet_mapped_watch(file)
    if number >= 0:
        # The finalizer keeps what C points at.
        weakref.finalize(mapping, _forget, number, file, name, cut, failed).atexit = False


def load() -> None:
    """Load the C core, for who is about to limit the memory in which a file is looked into."""
    from lenet_mp import _kernels  # noqa: F401, PLC0415 - see above


@contextlib.contextmanager
def expected(path: Path) -> Iterator[None]:
    """Be prepared for a library that crashes in this thread, because of what is in the file at ``path``."""
    from lenet_mp._kernels import ffi, lib  # noqa: PLC0415 - see above

    advice = "copy it again or prepare the data set again"
    words = f"{_who}: error: {path}: damaged, the HDF5 library crashed on it; {advice}\n"
    text = ffi.new("char[]", words.encode(errors="backslashreplace"))
    last, stack = ffi.new("struct lenet_last_words *", (text, DataError.exit_code)), ffi.new("uint8_t[]", STACK)
    try:
        lib.lenet_crash_expect(last, stack, STACK)
        yield
    finally:
        lib.lenet_crash_expect_none()


@cache
def _listen(end: Callable[[int], None]) -> None:
    """Start a thread that hears of this process's end and ends the others: by then it is too late for exceptions."""
    from lenet_mp._kernels import lib  # noqa: PLC0415 - see above

    hears, tells = os.pipe()
    threading.Thread(target=lambda: end(os.read(hears, 1)[0]), name="crashes", daemon=True).start()
    lib.lenet_crash_listen(tells)


def _forget(number: int, *_: object) -> None:
    from lenet_mp._kernels import lib  # noqa: PLC0415 - see above

    lib.lenet_mapped_forget(number)
