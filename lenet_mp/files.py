"""Files that are either old or new, never half: write to a temporary name, fsync, rename, fsync the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from typing import TYPE_CHECKING

from lenet_mp import processes
from lenet_mp.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST_TEXT = 1 << 28
LONGEST_NAME = 255
"""Bytes of a file's name on the usual file systems."""


def write_atomically(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Give ``path`` the content ``data``; after any interruption it holds the old content or the new.

    Once this returns, the content survives a power cut as far as the disk keeps its promises.

    Raises
    ------
    OutputError
        If the disk is full, the folder is missing or read-only, or the disk fails. Nothing is left behind.
    """
    with replaced(path) as temporary, temporary.open("xb") as file:
        file.write(data)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to make a file of; on leaving, it takes the place of ``path``.

    There is nothing of that name: who opens it exclusively writes through nobody's link. If the body raises, ``path``
    is untouched and the temporary file is removed; an ``OSError`` becomes an ``OutputError``. What is no regular file,
    as ``/dev/null``, keeps its place: that is an ``OutputError`` too. What killed processes of this host have left in
    the folder is removed.
    """
    if _is_special(path):
        raise OutputError(f"cannot write {path}: it is a device, pipe or socket; name an ordinary file")
    if not path.name:
        raise output_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    temporary = _temporary(path)
    try:
        _sweep_after_the_dead(path.parent)
        temporary.unlink(missing_ok=True)
        yield temporary
        _flush(temporary, os.O_RDWR)
        temporary.replace(path)
        _flush(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        _remove(temporary)
        raise output_error(path, error) from error
    except BaseException:
        _remove(temporary)
        raise


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that tells whose it is, cut where the system would refuse it as too long."""
    end = f".{socket.gethostname()}-{os.getpid()}.tmp{path.suffix}"
    stem = os.fsencode(path.stem)[: max(1, LONGEST_NAME - 1 - len(os.fsencode(end)))]
    return path.with_name(f".{os.fsdecode(stem)}{end}")


def _sweep_after_the_dead(folder: Path) -> None:
    """Remove half-written files of processes of this host that have ended; of another host's nothing is known."""
    ours = re.compile(rf"\..+\.{re.escape(socket.gethostname())}-([0-9]+)\.tmp.*", re.DOTALL)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries]:
            match = ours.fullmatch(name)
            if match and not processes.lives(int(match[1])):
                _remove(folder / name)


def _is_special(path: Path) -> bool:
    """Whether ``path`` is something that a file must not take the place of, a link to a standard stream included."""
    try:
        stream = path.is_symlink() and path.readlink().is_relative_to("/proc")
        return stream or not (path.is_file() or path.is_dir() or not path.exists())
    except OSError:  # whoever writes there will hear of it
        return False


def append(path: Path, text: str) -> None:
    """Append ``text`` to a file, made if it is missing; ``OutputError`` if that fails, or if ``path`` is a link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open(os.open(path, flags, 0o666), "a", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            file.write(text)
    except OSError as error:
        raise output_error(path, error) from error


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in ``folder``; only under a lock that keeps others out."""
    for path in folder.glob(".*.tmp*"):
        _remove(path)


def read(path: str | Path, largest: int = LARGEST_TEXT, *, follow_links: bool = True) -> bytes:
    """Return the bytes of a regular file; an ``OSError`` for anything else, which could make a reader wait for ever.

    A file of more than ``largest`` bytes is an ``OSError`` too, and so is one that grows or shrinks meanwhile. Without
    ``follow_links``, ``path`` must be a real one: a link in any part of it has come there since it was found.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if not follow_links and _leads_elsewhere(descriptor, path):
            raise OSError(errno.ELOOP, "a link has taken its place", str(path))
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes", str(path))
        # No more is asked for than there should be: room for ``largest`` bytes takes longer to get than to fill.
        data = file.read(status.st_size + 1)
    if len(data) != status.st_size:
        raise OSError(errno.EBUSY, "it is being written", str(path))
    return data


def _leads_elsewhere(descriptor: int, path: str | Path) -> bool:
    """Whether an open file is another than the one of that real path; the kernel knows where it found it."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") != os.fspath(path)  # noqa: PTH115 - as text, to compare
    except OSError:
        return False  # no /proc here; O_NOFOLLOW saw to the last part of the path


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents if they are missing and return it; ``OutputError`` where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


def output_error(path: Path, error: OSError) -> OutputError:
    """One line that says what failed on ``path`` and what to do."""
    remedies = {
        errno.ENOSPC: "free some space or choose another folder",
        errno.EDQUOT: "free some of your quota or choose another folder",
        errno.EACCES: "choose a folder that you may write to",
        errno.EPERM: "choose a folder that you may write to",
        errno.EROFS: "choose a folder on a writable file system",
        errno.ENOENT: "its folder does not exist (any more)",
        errno.EEXIST: "there is a file of that name; choose another folder",
        errno.ENOTDIR: "there is a file where a folder should be; choose another folder",
        errno.EISDIR: "there is a folder of that name; name a file",
    }
    remedy = remedies.get(error.errno or 0, "check the disk")
    return OutputError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
