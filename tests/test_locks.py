"""The lock of an output folder: who is refused learns who holds it, also in the moment after it was taken."""

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from lenet_mp import locks
from lenet_mp.errors import UsageError


@pytest.fixture
def held(tmp_path):
    """Descriptor of the lock file of tmp_path, locked, its note still that of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    descriptor = os.open(tmp_path / locks.NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.pwrite(descriptor, f"process {ended.pid} on {socket.gethostname()}\n".encode(), 0)
    yield descriptor
    os.close(descriptor)


def refusal(folder):
    with pytest.raises(UsageError) as error, locks.folder_lock(folder):
        pass
    return str(error.value)


@pytest.mark.parametrize("before", ["a dead process", "nothing"])
def test_waits_for_the_note_of_an_owner_that_has_just_locked(tmp_path, held, before):
    if before == "nothing":
        os.ftruncate(held, 0)
    note = f"process {os.getpid()} on {socket.gethostname()}"
    writer = threading.Timer(0.2, os.pwrite, [held, note.encode() + b"\n", 0])
    writer.start()
    assert f"in use by {note};" in refusal(tmp_path)
    writer.join()


@pytest.mark.parametrize("note", [None, "", "process", "process 99999999999999999999 on " + socket.gethostname()])
def test_owner_that_writes_no_note_is_another_process(tmp_path, held, note, monkeypatch):
    """Neither the dead process that held it before nor garbage is given as the owner; and the refusal comes soon."""
    monkeypatch.setattr(locks, "_NOTE_WITHIN", 0.1)
    if note is not None:
        os.ftruncate(held, 0)
        os.pwrite(held, note.encode(), 0)
    assert "in use by another process;" in refusal(tmp_path)


def test_owner_on_another_host_is_named_without_waiting(tmp_path, held, monkeypatch):
    os.ftruncate(held, 0)
    os.pwrite(held, b"process 7 on elsewhere\n", 0)
    monkeypatch.setattr(time, "sleep", None)
    assert "in use by process 7 on elsewhere;" in refusal(tmp_path)


def test_lock_is_free_after_its_owner_and_names_the_new_one(tmp_path):
    for _ in range(2):
        with locks.folder_lock(tmp_path):
            assert f"in use by process {os.getpid()} on {socket.gethostname()};" in refusal(tmp_path)
