"""What is said and done for a rank that cannot say or do it any more."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
import small_data
from programs import needs_mpi

from lenet_mp.parallel.launch import OPEN_MPI, find_launcher

pytestmark = needs_mpi
LIMIT = 60

WORKING = """
import os, subprocess, sys, time
from lenet_mp.parallel import last_words
from lenet_mp.parallel.comm import connect
world = connect()
with last_words.ending_together(world, "work"):
    world.rest()
    world.enter("the work")
    if world.rank == {rank}:
        {failure}
    world.rest()
"""
H5PY = """
import importlib, os, sys, time
if "1" in (os.environ.get("PMI_RANK"), os.environ.get("PMIX_RANK")):
    {failure}
sys.path.remove({folder!r})
del sys.modules["h5py"]
import h5py
"""
"""In front of the real one, on the path of ranks: the first heavy import of ``lenet_mp.train``."""


def work(failure, *, rank=1, ranks=3):
    """Run ranks of which one fails in ``the work``; return the finished job."""
    return programs.run("-c", WORKING.format(rank=rank, failure=failure), ranks=ranks)


@pytest.mark.parametrize(
    ("failure", "code", "how"),
    [
        ("os.kill(os.getpid(), 9)", 137, "was killed by SIGKILL (by hand, by a batch system, or for want of memory)"),
        ("os.abort()", 134, "was killed by SIGABRT"),
        ("os._exit(3)", 3, "left with exit code 3"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_is_named_with_phase_and_reason(rank, failure, code, how):
    """The job ends with the rank's own code; no other rank is said to have failed."""
    done = work(failure, rank=rank)
    assert done.returncode == code
    assert f"[rank {rank}] {how} in the work: all ranks end" in done.stderr
    assert done.stderr.count("all ranks end") == 1


@pytest.mark.parametrize(("failure", "how"), [("os._exit(0)", "left with exit code 0"), ("sys.exit()", "exits with")])
def test_a_rank_that_leaves_too_early_with_0_does_not_make_a_success(failure, how):
    """Work that was not done ends with another code than 0, whatever the rank that left says."""
    done = work(failure)
    assert done.returncode != 0
    assert f"[rank 1] {how}" in done.stderr


def test_a_rank_whose_connection_outlives_it_ends_the_job():
    """The launcher may fetch a rank's exit code while its connection is still open, and take it for a good end."""
    child = "subprocess.Popen(['sleep', '5'], close_fds=False, stdin=-3, stdout=-3, stderr=-3)"
    done = work(f"{child}; os._exit(3)")
    assert done.returncode == 3
    assert "[rank 1] left with exit code 3 in the work" in done.stderr


def train(tmp_path, failure, **variables):
    """Run ``python -m lenet_mp.train`` on two ranks, one of which fails in an import."""
    (tmp_path / "h5py.py").write_text(H5PY.format(failure=failure, folder=str(tmp_path)))
    return programs.train("--data", "nowhere", ranks=2, PYTHONPATH=tmp_path, **variables)


def test_a_rank_that_fails_in_an_import_ends_the_job(tmp_path):
    """Before MPI has begun too, where the others would wait for it in MPI_Init for ever."""
    done = train(tmp_path, "raise ImportError('planted')")
    assert done.returncode == 1
    assert "ImportError: planted" in done.stderr
    assert "[rank 1] left with exit code 1 in start-up: all ranks end" in done.stderr


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("os.kill(os.getpid(), 19)", "[rank 1] nothing finished in 8 s: this rank is in start-up"),
        ("os._exit(0)", "[rank 0] nothing finished in 8 s: this rank is in the wait for all ranks to start"),
    ],
    ids=["stopped", "gone"],
)
def test_a_rank_that_never_starts_ends_the_job(tmp_path, failure, words):
    """What hangs before MPI has begun is ended by the guardians: no thread of a rank that waits for MPI can run."""
    done = train(tmp_path, failure, LENET_MP_START_TIMEOUT=8)
    # Open MPI does not let anybody but a rank choose the code.
    assert done.returncode == (137 if find_launcher().family == OPEN_MPI else 75)
    assert words in done.stderr


def test_nothing_is_said_of_ranks_that_end_well():
    """A command that all ranks end, with or without having called MPI_Init, leaves stderr empty."""
    for command in ("train", "summary"):
        done = programs.run("-m", "lenet_mp", command, "--help", ranks=2)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: lenet-mp {command}")


def children(pid):
    """Return the processes below ``pid``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(") ")[2].split()[1]) == pid:
                found += [int(folder.name), *children(int(folder.name))]
    return found


def command_line(pid):
    """Return the arguments of a process, empty while it is being started and after its end."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def running(pid):
    """Whether a process is there and no zombie, whom an init that does not wait may leave for ever."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def wait_until(holds):
    """Look again and again until ``holds`` returns something true; return that, or what was last returned."""
    deadline = time.monotonic() + LIMIT
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_no_guardian_outlives_a_job_whose_launcher_is_killed(tmp_path):
    """When the launcher is killed, ranks and guardians go."""
    small_data.write_shards(tmp_path / "data")
    small_data.write_model(tmp_path / "small.toml")
    options = ["--data", tmp_path / "data", "--model", tmp_path / "small.toml", "--out", tmp_path / "run"]
    command = [programs.MPIRUN, "-n", "2", sys.executable, "-m", "lenet_mp.train", *options, "--epochs", "100000"]
    with subprocess.Popen(
        [*command, "--batch-size", "80", "--lr", "1e-9", "--progress", "off"], env=programs.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as job:  # fmt: skip
        assert wait_until((tmp_path / "run" / "last.ckpt").exists)
        processes = children(job.pid)
        guardians = [pid for pid in processes if "guardian_process" in command_line(pid)]
        used = [sum(map(float, Path(f"/proc/{pid}/stat").read_text().split()[13:15])) for pid in guardians]
        job.kill()
    assert len(guardians) == 2
    assert max(used) / os.sysconf("SC_CLK_TCK") < 0.5  # its own start; it sleeps since
    assert wait_until(lambda: not any(map(running, processes)))
