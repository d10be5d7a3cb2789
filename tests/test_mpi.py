"""Runs under mpirun: the same weights as alone, and an end for all when one rank fails."""

import os
import time

import numpy as np
import programs
import pytest
import small_data
from programs import needs_mpi

from lenet_mp import checkpoint
from lenet_mp.comm import Solo, connect
from lenet_mp.train import main

pytestmark = needs_mpi


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with data, a model, and the weights of a run in one process."""
    folder = tmp_path_factory.mktemp("mpi")
    # Ten shards for three ranks; the last step of an epoch is short.
    small_data.write_shards(folder / "data", counts=(20, 21, 22, 19, 20, 20, 20, 7, 20, 20))
    small_data.write_model(folder / "small.toml")
    assert main([*options(folder), "--out", str(folder / "alone")]) == 0
    return folder


def options(place):
    names = {"--model": place / "small.toml", "--data": place / "data", "--batch-size": 80, "--lr": "0.002"}
    return [str(a) for pair in (names | {"--epochs": 2, "--progress": "off"}).items() for a in pair]


@pytest.mark.parametrize(("ranks", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 1), (8, 1)])
def test_the_same_weights_on_any_number_of_ranks(place, tmp_path, ranks, threads):
    """Weights, momentum and figures are bit for bit those of one process."""
    done = programs.train(*options(place), "--out", tmp_path / "run", ranks=ranks, OMP_NUM_THREADS=threads)
    assert done.returncode == 0, done.stderr
    alone, ours = (checkpoint.load(run / "last.ckpt") for run in (place / "alone", tmp_path / "run"))
    for name, array in alone.arrays.items():
        assert ours.arrays[name].tobytes() == array.tobytes()
    for key in ("loss", "train_top1", "val_top1", "val_top5"):
        assert [row[key] for row in ours.history] == [row[key] for row in alone.history]
    assert done.stdout.count("model small:") == 1
    assert f"{ranks} rank" in done.stdout


def test_threads_are_the_cores_shared_out(place, tmp_path):
    """Without OMP_NUM_THREADS each of two ranks takes half of the cores, at least one."""
    done = programs.train(*options(place), "--out", tmp_path / "run", ranks=2)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"2 ranks x {share} thread" in done.stdout


FAILING = """
import sys, time
from lenet_mp import comm, trainer
world = comm.connect()
step = trainer.Trainer._work
def work(self, stop):
    if self.comm.rank == {rank} and self.step == 1:
        open({file!r}, "w").close()
        {failure}
    return step(self, stop)
trainer.Trainer._work = work
from lenet_mp.train import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("rank", "failure", "code", "text"),
    [
        (1, "raise RuntimeError('planted')", 1, "[rank 1] fails in the update of epoch 1, step 1 of 3"),
        (0, "raise RuntimeError('planted')", 1, "RuntimeError: planted"),
        (2, "raise MemoryError", 1, "[rank 2] fails in"),
        (1, "sys.exit(7)", 7, "[rank 1] exits with 7 in"),
        (1, "import threading; threading.Thread(target=lambda: 1 / 0).start()", 1, "ZeroDivisionError"),
        (1, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, ""),
    ],
)
def test_one_failing_rank_ends_the_job(place, tmp_path, rank, failure, code, text):
    """A rank that raises, exits or is killed ends all ranks within two seconds, with its traceback and code."""
    script, failed_at = tmp_path / "fail.py", tmp_path / "failed"
    script.write_text(FAILING.format(rank=rank, file=str(failed_at), failure=failure))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=3)
    elapsed = time.time() - failed_at.stat().st_mtime
    assert done.returncode == code or (code is None and done.returncode != 0)
    assert text in done.stderr
    assert elapsed < 2


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "rank 1 does not answer"),
        ("time.sleep(1000)", "rank 1 is in the update of epoch 1, step 1 of 3"),
        ("while True: pass", "rank 1 is in the update of epoch 1, step 1 of 3"),
        ("import ctypes; ctypes.PyDLL(None).sleep(1000)", "rank 1 does not answer"),
    ],
    ids=["stopped", "sleeping", "looping", "holding the GIL"],
)
def test_one_hanging_rank_ends_the_job(place, tmp_path, failure, text):
    """A rank that hangs, even outside of Python, ends the job with 75 a second after the time-out, and is named."""
    script, failed_at = tmp_path / "hang.py", tmp_path / "failed"
    script.write_text(FAILING.format(rank=1, file=str(failed_at), failure=failure))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", "--timeout", "3s", ranks=3)
    elapsed = time.time() - failed_at.stat().st_mtime
    assert done.returncode == 75
    assert text in done.stderr
    assert 2.5 < elapsed < 3 + 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_flipped_weight_is_found(place, tmp_path, rank):
    """With --check-ranks a weight that differs on one rank is found, and the array named."""
    script = tmp_path / "flip.py"
    flip = "self.parameters.view('u4')[5] ^= 1 << 30"
    script.write_text(FAILING.format(rank=rank, file=str(tmp_path / "failed"), failure=flip))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", "--check-ranks", "1", ranks=2)
    assert done.returncode == 75
    assert "rank 1 holds other weights than rank 0, in C1.weight" in done.stderr


def test_ranks_at_different_steps_are_found(place, tmp_path):
    """A rank that skips a step is found at the next sum, on all ranks, before anything is saved."""
    script = tmp_path / "skip.py"
    script.write_text(FAILING.format(rank=1, file=str(tmp_path / "failed"), failure="self.step += 1"))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=2)
    assert done.returncode == 75
    assert "not at the same step" in done.stderr
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_mistake_that_all_ranks_make_is_told_once(place, tmp_path):
    """Missing data is one line, not one a rank."""
    done = programs.train(*options(place), "--data", "nowhere", "--out", tmp_path / "run", ranks=3)
    assert done.returncode == 3
    assert done.stderr.count("nowhere: no such folder") == 1


def test_ranks_with_other_data_are_named(place, tmp_path):
    """A rank whose copy of the data differs is named before the first step."""
    small_data.write_shards(tmp_path / "other", counts=(20, 21, 22, 19, 20, 20, 20, 7, 20, 19))
    script = tmp_path / "differ.py"
    script.write_text(
        "import sys\nfrom mpi4py import MPI\nfrom lenet_mp.train import main\n"
        f"other = {str(tmp_path / 'other')!r} if MPI.COMM_WORLD.rank == 1 else {str(place / 'data')!r}\n"
        "raise SystemExit(main([*sys.argv[1:], '--data', other]))\n"
    )
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=2)
    assert done.returncode == 75
    assert "rank 1 runs another job than rank 0: data is" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_foreign_launcher_is_told():
    """Under a launcher whose processes the MPI library does not join, the remedy is told instead of N lone runs."""
    done = programs.run("-c", "from lenet_mp import comm; comm.connect()", SLURM_STEP_NUM_TASKS=2)
    assert "launcher started 2 processes, but each is rank 0 of 1" in done.stderr


def test_alone_needs_no_mpi(monkeypatch):
    """Without a launcher's variables the communicator is of one process and mpi4py stays out."""
    for name in list(os.environ):
        if name.startswith(("PMI", "OMPI", "MPI_", "SLURM")):
            monkeypatch.delenv(name)
    assert isinstance(connect(), Solo)
    done = programs.run("-c", "import sys, lenet_mp.train as t; t.comm.connect(); print('mpi4py' in sys.modules)")
    assert done.stdout == "False\n"


def test_solo_answers_like_one_rank():
    """The communicator of one process leaves sums and values as they are."""
    comm, totals = Solo(), np.arange(3)
    comm.allreduce(totals)
    assert totals.tolist() == [0, 1, 2]
    assert comm.gather("x") == [comm.broadcast("x")] == ["x"]
    comm.rest()
    assert programs.run("-c", "from lenet_mp.comm import Solo; Solo().abort(3)").returncode == 3
