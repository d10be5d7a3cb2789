"""Decoding in processes: results, order, and processes that die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lenet_mp.data import decode_worker
from lenet_mp.data.decode_pool import DecodePool
from lenet_mp.data.images import Decoder
from tests.pictures import encoded, pixels, write_picture

DECODER = Decoder((20, 24))


def finish(pool, count):
    """Collect `count` outcomes by slot."""
    found = {}
    while len(found) < count:
        found.update((outcome.slot, outcome) for outcome in pool.outcomes())
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_pixels_and_sums(tmp_path, workers):
    """Every file's pixels arrive in its slot, with exact sums of values and squares by channel."""
    count = 50
    files = [str(write_picture(tmp_path / f"{number}.png", number)) for number in range(count)]
    with DecodePool(DECODER, workers=workers, slots=count) as pool:
        pool.submit((count - 1 - number, file) for number, file in enumerate(files))
        found = finish(pool, count)
        for number in range(count):
            outcome, image = found[count - 1 - number], pixels(number)
            assert outcome.reason == ""
            assert np.array_equal(pool.buffer[count - 1 - number], image)
            wide = image.astype(np.int64)
            assert list(outcome.sums) == wide.sum(axis=(0, 1)).tolist()
            assert list(outcome.squares) == (wide**2).sum(axis=(0, 1)).tolist()


@pytest.mark.parametrize("count", [3, 8, 60, 500])
def test_all_processes_get_a_share(tmp_path, count):
    """However few the files, none of three processes is left without any, or with twice as many as another."""
    file = str(write_picture(tmp_path / "x.png"))
    with DecodePool(DECODER, workers=3, slots=count) as pool:
        pool.submit((number, file) for number in range(count))
        shares = [sum(map(len, worker.unanswered)) for worker in pool._workers]
        assert sum(shares) == count
        assert max(shares) < 2 * min(shares) + 1
        finish(pool, count)


def test_a_bad_file_is_an_outcome(tmp_path):
    """A file that cannot be decoded has a reason, its neighbours none."""
    files = [write_picture(tmp_path / f"{number}.png", number) for number in range(5)]
    files[2].write_bytes(b"nothing")
    files[4].unlink()
    with DecodePool(DECODER, workers=1, slots=5) as pool:
        pool.submit((number, str(file)) for number, file in enumerate(files))
        reasons = [outcome.reason for _, outcome in sorted(finish(pool, 5).items())]
    assert [bool(reason) for reason in reasons] == [False, False, True, False, True]
    assert reasons[4] == "no such file"


def test_a_killed_process_is_replaced(tmp_path):
    """If a decoding process is killed from outside, every image is still decoded."""
    files = [str(write_picture(tmp_path / f"{number}.png", number)) for number in range(200)]
    with DecodePool(DECODER, workers=2, slots=200) as pool:
        pool.submit(enumerate(files))
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        found = finish(pool, 200)
        for number in range(200):
            assert found[number].reason == ""
            assert np.array_equal(pool.buffer[number], pixels(number))


POISON = """
import os, signal
from lenet_mp.data import decode_worker, images
real = images.Decoder.picture
def picture(self, data):
    if data.endswith(b"poison"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(self, data)
images.Decoder.picture = picture
decode_worker.main()
"""


def test_an_image_that_kills_the_decoder_is_named(tmp_path, monkeypatch):
    """Images that crash the decoder are bad images; those beside them in the same message are decoded."""
    monkeypatch.setattr("lenet_mp.data.decode_pool._START", "import sys; sys.path.insert(0, sys.argv[1])\n" + POISON)
    count, poisoned = 40, {3, 4, 30}
    for number in range(count):
        tail = b"poison" if number in poisoned else b""
        (tmp_path / f"{number}.png").write_bytes(encoded(pixels(number)) + tail)
    with DecodePool(DECODER, workers=2, slots=count) as pool:
        pool.submit((number, str(tmp_path / f"{number}.png")) for number in range(count))
        found = finish(pool, count)
        for number in set(range(count)) - poisoned:
            assert np.array_equal(pool.buffer[number], pixels(number))
    assert {number for number, outcome in found.items() if outcome.reason} == poisoned
    assert found[3].reason == "makes the decoder crash (SIGSEGV)"


def test_an_image_that_takes_for_ever(tmp_path, monkeypatch):
    """An image that takes more processor time than allowed is given up."""
    endless = POISON.replace("os.kill(os.getpid(), signal.SIGSEGV)", "\n        while True: pass")
    endless = endless.replace("decode_worker.main()", "decode_worker.SECONDS_PER_IMAGE = 1\ndecode_worker.main()")
    monkeypatch.setattr("lenet_mp.data.decode_pool._START", "import sys; sys.path.insert(0, sys.argv[1])\n" + endless)
    (tmp_path / "x.png").write_bytes(encoded(pixels(0)) + b"poison")
    with DecodePool(DECODER, workers=1, slots=1) as pool:
        pool.submit([(0, str(tmp_path / "x.png"))])
        assert finish(pool, 1)[0].reason == f"takes more than {decode_worker.SECONDS_PER_IMAGE} s to decode"


def test_processes_end_with_the_pool(tmp_path):
    """Closing the pool in the middle of the work leaves no process behind."""
    files = [str(write_picture(tmp_path / f"{number}.png", number)) for number in range(100)]
    with DecodePool(DECODER, workers=2, slots=100) as pool:
        pool.submit(enumerate(files))
        processes = [worker.process for worker in pool._workers]
    assert all(process.poll() is not None for process in processes)


LEADER = """
import os, sys, time
from lenet_mp.data.decode_pool import DecodePool
from lenet_mp.data.images import Decoder
pool = DecodePool(Decoder((20, 24)), workers=2, slots=1)
print(*(worker.process.pid for worker in pool._workers), flush=True)
time.sleep(600)
"""


def test_processes_end_with_their_parent():
    """A parent that is killed outright leaves no decoding process behind."""
    parent = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True)
    workers = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.communicate()
    limit = time.monotonic() + 60
    while any(alive(worker) for worker in workers) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not any(alive(worker) for worker in workers)


def alive(process):
    """Whether a process exists and is no zombie (whose new parent may never collect it)."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
