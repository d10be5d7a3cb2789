"""Files that are written whole or not at all, and what they never take the place of."""

import os
import socket
import stat

import pytest

from lenet_mp.errors import OutputError
from lenet_mp.files import write_atomically


def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def standard_stream(path):
    path.symlink_to("/proc/self/fd/1")


def null(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize("make", [fifo, listening, standard_stream, null])
def test_what_is_no_file_keeps_its_place(tmp_path, make):
    """A device, pipe, socket or standard stream is refused at once, and is afterwards what it was."""
    path = tmp_path / "out.csv"
    make(path)
    before = path.lstat()
    with pytest.raises(OutputError, match=r"out.csv: it is a device, pipe or socket"):
        write_atomically(path, b"text")
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_folders(tmp_path):
    """A link to a file, or to nothing, is replaced by the file; a folder of that name is an error that says so."""
    (tmp_path / "other").write_bytes(b"kept")
    for target in ("other", "nowhere"):
        link = tmp_path / f"to {target}"
        link.symlink_to(target)
        write_atomically(link, b"new")
        assert (link.is_symlink(), link.read_bytes()) == (False, b"new")
    assert (tmp_path / "other").read_bytes() == b"kept"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="there is a folder of that name; name a file"):
        write_atomically(tmp_path / "folder", b"new")
    with pytest.raises(OutputError, match="there is a file where a folder should be"):
        write_atomically(tmp_path / "other" / "x", b"new")
