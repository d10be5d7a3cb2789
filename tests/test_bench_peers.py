"""The comparison with PyTorch: its arithmetic, and its conversation with the other process, here a stand-in."""

from __future__ import annotations

import importlib
import stat
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_peers.py"


@pytest.fixture
def bench_peers(monkeypatch):
    """Return the script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("bench_peers")


def test_ratio_is_taken_in_each_round_against_the_best_variant(bench_peers):
    """The best variant is the one with the highest median, even if another was faster once."""
    best, ratios = bench_peers.summarise([100, 90, 110], {"a": [10, 10, 10], "b": [30, 9, 9]})
    assert best == "a"
    assert ratios == [9, 10, 11]


def test_the_last_column_compares_with_the_best_at_any_batch_size(bench_peers):
    """A network's rate is set against PyTorch's best for it, whichever batch size that was at; not for another's."""
    results = [bench_peers.Result(name, batch, 800.0, 0.5, peer, "eager", [2.0])
               for name, batch, peer in (("1", 500, 100.0), ("1", 50, 200.0), ("2", 500, 400.0))]
    assert [bench_peers.to_row(result, results)[-1] for result in results] == ["4.0 x", "4.0 x", "2.0 x"]


def test_case_names_model_size_and_batch(bench_peers):
    """MODEL/SIZE:BATCH gives the compiled network and the batch size."""
    network, batch = bench_peers.read_case("lenet5/28:64")
    assert (network.input_shape, batch) == ((28, 28, 1), 64)
    assert bench_peers.read_case("1:50")[0].input_shape == (250, 250, 3)


def test_whole_run_with_a_stand_in(bench_peers, tmp_path, capsys):
    """A run asks the peer once a round and variant and writes a table with one row a case."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    print(json.dumps('9.9' if 'threads' in request else 10.0), flush=True)\n"
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    out = tmp_path / "peers.md"
    arguments = ["lenet5:16", "--peer-python", str(python), "--rounds", "2", "--seconds", "0.1", "--threads", "1"]
    assert bench_peers.main([*arguments, "-o", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert "PyTorch 9.9" in lines[0]
    assert lines[4].startswith("| lenet5 | 16 | ")
    assert " | 10 | eager | " in lines[4]
    assert capsys.readouterr().out == out.read_text()


def test_python_without_torch_is_explained(bench_peers):
    """Where the other process ends at once, one line says what to check."""
    with pytest.raises(SystemExit, match="does --peer-python have torch"):
        bench_peers.main(["lenet5:16", "--peer-python", "/bin/true", "--threads", "1"])
