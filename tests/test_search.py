"""``lenet-mp find-lr`` and ``tune``, and the arithmetic behind them."""

from __future__ import annotations

import csv
import math
import tomllib
from typing import ClassVar

import numpy as np
import programs
import pytest
import small_data
from PIL import Image

from lenet_mp import find_lr, train, tune
from lenet_mp.errors import UsageError
from lenet_mp.parallel.comm import Solo
from lenet_mp.training import checkpoint
from lenet_mp.training.config import Config
from lenet_mp.tuning import range_test, search


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a small data set and model."""
    folder = tmp_path_factory.mktemp("search")
    small_data.write_shards(folder / "data")
    small_data.write_model(folder / "small.toml")
    return folder


def common(place, *more):
    return ["--model", str(place / "small.toml"), "--data", str(place / "data"), "--batch-size", "32", *map(str, more)]


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_rates_rise_evenly():
    """Each rate is the same multiple of the one before; the ends are those asked for."""
    series = range_test.rates(1e-5, 10, 61)
    assert (series[0], series[-1]) == (1e-5, 10)
    np.testing.assert_allclose(np.diff(np.log10(series)), 0.1, rtol=1e-6)


def test_smoothing_keeps_a_level_and_forgives_an_explosion():
    """A constant stays what it is; a last loss of a million counts as four times the first."""
    assert range_test.smoothed([2.0] * 20) == pytest.approx([2.0] * 20)
    assert max(range_test.smoothed([2.0] * 20 + [1e6])) < 8
    assert range_test.smoothed([]) == []


def test_the_suggestion_lies_between_the_steepest_and_the_lowest_point():
    """On a curve that falls around 1e-3 and turns at 1e-1, the rate half-way is found; on a flat one, none."""
    series = range_test.rates(1e-5, 10, 100)
    logs = np.log10(series)
    turning = 2.3 - 1.5 / (1 + np.exp(-4 * (logs + 3))) + 2 * np.maximum(logs + 1, 0)
    steepest, lowest = np.log10(range_test.landmarks(series, turning.tolist()))
    assert steepest == pytest.approx(-3, abs=0.1)
    # Smoothing rounds the turn off, within three of its deviations.
    assert -1 - 3 * range_test.SPREAD * 6 / 99 < lowest < -1
    middle = math.log10(range_test.suggestion(series, turning.tolist()))
    assert middle == pytest.approx((steepest + lowest) / 2, abs=0.02)
    assert range_test.suggestion(series, [2.3] * 100) is None
    assert range_test.suggestion(series, []) is None


def test_the_losses_are_those_of_training(place):
    """The first step's loss is that of the initial weights on its samples; a diverging rate ends the test early."""
    settings = Config(model=str(place / "small.toml"), data=str(place / "data"), batch_size=32)
    losses = range_test.run(Solo(), settings, range_test.rates(1e-12, 1e-11, 8))
    assert len(losses) == 8  # over the end of the epoch, which has six steps
    from lenet_mp.training.assembly import make_trainer  # noqa: PLC0415
    from lenet_mp.training.recorder import Silent  # noqa: PLC0415

    class First(Silent):
        losses: ClassVar = []

        def step_done(self, trainer):
            self.losses.append(trainer.running.loss)

    make_trainer(Solo(), Config(**vars(settings) | {"lr": "1e-12", "epochs": 1})).fit(First())
    assert First.losses[0] == losses[0]
    assert len(range_test.run(Solo(), settings, [1e-3, 1e29, 1e29, 1e29, 1e29])) < 5


def test_find_lr_writes_table_and_picture(place, tmp_path, capsys):
    """The command prints a rate between the ends, with its rule, and leaves CSV and PNG."""
    out = tmp_path / "range.png"
    assert find_lr.main([*common(place, "--lr-scale", "mean", "--steps", 40), "-o", str(out)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert second.startswith("falls fastest at ")
    assert third == f"rule: {range_test.RULE}"
    rate = float(first.split()[2])
    table = rows(out.with_suffix(".csv"))
    assert float(table[0]["lr"]) == 1e-5 < rate < float(table[-1]["lr"]) <= 10
    Image.open(out).verify()


def test_a_picture_without_a_suffix_is_a_png(place, tmp_path):
    """``--out rates`` writes rates.png beside rates.csv."""
    assert find_lr.main([*common(place, "--steps", 5), "--out", str(tmp_path / "rates")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rates.csv", "rates.png"]
    Image.open(tmp_path / "rates.png").verify()


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [(["--from", "1", "--to", "0.1"], 2, "--from 1 must be below --to 0.1"), (["--from", "0"], 2, "'0' is no rate"),
     (["--data", "nowhere"], 3, "nowhere: no such folder"), (["--lr", "1"], 2, "--lr"),
     (["--out", "lr.csv"], 2, "'lr.csv' is no picture")],
)  # fmt: skip
def test_find_lr_refuses_in_one_line(place, tmp_path, capsys, more, code, complaint):
    """Mistakes are told in one line."""
    assert find_lr.main([*common(place), "-o", str(tmp_path / "x.png"), *more]) == code
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_grid_is_every_combination():
    """Two values of one option and three of another make six trials with different folders."""
    choices = [search.read("lr=0.1,0.01"), search.read("batch-size=16,32,64")]
    found = list(search.grid(choices))
    assert found[:2] == [{"lr": "0.1", "batch_size": 16}, {"lr": "0.1", "batch_size": 32}]
    assert len({search.folder_name(options) for options in found}) == 6
    assert search.folder_name(found[0]) == "lr-0.1_batch-size-16"


def test_draws_repeat_and_stay_inside():
    """The same seed draws the same, a longer search begins with the shorter one, and ranges are kept."""
    choices = [search.read("lr=1e-4..1e-1"), search.read("momentum=0.5..0.9"), search.read("batch_size=16..64")]
    found = list(search.draws(choices, 200, 7))
    assert found[:20] == list(search.draws(choices, 20, 7))
    assert found[0] != next(search.draws(choices, 1, 8))
    logs = np.log10([float(options["lr"]) for options in found])
    assert logs.min() >= -4
    assert logs.max() <= -1
    # Uniform over three decades: the mean of 200 has a deviation of 3 / sqrt(12 * 200) = 0.06.
    assert np.mean(logs) == pytest.approx(-2.5, abs=0.3)
    assert all(0.5 <= options["momentum"] <= 0.9 and 16 <= options["batch_size"] <= 64 for options in found)
    assert len(list(search.draws([search.read("nesterov=true,false")], 10, 0))) == 2


@pytest.mark.parametrize("text", ["lr", "lr=", "speed=1", "data=a,b", "momentum=x", "momentum=2", "lr=0.1..0.01",
                                  "init=a..b", "lr=1..x", "batch_size=1.5"])  # fmt: skip
def test_what_cannot_be_tried_is_refused(text):
    """Unknown options, values that the option cannot have and ranges without numbers are usage errors."""
    with pytest.raises(UsageError):
        search.read(text)


@pytest.fixture(scope="module")
def searched(place):
    """Return the folder of a finished search."""
    out = place / "tune"
    arguments = ["--try", "lr=1e-6,0.002,1e29", "--try", "momentum=0.5,0.9", "--epochs", "2", "--out", str(out)]
    assert tune.main([*common(place), *arguments]) == 0
    return out


def test_tune_ranks_its_trials(searched):
    """The table lists all trials, the best validation accuracy first and the diverged last."""
    table = rows(searched / "trials.csv")
    assert len(table) == 6
    shares = [float(row["val_top1"]) for row in table if row["val_top1"]]
    assert shares == sorted(shares, reverse=True)
    assert [row["state"] for row in table] == ["done"] * 4 + ["diverged"] * 2
    assert table[0]["lr"] == "0.002"
    for row in table[:4]:
        history = checkpoint.load(searched / row["folder"] / "last.ckpt").history
        assert float(row["val_top1"]) == max(epoch["val_top1"] for epoch in history)
    Image.open(searched / "trials.png").verify()


def test_the_best_options_train_again(searched, tmp_path):
    """best.toml is a complete configuration that gives the best trial's weights again."""
    best = rows(searched / "trials.csv")[0]
    assert tomllib.loads((searched / "best.toml").read_text())["lr"] == best["lr"]
    out = tmp_path / "again"
    assert train.main(["--config", str(searched / "best.toml"), "--out", str(out), "--progress", "off"]) == 0
    again, first = (checkpoint.load(run / "last.ckpt") for run in (out, searched / best["folder"]))
    assert again.parameters.tobytes() == first.parameters.tobytes()


def test_tune_skips_what_is_done_and_resumes_what_is_not(place, searched, tmp_path, capsys):
    """Finished trials are not touched, one that was interrupted goes on to the weights of an undisturbed one."""
    out = tmp_path / "tune"
    arguments = [*common(place), "--try", "lr=0.002", "--try", "momentum=0.5,0.9", "--epochs", "2", "--out", str(out)]
    half = out / "lr-0.002_momentum-0.9"
    code = train.main([*common(place), "--lr", "0.002", "--momentum", "0.9", "--epochs", "2", "--out", str(half),
                       "--max-time", "0.001s", "--progress", "off"])  # fmt: skip
    assert code == 143
    assert checkpoint.load(half / "last.ckpt").epoch == 0
    assert tune.main(arguments) == 0
    files = [out / "lr-0.002_momentum-0.5" / "last.ckpt", half / "last.ckpt"]
    for file in files:
        undisturbed = checkpoint.load(searched / file.parent.name / "last.ckpt")
        assert checkpoint.load(file).parameters.tobytes() == undisturbed.parameters.tobytes()
    before = [file.stat().st_mtime_ns for file in files]
    capsys.readouterr()
    assert tune.main(arguments) == 0
    assert capsys.readouterr().err.count("is done") == 2
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [(["--try", "lr=1e-3..1e-1"], 2, "say with --random N"), (["--try", "lr=1", "--try", "lr=2"], 2, "two --try"),
     (["--try", "lr=1e-6", "--try", "momentum=0.5", "--seed", "9"], 2, "was tried with --seed 0, not 9"),
     (["--try", "lr=1e29", "--out", "elsewhere"], 76, "no trial came to the end"), ([], 2, "--try")],
)  # fmt: skip
def test_tune_refuses_in_one_line(place, searched, tmp_path, monkeypatch, capsys, more, code, complaint):
    """Mistakes end with their code and a line that says what to do."""
    monkeypatch.chdir(tmp_path)
    assert tune.main([*common(place, "--epochs", 2), "--out", str(searched), *more]) == code
    assert complaint in capsys.readouterr().err.splitlines()[-1]


@programs.needs_mpi
@pytest.mark.parametrize("command", ["find_lr", "tune"])
def test_several_processes_are_refused_once(place, command):
    """Under mpirun one line says how to start the command, and nothing is written."""
    done = programs.run("-m", f"lenet_mp.{command}", *common(place), "--try", "lr=1", ranks=2)
    if command == "find_lr":
        done = programs.run("-m", "lenet_mp.find_lr", *common(place), ranks=2)
    assert done.returncode == 2
    assert done.stderr.count("start it without mpirun") == 1


def test_augmentations_can_be_tried():
    """Kinds that belong together are joined by a plus: a comma separates the values of a search."""
    choice = search.read("augment=none,flip,flip+crop=8")
    assert choice.values == ("none", "flip", "flip+crop=8")
    for text in choice.values:
        Config(augment=text)
