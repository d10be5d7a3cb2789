"""The measurement of what safety costs: its arithmetic, and that both kinds of run train."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_safety.py"


@pytest.fixture(scope="module")
def bench_safety():
    spec = importlib.util.spec_from_file_location("bench_safety", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_share_is_taken_in_each_round(bench_safety):
    """A round that was slow as a whole does not count as a cost."""
    figures = bench_safety.summarise([1.0, 20.4, 1.1], [1.0, 20.0, 1.0])
    assert figures["added"] == pytest.approx(0.02)
    assert (figures["lowest"], figures["highest"]) == (0, pytest.approx(0.1))


def test_a_whole_measurement(bench_safety, capsys):
    """Both kinds of run end well, and the figure is printed."""
    model = ["--model", "lenet5", "--size", "32"]
    assert bench_safety.main(["--images", "90", "--epochs", "1", "--rounds", "1", "--ranks", "1", *model]) == 0
    assert "90 images, model lenet5, 1 ranks: an epoch takes " in capsys.readouterr().out
