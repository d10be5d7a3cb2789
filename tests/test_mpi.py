"""Runs under mpirun: the same weights as alone, and an end for all when one rank fails."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import programs
import pytest
import small_data
from programs import needs_mpi

from lenet_mp.parallel import mpi_library
from lenet_mp.parallel.comm import Solo, connect
from lenet_mp.train import main
from lenet_mp.training import checkpoint

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


def test_ranks_on_a_terminal_show_whole_lines(place, tmp_path):
    """Rank 0 alone prints, and no bar, which a launcher may hold back; what batch job it was is written down."""
    master, slave = programs.terminal()
    command = [programs.MPIRUN, "-n", "2", sys.executable, "-m", "lenet_mp.train", *options(place)]
    with subprocess.Popen(
        [*command, "--progress", "auto", "--out", tmp_path / "run"], stdin=subprocess.DEVNULL, stdout=slave,
        stderr=slave, env=programs.environment(SLURM_JOB_ID=7),
    ) as process:  # fmt: skip
        os.close(slave)
        text = programs.read_terminal(master)
    os.close(master)
    assert process.returncode == 0
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.startswith("epoch")]
    assert [line[:11] for line in lines] == ["epoch 1/2  ", "epoch 2/2  "]
    assert "\r" not in "".join(lines)
    assert '"SLURM_JOB_ID": "7"' in (tmp_path / "run" / "env.json").read_text()


FAILING = """
import sys, time
from lenet_mp.parallel import comm
from lenet_mp.training import trainer
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
        (1, "import os; os.kill(os.getpid(), 9)", 137, "memory) in the update of epoch 1, step 1 of 3: all ranks end"),
        (1, "import os; os.kill(os.getpid(), 11)", 139, "[rank 1] was killed by SIGSEGV in the update of epoch 1"),
        (1, "import resource; resource.setrlimit(resource.RLIMIT_AS, (1, 1)); bytes(1 << 30)", 1, "[rank 1] fails in"),
    ],
)
def test_one_failing_rank_ends_the_job(place, tmp_path, rank, failure, code, text):
    """A rank that raises, exits, has no memory or is killed ends all ranks within two seconds and leaves none."""
    script, failed_at = tmp_path / "fail.py", tmp_path / "failed"
    script.write_text(FAILING.format(rank=rank, file=str(failed_at), failure=failure))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=3)
    elapsed = time.time() - failed_at.stat().st_mtime
    assert done.returncode == code
    assert text in done.stderr
    assert elapsed < 2
    assert not processes_of(script)


def processes_of(script):
    """Return the command lines of processes that run ``script`` and are not gone within two seconds."""
    deadline = time.monotonic() + 2
    while True:
        lines = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                lines.append((folder / "cmdline").read_text())
        lines = [line for line in lines if str(script) in line]
        if not lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.05)


@pytest.mark.parametrize("phase", ["evaluate", "checkpoint"])
def test_a_rank_that_fails_outside_of_steps_ends_the_job(place, tmp_path, phase):
    """A failure in validation, or in saving, ends all ranks too, and the checkpoint before it is whole."""
    rank = 1 if phase == "evaluate" else 0
    script = tmp_path / "fail.py"
    script.write_text(
        "import sys\nfrom lenet_mp.training import trainer\nfrom lenet_mp.train import main\n"
        f"real = trainer.Trainer.{phase}\n"
        "def failing(self, *arguments):\n"
        f"    if self.comm.rank == {rank} and self.epoch == 1: raise RuntimeError('planted')\n"
        "    return real(self, *arguments)\n"
        f"trainer.Trainer.{phase} = failing\nraise SystemExit(main(sys.argv[1:]))\n"
    )
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=3)
    assert done.returncode == 1
    assert "RuntimeError: planted" in done.stderr
    saved = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert (saved.epoch, saved.step) == ((1, 3) if phase == "evaluate" else (0, 3))
    assert not processes_of(script)


def test_no_rank_leaves_before_a_stop_is_saved(place, tmp_path):
    """Where rank 0 takes its time to write, the others wait: launchers end a job with the first rank that exits."""
    script, left = tmp_path / "stop.py", tmp_path / "left"
    script.write_text(
        "import os, sys, time, signal\nfrom lenet_mp.training import recorder\nfrom lenet_mp.train import main\n"
        "real = recorder.RunRecorder.stopped\n"
        "def stopped(self, trainer):\n"
        f"    time.sleep(1)\n    assert not os.path.exists({str(left)!r})\n    real(self, trainer)\n"
        "recorder.RunRecorder.stopped = stopped\n"
        f"try: code = main([*sys.argv[1:], '--max-time', '0.000001'])\nfinally: open({str(left)!r}, 'w').close()\n"
        "raise SystemExit(code)\n"
    )
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=3)
    assert done.returncode == 143, done.stderr
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").step == 1


def test_a_rank_that_cannot_even_speak_ends_the_job(place, tmp_path):
    """When a failing rank's message cannot be written, the job ends all the same."""
    script = tmp_path / "fail.py"
    failure = "sys.stderr = open('/dev/full', 'w'); raise RuntimeError('planted')"
    script.write_text(FAILING.format(rank=1, file=str(tmp_path / "failed"), failure=failure))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=2)
    elapsed = time.time() - (tmp_path / "failed").stat().st_mtime
    assert done.returncode == 1
    assert elapsed < 2


def test_the_watchdog_does_not_depend_on_mpi(place, tmp_path):
    """When the roll call itself hangs, the hung job ends all the same."""
    script, failed_at = tmp_path / "hang.py", tmp_path / "failed"
    hang = "from lenet_mp.parallel import comm\ncomm.Mpi.roll_call = lambda *_: time.sleep(1000)\n"
    script.write_text("import time\n" + hang + FAILING.format(rank=1, file=str(failed_at), failure="time.sleep(1000)"))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", "--timeout", "2s", ranks=2)
    assert done.returncode == 75
    assert time.time() - failed_at.stat().st_mtime < 2 + 1.5


def test_slow_ranks_that_wait_are_not_accused(place, tmp_path):
    """With steps much longer than the roll call, only the rank that hangs is named."""
    script = tmp_path / "hang.py"
    slow = (
        "import time\nfrom lenet_mp import plan\nreal = plan.Plan.step\n"
        "def slowly(*a, **k): time.sleep(0.7); return real(*a, **k)\nplan.Plan.step = slowly\n"
    )
    script.write_text(slow + FAILING.format(rank=1, file=str(tmp_path / "failed"), failure="time.sleep(1000)"))
    done = programs.run(script, *options(place), "--out", tmp_path / "run", "--timeout", "1s", ranks=3)
    assert done.returncode == 75
    assert "[rank 1] nothing finished in" in done.stderr
    assert "this rank is in the update of epoch 1, step 1 of 3" in done.stderr
    assert "does not answer" not in done.stderr


@pytest.mark.parametrize("option", ["check-ranks", "seed"])
def test_ranks_that_differ_in_an_option_are_named(place, tmp_path, option):
    """Options are compared before the first step, and named before what follows from them, such as other weights."""
    script = tmp_path / "differ.py"
    script.write_text(
        "import sys\nfrom mpi4py import MPI\nfrom lenet_mp.train import main\n"
        f"raise SystemExit(main([*sys.argv[1:], '--{option}', str(1 + MPI.COMM_WORLD.rank)]))\n"
    )
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=2)
    assert done.returncode == 75
    assert f"rank 1 runs another job than rank 0: option {option.replace('-', '_')} is 2, not 1" in done.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_bound_ranks_use_their_own_core(place, tmp_path):
    """Ranks that a launcher binds to a core each know that together they have two, and do not crowd."""
    script = tmp_path / "bound.py"
    script.write_text(
        "import os, sys\nfrom mpi4py import MPI\n"
        "os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[MPI.COMM_WORLD.rank]])\n"
        "from lenet_mp.train import main\nraise SystemExit(main(sys.argv[1:]))\n"
    )
    done = programs.run(script, *options(place), "--out", tmp_path / "run", ranks=2)
    assert "2 ranks x 1 thread on 2 cores" in done.stdout
    assert "share" not in done.stdout


def test_more_ranks_than_cores_or_streams_are_told(place, tmp_path):
    """Oversubscription and ranks without work are told in the first lines."""
    done = programs.train(*options(place), "--streams", "2", "--out", tmp_path / "run", ranks=3, OMP_NUM_THREADS=9)
    assert "note: 3 ranks x 9 share" in done.stdout
    assert "note: 1 ranks have no work: there are only 2 --streams" in done.stdout


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


@pytest.mark.parametrize(("rank", "state", "name", "steps"), [
    (0, "parameters", "C1.weight", 1), (1, "parameters", "C1.weight", 99),
    (1, "velocity", "the momentum of C1.weight", 1),
])  # fmt: skip
def test_a_flipped_bit_is_found(place, tmp_path, rank, state, name, steps):
    """With --check-ranks, weights or momentum that differ on a rank are found, at the end of an epoch at the latest."""
    script = tmp_path / "flip.py"
    flip = f"self.{state}.view('u4')[5] ^= {1 << 30 if state == 'parameters' else 1 << 8}"
    script.write_text(FAILING.format(rank=rank, file=str(tmp_path / "failed"), failure=flip))
    more = ("--out", tmp_path / "run", "--check-ranks", steps, "--lr", "1e-7")
    done = programs.run(script, *options(place), *more, ranks=2)
    assert done.returncode == 75
    assert f"rank 1 holds other weights than rank 0, in {name}" in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


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
    done = programs.run("-c", "from lenet_mp.parallel import comm; comm.connect()", SLURM_STEP_NUM_TASKS=2)
    assert "launcher started 2 processes, but each is rank 0 of 1" in done.stderr


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("MPICH Version:      5.0.2\nMPICH configure:    --with-device=ch4:ucx,ofi --with-pm=hydra:gforker\n", False),
        ("MPICH Version:      4.2.0\nMPICH configure:    --with-pmix=/usr --with-device=ch4:ofi\n", True),
        ("Open MPI v5.0.11, package: Open MPI root@x Distribution, ident: 5.0.11, repo rev: v5.0.11\0", True),
        ("Intel(R) MPI Library 2021.18 for Linux* OS\n", True),
        ("MPI VERSION    : CRAY MPICH version 8.1.28.15 (ANL base 3.4a2)\n", True),
    ],
)
def test_libraries_that_a_pmix_launcher_can_start(version, expected):
    """MPICH, where it was built without PMIx, would end the process with a page of its own instead of the remedy."""
    assert mpi_library.understands_pmix(version) == expected


def test_a_launcher_that_the_library_does_not_understand_is_told_before_mpi_begins():
    """Open MPI's mpirun, or srun --mpi=pmix, with an MPICH that ends the process in MPI_Init."""
    program = (
        "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; "
        "MPI.Get_library_version = lambda: 'MPICH Version: 5.0\\nMPICH configure: --with-pm=hydra'; "
        "from lenet_mp.train import main; raise SystemExit(main([]))"
    )
    done = programs.run("-c", program, PMIX_RANK=1, OMPI_COMM_WORLD_SIZE=2)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "lenet-mp train: error: the launcher speaks PMIx, which the library in use (MPICH 5.0) does not: it belongs"
    )


def test_one_process_in_a_batch_job_needs_no_mpi():
    """A shell of a batch system that started one process is no launcher to insist on MPI."""
    hidden = "import sys; sys.modules['mpi4py'] = None; from lenet_mp.parallel import comm; print(comm.connect().size)"
    assert programs.run("-c", hidden, SLURM_STEP_NUM_TASKS=1).stdout == "1\n"
    assert "finds no MPI library" in programs.run("-c", hidden, SLURM_STEP_NUM_TASKS=2).stderr


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
    assert programs.run("-c", "from lenet_mp.parallel.comm import Solo; Solo().abort(3)").returncode == 3
