"""Files that are written whole or not at all, and what they never take the place of."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import small_data

from lenet_mp.errors import OutputError
from lenet_mp.files import replaced, write_atomically
from lenet_mp.train import main


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
    for name in (".", "/", ".."):
        with pytest.raises(OutputError, match=r"cannot write [./]*: "):
            write_atomically(Path(name), b"new")
    with pytest.raises(OutputError, match="there is a file where a folder should be"):
        write_atomically(tmp_path / "other" / "x", b"new")


def test_what_the_dead_left_is_removed(tmp_path):
    """Half-written files go with the next file in their folder, unless their process lives or is of another host."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    kept = {f".a.{host}-{os.getppid()}.tmp.csv", f".a.{host}x-{ended.pid}.tmp.csv", f"a.{host}-{ended.pid}.tmp.csv"}
    for name in (*kept, f".a.{host}-{ended.pid}.tmp.csv", f".a\nb.{host}-{ended.pid}.tmp"):
        (tmp_path / name).touch()
    write_atomically(tmp_path / "b.png", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"b.png", *kept}


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "\u00e9" * 127, "a\n\udcff"])
def test_any_name_that_the_system_takes(tmp_path, name):
    """A file whose name is as long as may be, or strange, is written like any other."""
    for text in (b"old", b"new"):
        write_atomically(tmp_path / name, text)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, text)]
    with replaced(tmp_path / name) as temporary:
        temporary.write_bytes(b"")
        assert temporary.suffix == ((tmp_path / name).suffix or ".tmp")


@pytest.mark.parametrize("command", ["evaluate", "report", "export"])
def test_what_killed_commands_left_is_removed_by_the_next(tmp_path, command):
    """A command that is killed with a file half written, and is called again, leaves nothing but its results."""
    place = small_data.write_place(tmp_path)
    assert main(small_data.options(place, tmp_path / "run", epochs=1)) == 0
    script = tmp_path / "killed.py"
    script.write_text(
        f"import os, sys\nfrom lenet_mp import files\nfrom lenet_mp.{command} import main\n"
        "files._flush = lambda *_: os._exit(9)\nmain(sys.argv[1:])\n"
    )
    assert programs.run(script, tmp_path / "run").returncode == 9
    assert len(list((tmp_path / "run").rglob(".*.tmp*"))) == 1
    assert programs.run("-m", f"lenet_mp.{command}", tmp_path / "run").returncode == 0
    assert not list((tmp_path / "run").rglob(".*.tmp*"))
