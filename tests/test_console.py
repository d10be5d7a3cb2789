"""What a run shows: the right kind of progress for where it is shown, and lines that tell all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import programs
import pytest
import small_data

from lenet_mp import progress
from lenet_mp.training.console import Console, epoch_line

ROW = {"epoch": 2, "loss": 1.25, "train_top1": 0.5, "train_top5": 0.875, "val_loss": 1.5, "val_top1": 0.4,
       "val_top5": 0.8, "lr": 5e-5, "seconds": 4.0, "images_per_second": 12345.6}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def console(mode, *, launched=False):
    return Console(mode, launched=launched, epochs=4, samples=1000)


def test_an_epoch_line_tells_all():
    """Loss and accuracies of training and validation, rate, speed and time are there."""
    figures = "loss 1.2500 val 1.5000  top-1 50.0% val 40.0%  top-5 87.5% val 80.0%"
    assert epoch_line(ROW, 4) == f"epoch 2/4  {figures}  lr 5e-05  12,346 images/s  4.0 s"


def test_an_epoch_line_without_held_out_data():
    """Without validation, and without a speed where nothing was worked, the rest is told."""
    nothing = {"val_loss": None, "val_top1": None, "val_top5": None, "images_per_second": None}
    assert epoch_line(ROW | nothing, 4) == "epoch 2/4  loss 1.2500  top-1 50.0%  top-5 87.5%  lr 5e-05  4.0 s"


def test_time_left_and_time_in_all(capsys):
    """While epochs are left the line ends in their time, after the last one in the whole time; all on stdout."""
    console("off").epoch(ROW, 8.0)
    console("off").epoch(ROW | {"epoch": 4}, 75.0)
    shown = capsys.readouterr()
    assert [line.rpartition("  ")[2] for line in shown.out.splitlines()] == ["eta 8.0 s", "in all 1 min 15 s"]
    assert shown.err == ""


def test_lines_come_every_ten_seconds(clock, capsys):
    """Plain lines say how far the epoch is, the loss, the speed and the time left; results stay alone on stdout."""
    shown = console("lines")
    for done in (100, 200, 300):
        shown.advance(1, done, 2.5)
        clock.now += 6
    shown.epoch(ROW, 0)
    printed = capsys.readouterr()
    assert printed.err == "epoch 1/4: 300 of 1,000 images, loss 2.500, 17/s, 42.0 s left\n"
    assert printed.out.count("\n") == 1


def test_a_bar_is_taken_away_before_a_line(capsys):
    """A bar ends blank, so that the results above it are whole lines; while accuracies are measured it says so."""
    shown = console("bar")
    shown.advance(1, 100, 2.5)
    shown.advance(1, 600, 2.25)
    shown.evaluating()
    shown.say("a line")
    printed = capsys.readouterr()
    assert "epoch 1/4" in printed.err
    assert "600/1000" in printed.err
    assert "evaluating" in printed.err
    assert printed.err.rpartition("\r")[0].endswith(" ")
    assert printed.out == "a line\n"


@pytest.mark.parametrize(
    ("on_terminal", "launched", "bar"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_auto_is_a_bar_on_a_terminal_without_a_launcher(monkeypatch, capsys, on_terminal, launched, bar):
    """A launcher may hold a bar back until its line ends; a file is no place for one."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal)
    shown = console("auto", launched=launched)
    shown.advance(1, 100, 2.5)
    assert ("100/1000" in capsys.readouterr().err) == bar


def test_off_shows_nothing(capsys):
    """Without progress nothing comes between the results."""
    shown = console("off")
    shown.advance(1, 100, 2.5)
    shown.evaluating()
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    small_data.write_shards(folder / "data")
    small_data.write_model(folder / "small.toml")
    return folder


def command(place, out, *more):
    options = ["--model", place / "small.toml", "--data", place / "data", "--batch-size", "60", "--out", out]
    return [sys.executable, "-m", "lenet_mp.train", *map(str, (*options, *more))]


def test_a_run_on_a_terminal(place, tmp_path):
    """On a terminal a bar runs and goes, first lines and epoch lines stay, each on a line of its own."""
    master, slave = programs.terminal()
    with subprocess.Popen(
        command(place, tmp_path / "run", "--epochs", "2"), stdout=slave, stderr=slave, env=programs.environment()
    ) as process:
        os.close(slave)
        text = programs.read_terminal(master)
    os.close(master)
    assert process.returncode == 0
    assert "epoch 1/2:" in text
    assert "images/s" in text
    # What stays of a line is what stands behind the last return to its beginning.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    assert lines[0].startswith("model small: ")
    assert [line[:10] for line in lines if line.startswith("epoch")] == ["epoch 1/2 ", "epoch 2/2 "]
    assert any(line.startswith("test (best weights): top-1 ") for line in lines)
    first = " ".join(lines[:8])
    for words in ("parameters", "187 training images", "1 rank x ", "batch size 60 over all ranks", "4 steps an epoch",
                  "seed 0", f"run folder {tmp_path / 'run'}"):  # fmt: skip
        assert words in first


def test_a_run_into_a_pipe(place, tmp_path):
    """Into a pipe go whole lines and no control character, as into the log file."""
    done = subprocess.run(
        command(place, tmp_path / "run", "--epochs", "2"), capture_output=True, text=True, env=programs.environment(),
        timeout=programs.TIME_LIMIT, check=True,
    )  # fmt: skip
    assert "\r" not in done.stdout + done.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", done.stdout + done.stderr)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "epoch 2/2  loss " in log
    assert re.search(r"epoch 2/2 .* in all [\d.]+ s\n", done.stdout)


def test_ctrl_c_is_answered_at_once(place, tmp_path):
    """The first Ctrl-C on a terminal is answered before the step is done; then comes how to go on."""
    master, slave = programs.terminal()
    out = tmp_path / "run"
    with subprocess.Popen(
        command(place, out, "--epochs", "3000", "--lr", "1e-5"), stdout=slave, stderr=slave,
        env=programs.environment(),
    ) as process:  # fmt: skip
        os.close(slave)
        shown = b""
        while b"epoch 2/3000  " not in shown:
            shown += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        text = programs.read_terminal(master)
    os.close(master)
    assert process.returncode == 130
    assert text.index("finishing the step, then saving") < text.index(f"go on with: --resume {out}")
