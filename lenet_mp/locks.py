"""One process to an output folder: a lock that dies with its owner."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING

from lenet_mp.errors import UsageError
from lenet_mp.files import output_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = ".lock"


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
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
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
