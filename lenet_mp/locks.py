"""One process to an output folder: a lock that dies with its owner."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING

from lenet_mp import processes
from lenet_mp.errors import UsageError
from lenet_mp.files import output_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = ".lock"

_NOTE_WITHIN = 1.0
"""Seconds that a refused process waits for the owner's note, which is written just after the lock is taken."""


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder's lock; if another process holds it, wait, or raise ``UsageError`` at once.

    The kernel gives the lock back when the process ends, however it ends. The file stays, since removing it would let
    two processes lock two files of that name.
    """
    path = folder / NAME
    try:
        # Never through a link: the file at its end would be emptied.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            owner = _owner(descriptor)
            raise UsageError(f"{folder}: in use by {owner}; wait for it or choose another folder") from error
        except OSError:
            # A file system without locks (some NFS): better unguarded than not at all.
            yield
            return
        with contextlib.suppress(OSError):  # the note is for people; the lock holds without it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    """Who holds the lock, by the note in its file; "another process" if no owner has written one in time.

    Just after the lock was taken the file is empty, or names the dead process that held it before.
    """
    end = time.monotonic() + _NOTE_WITHIN
    while True:
        note = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        if _may_live(note):
            return note
        if time.monotonic() >= end:
            return "another process"
        time.sleep(0.02)


def _may_live(note: str) -> bool:
    """Whether the process that the note names can be the owner: not if it is of this host and has ended."""
    match note.split():
        case ["process", number, "on", host] if number.isdecimal():
            return host != socket.gethostname() or processes.lives(int(number))
    return False
