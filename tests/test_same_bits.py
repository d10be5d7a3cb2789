"""The script that compares weights bit for bit, in its small form."""

import importlib
from pathlib import Path

import programs
import pytest
from programs import needs_mpi

SCRIPT = Path(__file__).parents[1] / "scripts" / "same_bits.py"


@pytest.fixture
def same_bits(monkeypatch):
    """Return the script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("same_bits")


@needs_mpi
def test_the_same_bits_on_any_ranks_threads_and_instruction_sets(tmp_path):
    """The small table (MPI ranks, threads, instruction sets, a resumed run, few shards) holds one hash a group."""
    done = programs.run(SCRIPT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    *table, last = done.stdout.splitlines()[1:]
    assert last.endswith(f"{len(table)} runs: the same bits")
    hashes = {line[:20]: set() for line in table}
    for line in table:
        hashes[line[:20]].add(line.split()[-1])
    assert [len(found) for found in hashes.values()] == [1, 1]


def test_a_difference_is_shown_and_counted(same_bits, capsys):
    """A run whose hash differs from its group's first is marked; other groups have hashes of their own."""
    jobs = [same_bits.Job("a"), same_bits.Job("a", ranks=2), same_bits.Job("b"), same_bits.Job("a", ranks=3)]

    class Runner:
        def digest(self, job):
            return "odd" if job.ranks == 2 else job.group

    assert same_bits.compare(jobs, Runner()) == 1
    marked = [line for line in capsys.readouterr().out.splitlines() if "DIFFERS" in line]
    assert len(marked) == 1
    assert "2 x 1" in marked[0]


def test_the_full_table_covers_what_is_promised(same_bits):
    """Full size: six numbers of ranks by three of threads under every MPI, and resumed runs."""
    table = same_bits.jobs("full", ["MPICH", "Open MPI"])
    for mpi in ("MPICH", "Open MPI"):
        plain = {(j.ranks, j.threads) for j in table if j.mpi == mpi and j.group == same_bits.MAIN and not j.before}
        assert plain == {(ranks, threads) for ranks in (1, 2, 3, 4, 5, 8) for threads in (1, 2, 3)}
        assert sum(bool(j.before) for j in table if j.mpi == mpi) == 3
    assert all(any(j.group == group for j in table) for group in same_bits.GROUPS)
