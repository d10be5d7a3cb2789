"""Files that bring a process down, cut short while mapped or deadly to HDF5: one line and a code, for every rank."""

import signal
import subprocess
import sys

import h5py
import programs
import pytest
import small_data
from lenet_mp._kernels import ffi, lib
from programs import needs_mpi

from lenet_mp.training import checkpoint

TOUCH = """
import mmap, os, signal, sys
from pathlib import Path
from lenet_mp.data.pixels import MappedImages
from lenet_mp.data.seals import Seal
path, what = Path(sys.argv[1]), sys.argv[2]
path.write_bytes(bytes(40_960))
images = MappedImages(path, (10, 64, 64, 1), 0, Seal(path, ""), keep=True)
pixels = images.array()
assert pixels.sum() == 0
if what == "cut":
    os.truncate(path, 8192)
elif what == "lost":  # the file that the name leads to has all its bytes; those that are mapped do not come
    path.rename(path.with_name("mapped"))
    path.write_bytes(bytes(40_960))
    os.truncate(path.with_name("mapped"), 8192)
elif what == "another":
    del pixels
    images = None  # its mapping is gone, and perhaps this one has its address
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    os.truncate(path, 0)
    mapping[0]
elif what == "sent":
    os.kill(os.getpid(), signal.SIGBUS)
pixels[9].sum()
"""


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("nothing", 0, ""),
        ("cut", 3, "lenet-mp: error: {}: was cut short while in use; copy or prepare it again"),
        ("lost", 74, "lenet-mp: error: {}: cannot be read any more; check the disk"),
        ("another", -signal.SIGBUS, ""),
        ("sent", -signal.SIGBUS, ""),
    ],
)
def test_pages_that_are_gone(tmp_path, what, code, words):
    """Our own mapped files get one line and a code; bus errors from elsewhere stay what they were."""
    path = tmp_path / "shard é"
    done = subprocess.run([sys.executable, "-c", TOUCH, path, what], capture_output=True, check=False, timeout=60)
    assert done.returncode == code
    assert done.stderr.decode().startswith(words.format(path))
    assert done.stderr.count(b"\n") == (1 if words else 0)


def test_so_many_mapped_files_are_watched_and_no_more():
    """Beyond them a number says so that is nobody's; a place that was given back is taken again."""
    file = ffi.new("struct lenet_mapped *", (8, 8, ffi.NULL, (ffi.NULL, 3), (ffi.NULL, 74)))
    numbers = []
    while (number := lib.lenet_mapped_watch(file)) >= 0 and len(numbers) < 10_000:
        numbers.append(number)
    assert number == -1
    assert 3000 < len(set(numbers)) == len(numbers) <= 4096
    lib.lenet_mapped_forget(numbers.pop(7))
    numbers.append(lib.lenet_mapped_watch(file))
    assert len(set(numbers)) == len(numbers)
    for number in numbers:
        lib.lenet_mapped_forget(number)


OPEN = """
import ctypes, faulthandler, os, signal, sys, threading
from pathlib import Path
from lenet_mp import crashes
from lenet_mp.data.safe_h5 import safe_open

def overflow(depth=ctypes.PYFUNCTYPE(ctypes.c_int)):
    libc, sort = ctypes.CDLL(None), ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    sys.setrecursionlimit(10**9)
    again = sort(lambda *_: libc.qsort(ctypes.create_string_buffer(b"ba"), 2, 1, again) or 0)
    again(None, None)

def send(number):
    if not os.fork():
        os.kill(os.getppid(), number)
        os._exit(0)
    signal.pause()

how, inside, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
crash = {
    "wild": lambda: ctypes.string_at(8), "abort": os.abort, "overflow": overflow,
    "sent": lambda: send(signal.SIGSEGV), "divide": lambda: signal.raise_signal(signal.SIGFPE),
    "illegal": lambda: signal.raise_signal(signal.SIGILL),
}[how]

def look():
    if inside == "later":  # another handler between two of ours, each of which knows the other
        with safe_open(path):
            faulthandler.enable()
        with safe_open(path):
            pass
        crash()
    with safe_open(path):
        if inside != "outside":
            crash()
    crash()

if inside == "thread":
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
elif inside == "another":
    with safe_open(path):
        thread = threading.Thread(target=crash)
        thread.start()
        thread.join()
else:
    look()
"""


CRASHES = ("wild", "abort", "overflow", "divide", "illegal")


@pytest.mark.parametrize(
    ("how", "inside", "signal_of_it"),
    [
        *((how, inside, None) for how in CRASHES for inside in ("inside", "thread")),
        ("wild", "outside", signal.SIGSEGV),
        ("abort", "outside", signal.SIGABRT),
        ("divide", "outside", signal.SIGFPE),
        ("wild", "another", signal.SIGSEGV),
        ("wild", "later", signal.SIGSEGV),
        ("sent", "inside", signal.SIGSEGV),
    ],
)
def test_crash_on_a_file(tmp_path, how, inside, signal_of_it):
    """A thread that reads a file says which it was; one that reads none, or is killed by somebody, ends as ever."""
    path = tmp_path / "shard é.h5"
    with h5py.File(path, "w"):
        pass
    done = subprocess.run([sys.executable, "-c", OPEN, how, inside, path], capture_output=True, check=False, timeout=60)
    words = f"lenet-mp: error: {path}: damaged, the HDF5 library crashed on it; copy it again"
    if signal_of_it:
        assert done.returncode == -signal_of_it
        assert b"lenet-mp: error" not in done.stderr
        assert done.stderr.count(b"Fatal Python error") == (inside == "later")
    else:
        assert done.returncode == 3
        assert done.stderr.decode().startswith(words)
        assert done.stderr.count(b"\n") == 1


@needs_mpi
@pytest.mark.parametrize("rank", [0, 2])
def test_all_ranks_leave_where_hdf5_crashes(place, rank):
    """Whichever rank it crashes on says so, and all end with that code."""
    crashing = """
import ctypes, os, sys
from lenet_mp import train
from lenet_mp.data import shard_file
if os.environ["RANK_THAT_CRASHES"] == (os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK")):
    shard_file.checked_dataset = lambda *_: ctypes.string_at(8)
sys.exit(train.main(sys.argv[1:]))
"""
    arguments = small_data.options(place, place / "run", epochs=1)
    done = programs.run("-c", crashing, *arguments, ranks=3, RANK_THAT_CRASHES=rank)
    assert done.returncode == 3, done.stderr
    who = f"[rank {rank}] " if rank else ""
    first, then, *more = done.stderr.splitlines()
    assert first.startswith(f"{who}lenet-mp train: error: {place / 'data' / '0.h5'}: damaged, the HDF5")
    assert then == f"[rank {rank}] left with exit code 3 in the opening of the data set: all ranks end"
    assert not more


TRAIN = """
import os, sys
from pathlib import Path
from lenet_mp import train
from lenet_mp.parallel import comm
from lenet_mp.plan import Plan

data, epoch_steps, calls = Path(sys.argv[1]), 5, []
real = Plan.step
rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"

def step(self, *arguments, **options):
    calls.append(1)
    # In the second epoch, when the images of the step are mapped; by the rank that has the number, on its own copy.
    if len(calls) == epoch_steps + 3 and os.environ.get("CUT_BY", "0") == rank:
        for shard in data.glob("[0-9].h5"):
            os.truncate(shard, 4096)
    return real(self, *arguments, **options)

Plan.step = step
sys.exit(train.main(["--data", str(data), *sys.argv[2:]]))
"""


@pytest.fixture
def place(tmp_path):
    small_data.write_shards(tmp_path / "data")
    small_data.write_model(tmp_path / "small.toml")
    return tmp_path


def cut_while_training(place, **options):
    arguments = ["--model", place / "small.toml", "--batch-size", 40, "--lr", "0.002", "--epochs", 3]
    arguments += ["--progress", "off", "--out", place / "run"]
    return programs.run("-c", TRAIN, place / "data", *arguments, **options)


def assert_told_and_nothing_lost(place, done, rank=""):
    assert done.returncode == 3, done.stderr
    assert f"{rank}lenet-mp train: error: {place / 'data'}" in done.stderr
    assert ": was cut short while in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Bus error" not in done.stderr
    kept = checkpoint.load(place / "run" / "last.ckpt")
    assert (kept.epoch, kept.step) == (1, 0)
    small_data.write_shards(place / "data")
    resumed = programs.train("--resume", place / "run", "--progress", "off")
    assert resumed.returncode == 0, resumed.stderr


def test_a_shard_cut_short_in_mid_epoch(place):
    """Training ends with the file's name and code 3; its checkpoint is whole, and from it the run goes on."""
    assert_told_and_nothing_lost(place, cut_while_training(place))


@needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_leave(place, rank):
    """Under MPI whichever rank touches the hole says so, and all end with that code."""
    done = cut_while_training(place, ranks=3, CUT_BY=rank)
    assert_told_and_nothing_lost(place, done)
