"""``scripts/seeds.py``: the same training from several seeds, and what comes of them together."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import small_run

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "seeds.py"


def test_mean_and_spread_are_those_of_the_runs(tmp_path):
    """Two seeds give two runs, each its row, and their mean and deviation; a second call only reads what is there."""
    data = small_run.write_data(tmp_path / "data")
    (tmp_path / "small.toml").write_text(small_run.MODEL)
    options = ["--data", data, "--model", tmp_path / "small.toml", "--batch-size", "20", "--epochs", "2"]
    command = [sys.executable, SCRIPT, "--seeds", "2", "--out", tmp_path / "runs", "--", *options, "--lr", "1e-3"]
    shown = [subprocess.run(command, capture_output=True, text=True, check=True, timeout=200) for _ in range(2)]
    assert shown[0].stdout == shown[1].stdout
    assert "epoch 2/2" in shown[0].stderr
    assert shown[1].stderr == ""
    folders = [tmp_path / "runs" / f"seed-{seed}" for seed in (0, 1)]
    assert [tomllib.loads((folder / "config.toml").read_text())["seed"] for folder in folders] == [0, 1]
    shares = [json.loads((folder / "test.json").read_text())["best"]["top1"] for folder in folders]
    _, *rows, last = shown[0].stdout.splitlines()
    assert [row.split()[2] for row in rows] == [f"{share:.2%}" for share in shares]
    assert f"mean {statistics.mean(shares):.2%}, standard deviation {statistics.stdev(shares):.2%}" in last


def test_a_run_that_fails_ends_it(tmp_path):
    """The exit code and the message are those of the training."""
    command = [sys.executable, SCRIPT, "--out", tmp_path / "runs", "--", "--data", tmp_path / "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 3
    assert "nosuch" in done.stderr
