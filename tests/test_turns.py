"""Ranks that share a core: who shares with whom, the order of their turns, the sum through them, the bell."""

import ast
import os
import re
import threading

import programs
import pytest
import small_data

from lenet_mp.parallel import bell
from lenet_mp.parallel.bell import Bell
from lenet_mp.parallel.turns import share_cores
from lenet_mp.training import checkpoint

DRIVER = """
import sys, time
import numpy as np
from mpi4py import MPI
from lenet_mp.parallel.turns import Turns

columns, strict, silent = eval(sys.argv[1]), sys.argv[2] == "strict", sys.argv[3] == "silent"
world = MPI.COMM_WORLD
rank = world.rank
column = next(column for column in columns if rank in column)
turns = Turns(MPI, world, column, strict=strict)
if silent:
    turns.bell.ring = lambda name: None
began = []
for step in range(6):
    if step == 3:  # an allreduce that no turn comes before, of another size and shape
        halves = np.full((5, 2), 1 << rank)
        turns.allreduce(halves)
        assert (halves == (1 << world.size) - 1).all()
    turns.wait()
    totals = np.arange(70_000) + 1_000_000 * step + (rank << 40)
    started = time.monotonic()
    time.sleep(0.005)
    ended = time.monotonic()
    mine = totals.copy()
    turns.allreduce(totals)
    expected = sum(np.arange(70_000) + 1_000_000 * step + (other << 40) for other in range(world.size))
    assert (totals == expected).all(), step
    times = world.allgather((started, ended))
    if strict:
        for before, after in zip(column, column[1:]):
            assert times[before][1] <= times[after][0], step
assert (turns.asleep > 0) == (len(column) > 1)
assert turns.length == len(column)
print("good", flush=True)
"""


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([{0, 1}] * 4, {0: [0, 2], 1: [1, 3]}),
        ([{0, 1}] * 3, {0: [0, 2], 1: [1]}),
        ([{0}, {0}, {1}, {1}], {0: [0, 1], 1: [2, 3]}),
        ([{5}, {3, 5}, {3, 5}, {5}], {3: [1, 2], 5: [0, 3]}),
        ([{0, 1, 2, 3}], {0: [0]}),
        ([{2}] * 3, {2: [0, 1, 2]}),
        ([{0, 1}, {0}, {0}], {0: [1, 2], 1: [0]}),  # who has no choice comes first
    ],
)
def test_every_rank_gets_a_core_of_its_mask_and_none_has_many_more(masks, expected):
    assert share_cores(masks) == expected


@programs.needs_mpi
@pytest.mark.parametrize("sound", ["ringing", "silent"])
@pytest.mark.parametrize(
    ("columns", "order"),
    [("[[0, 2], [1, 3]]", "strict"), ("[[0, 1, 2]]", "strict"), ("[[0, 2, 4], [1], [3]]", "any"), ("[[0]]", "strict")],
)
def test_sum_goes_through_the_last_on_every_core(tmp_path, columns, order, sound):
    """All ranks get the exact sum, one after the other on a core, also where no bell can be heard."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    ranks = columns.count(",") + 1
    done = programs.run(script, columns, order, sound, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("good") == ranks  # their lines may run into each other


def test_bell_wakes_a_sleeper_that_would_sleep_for_long(monkeypatch):
    monkeypatch.setattr(bell, "SHORTEST_NAP", programs.TIME_LIMIT)
    mine, other = Bell(), Bell()
    things = []

    def act():
        things.append(None)
        other.ring(mine.name)

    timer = threading.Timer(0.05, act)
    timer.start()
    assert mine.sleep_until(lambda: bool(things), longest=programs.TIME_LIMIT) < programs.TIME_LIMIT / 2
    timer.join()


@pytest.mark.parametrize("deaf", [True, False])
def test_sleeper_looks_without_being_woken_too(deaf):
    """A ring that is lost, and a machine without sockets, only cost time; nor does a stray ring end the sleep."""
    mine, things = Bell(), []
    if deaf:
        mine.name = b""
    mine.ring(b"")
    Bell().ring(mine.name)
    timer = threading.Timer(0.05, things.append, [None])
    timer.start()
    mine.sleep_until(lambda: bool(things), longest=0.01)
    assert things
    timer.join()


def test_ringing_a_bell_that_is_gone_is_no_error():
    Bell().ring(b"\0lenet_mp no such bell")


CROWDED = """
import os, signal, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
cores = os.sched_getaffinity(0)
from lenet_mp import plan
from lenet_mp.train import main
rank = int(os.environ.get("PMIX_RANK") or os.environ["PMI_RANK"])
real, steps = plan.Plan.step, []

def step(*arguments, **options):
    steps.append(1)
    if rank == {rank} and len(steps) == 2:
        {failure}
    return real(*arguments, **options)

plan.Plan.step = step
code = main(sys.argv[1:])
assert os.sched_getaffinity(0) == cores
raise SystemExit(code)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with data, a model, and the weights of a run in one process."""
    return programs.trained_place(tmp_path_factory.mktemp("turns"))


def train_crowded(place, tmp_path, ranks, *options, cores=1, rank=-1, failure="pass"):
    """Train on ranks that share so few cores; return the finished process."""
    script = tmp_path / "crowded.py"
    script.write_text(CROWDED.format(cores=cores, rank=rank, failure=failure))
    return programs.run(script, *small_data.options(place, tmp_path / "run", *options, epochs=1), ranks=ranks)


@programs.needs_mpi
@pytest.mark.parametrize(("ranks", "cores"), [(2, 1), (4, 1), (3, 2), (4, 2), (5, 2)])
def test_the_same_weights_where_ranks_share_cores(place, tmp_path, ranks, cores):
    """In turns, where all cores have as many ranks, and as the system divides the cores, where not."""
    done = train_crowded(place, tmp_path, ranks, cores=cores)
    assert done.returncode == 0, done.stderr
    ours, alone = (checkpoint.load(folder / "last.ckpt") for folder in (tmp_path / "run", place / "run"))
    assert all(ours.arrays[name].tobytes() == array.tobytes() for name, array in alone.arrays.items())


@programs.needs_mpi
@pytest.mark.parametrize(
    ("ranks", "threads", "expected"),
    [
        (4, 1, [[0], [1], [0], [1]]),
        (2, 1, [[0, 1]] * 2),  # a core for each
        (3, 1, [[0, 1]] * 3),  # no turns: the system divides two cores by three better
        (4, 2, [[0, 1]] * 4),  # threads that want both cores
    ],
)
def test_rank_stays_on_the_core_whose_turns_it_takes(place, tmp_path, ranks, threads, expected):
    """And may run on all of its cores where there are no turns, or where it has threads for more than one."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        pytest.skip("one core")
    script = tmp_path / "crowded.py"
    failure = (
        "from lenet_mp.data import pixels\n"
        "        mask = lambda: sorted(os.sched_getaffinity(0))\n"
        "        masks = mask(), pixels._BACKGROUND.submit(mask).result()\n"
        f"        open({str(tmp_path)!r} + f'/{{rank}}', 'w').write(repr(masks))"
    )
    script.write_text(CROWDED.format(cores=2, rank="rank", failure=failure))
    options = small_data.options(place, tmp_path / "run", epochs=1)
    done = programs.run(script, *options, ranks=ranks, OMP_NUM_THREADS=threads)
    assert done.returncode == 0, done.stderr
    found = [ast.literal_eval((tmp_path / str(rank)).read_text()) for rank in range(ranks)]
    # What reads ahead in the background may run on any of them.
    assert found == [([cores[core] for core in some], cores) for some in expected]


@programs.needs_mpi
@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [
        ("raise RuntimeError('planted')", 1, "[rank {}] fails in epoch 1, step 2 of 4: all ranks end"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "[rank {}] was killed by SIGKILL"),
    ],
)
def test_a_rank_that_fails_while_others_sleep_for_their_turn_ends_the_job(
    place, tmp_path, rank, failure, code, text
):  # fmt: skip
    """Whether it is the first, the last or one between: those that sleep for it end as well."""
    done = train_crowded(place, tmp_path, 4, rank=rank, failure=failure)
    assert done.returncode == code, done.stderr
    assert text.format(rank) in done.stderr


@programs.needs_mpi
@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_that_is_stopped_in_its_turn_is_named(place, tmp_path, rank):
    """Those that sleep for their turn, or for its sums, are not taken for the one that hangs."""
    stop = "os.kill(os.getpid(), signal.SIGSTOP)"
    done = train_crowded(place, tmp_path, 4, "--timeout", "10s", rank=rank, failure=stop)
    assert done.returncode == 75, done.stderr
    assert f"rank {rank} does not answer: it is stopped" in done.stderr
    assert not re.search(r"^  rank \d is in", done.stderr, re.MULTILINE)
