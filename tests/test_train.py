"""Whole training runs: results, files, resuming, refusals."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import programs
import pytest
import small_data
from PIL import Image

from lenet_mp import files
from lenet_mp.errors import OutputError, UsageError
from lenet_mp.files import make_folder
from lenet_mp.locks import folder_lock
from lenet_mp.prepare import main as prepare
from lenet_mp.train import main
from lenet_mp.training import checkpoint, checkpoint_document, stopping
from lenet_mp.training.config import Config
from lenet_mp.training.stopping import seconds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a small data set and model."""
    return small_data.write_place(tmp_path_factory.mktemp("train"))


options = partial(small_data.options, epochs=4)


def rows(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def without_time(history):
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in history]


@pytest.fixture(scope="module")
def reference(place):
    """Return the folder of a finished run in this process."""
    assert main(options(place, place / "reference")) == 0
    return place / "reference"


def test_a_run_learns(reference):
    """The small task is learned: every sample of all three splits is right at the end, and the loss falls."""
    history = rows(reference)
    losses = [float(row["loss"]) for row in history]
    assert losses == sorted(losses, reverse=True)
    assert history[-1]["train_top1"] == history[-1]["val_top1"] == "1.0"
    assert json.loads((reference / "test.json").read_text())["last"] == pytest.approx(
        {"samples": 30, "loss": 0.0, "top1": 1.0, "top5": 1.0}, abs=0.1
    )


def test_the_run_folder_is_complete(reference):
    """A run leaves options, environment, metrics, log, curves, feature maps, checkpoints and the test result."""
    names = {p.name for p in reference.iterdir()} - {".lock"}
    checkpoints = {"last.ckpt", "previous.ckpt", "best.ckpt"}
    results = {"config.toml", "env.json", "metrics.csv", "log.txt", "curves.png", "profile.json", "test.json"}
    results |= {"report.html"}
    assert names == checkpoints | results | {"features"}
    assert sorted(p.name for p in (reference / "features").iterdir()) == ["epoch-01", "epoch-04"]
    maps = {p.stem for p in (reference / "features" / "epoch-04").iterdir()}
    assert {"C1", "S1", "C2"} <= maps
    assert [row["epoch"] for row in rows(reference)] == ["1", "2", "3", "4"]
    assert tuple(rows(reference)[0]) == checkpoint_document.METRICS
    Image.open(reference / "curves.png").verify()


def test_the_reported_accuracy_is_that_of_the_saved_weights(place, reference):
    """Training accuracy and validation figures of the last row are those of the weights in last.ckpt."""
    from lenet_mp.data.shards import open_dataset  # noqa: PLC0415
    from lenet_mp.networks.normalization import scale_and_offset  # noqa: PLC0415
    from lenet_mp.parallel import comm  # noqa: PLC0415
    from lenet_mp.plan import Plan  # noqa: PLC0415
    from lenet_mp.training import evaluation  # noqa: PLC0415

    saved = checkpoint.load(reference / "last.ckpt")
    scale, offset = scale_and_offset(saved.normalize)
    plan = Plan(saved.network.layers, scale=scale, offset=offset, threads=1)
    data = open_dataset(place / "data")
    train = evaluation.evaluate(plan, saved.parameters, data.train, comm.Solo())
    validation = evaluation.evaluate(plan, saved.parameters, [data.validation], comm.Solo())
    assert (train.samples, validation.samples) == (187, 45)
    assert saved.history[-1]["train_top1"] == train.top1
    assert saved.history[-1]["val_top1"] == validation.top1
    logits = evaluation.logits(plan, saved.parameters, data.validation)
    assert validation.top1 == np.mean(logits.argmax(1) == data.validation.labels)


def test_resuming_equals_never_having_stopped(place, reference, tmp_path):
    """Two epochs, then a resume to four, gives the weights, momentum and metrics of four in one go."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", 2)) == 0
    assert main(["--resume", str(out), "--epochs", "4", "--progress", "off"]) == 0
    ours, theirs = (checkpoint.load(run / "last.ckpt") for run in (out, reference))
    for name, array in theirs.arrays.items():
        assert ours.arrays[name].tobytes() == array.tobytes()
    assert without_time(rows(out)) == without_time(rows(reference))
    assert json.loads((out / "test.json").read_text()) == json.loads((reference / "test.json").read_text())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_saves_and_a_resume_goes_on_in_mid_epoch(place, tmp_path, number, code):
    """A signal ends the run after a step with its exit code; resumed, it ends at the bits of an undisturbed run."""
    long = ["--epochs", "3000", "--batch-size", "16", "--lr", "1e-5", "--train-accuracy", "running"]
    out = tmp_path / "run"
    command = [sys.executable, "-m", "lenet_mp.train", *options(place, out, *long)]
    with subprocess.Popen(command, env=programs.environment(), stdout=subprocess.PIPE, text=True) as process:
        while "epoch 2/" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.05)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == code
    assert f"--resume {out}" in output
    saved = checkpoint.load(out / "last.ckpt")
    until = str(saved.epoch + 1)
    # The saved run has 3,000 epochs; end it with the unfinished one. The options are compared, epochs are free.
    assert main(["--resume", str(out), "--epochs", until, "--progress", "off"]) == 0
    assert main(options(place, tmp_path / "whole", *long, "--epochs", until)) == 0
    resumed, whole = (checkpoint.load(tmp_path / name / "last.ckpt") for name in ("run", "whole"))
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert without_time(resumed.history) == without_time(whole.history)


RECIPES = {
    "modern": "--recipe modern --batch-size 32 --lr 0.05 --epochs 4",
    "plateau": "--schedule plateau --lr 0.1 --lr-scale mean --patience 3 --nesterov --clip-norm 0.5 --warmup 1.5 "
    "--batch-size 32 --epochs 30 --label-smoothing 0.1 --class-weights balanced",
    "step": "--schedule step --lr 0.002 --lr-scale sqrt --warmup 0.3 --weight-decay 0.01 --momentum 0.5 "
    "--batch-size 48 --epochs 4 --class-weights 1,2,3,4",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resumes_to_the_same_bits(place, tmp_path, recipe):
    """Whatever decides rate, update, loss and end of a run, stops and resumes end at the weights of one go."""
    chosen = RECIPES[recipe].split()
    assert main(options(place, tmp_path / "whole", *chosen)) == 0
    out = tmp_path / "parts"
    code, stops = main(options(place, out, *chosen, "--max-time", "0.001s")), 1
    while code == 143:
        code, stops = main(["--resume", str(out), "--max-time", f"{0.03 * stops}s", "--progress", "off"]), stops + 1
    assert code == 0
    assert stops > 2
    parts, whole = (checkpoint.load(run / "last.ckpt") for run in (out, tmp_path / "whole"))
    for name, array in whole.arrays.items():
        assert parts.arrays[name].tobytes() == array.tobytes()
    assert without_time(parts.history) == without_time(whole.history)
    if recipe == "plateau":
        assert len({row["lr"] for row in whole.history[2:]}) > 1
        assert len(whole.history) < 30  # patience ran out
    else:
        assert len(whole.history) == 4


def test_a_run_whose_patience_ran_out_stays_ended(place, tmp_path):
    """Resumed, a run that stopped early does not train on."""
    stuck = ["--lr", "1e-12", "--patience", "1", "--epochs", "50"]
    assert main(options(place, tmp_path / "run", *stuck)) == 0
    ended = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert main(["--resume", str(tmp_path / "run"), "--progress", "off"]) == 0
    again = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert (again.epoch, again.history) == (2, ended.history)


def test_profile_shows_where_the_time_went(place, tmp_path, capsys):
    """--profile prints the share of every phase; the shares of the whole add up to one."""
    assert main(options(place, tmp_path / "run", "--profile")) == 0
    printed = capsys.readouterr().out.partition("time on this rank:")[2]
    for phase in ("load", "forward", "backward", "reduction", "allreduce", "update", "evaluation"):
        assert phase in printed
    shares = json.loads((tmp_path / "run" / "profile.json").read_text())["shares"]
    inner = shares.pop("arranging pixels, in both of these")
    assert sum(shares.values()) == pytest.approx(1)
    assert 0 < inner < shares["forward"] + shares["backward"]


def test_data_that_changes_is_noticed(place, tmp_path, capsys):
    """A shard that is replaced while a run uses the folder ends it with 3 before the next epoch."""
    shutil.copytree(place / "data", tmp_path / "data")
    assert main(options(place, tmp_path / "run", "--data", tmp_path / "data", "--epochs", "1")) == 0
    shard = tmp_path / "data" / "0.h5"

    def touch(*_arguments, **_options):
        shard.write_bytes(shard.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lenet_mp.results.plots.draw_curves", touch)
        assert main(options(place, tmp_path / "other", "--data", tmp_path / "data")) == 3
    assert "0.h5" in capsys.readouterr().err


def test_verify_data(tmp_path, place, capsys):
    """--verify-data passes over good shards, says how long it took, and names a shard with one flipped bit."""
    small_data.write_images(tmp_path / "images", 20)
    data = tmp_path / "data"
    assert prepare(["--folder", str(tmp_path / "images"), "--out", str(data), "--size", "20", "--workers", "1"]) == 0
    arguments = options(place, tmp_path / "run", "--data", data, "--verify-data", "--epochs", "1")
    assert main(arguments) == 0
    assert "files have the SHA-256 of the manifest (" in capsys.readouterr().out
    damaged = bytearray((data / "0.h5").read_bytes())
    damaged[len(damaged) // 2] ^= 1  # a pixel: nothing else in the file would tell
    (data / "0.h5").write_bytes(damaged)
    assert main(options(place, tmp_path / "again", "--data", data, "--verify-data", "--epochs", "1")) == 3
    assert "0.h5: SHA-256 is" in capsys.readouterr().err
    assert main(options(place, tmp_path / "none", "--verify-data")) == 2


def test_going_on_in_another_folder_takes_the_best_weights_along(reference, tmp_path):
    """A run that goes on elsewhere knows the best weights so far, even where nothing better comes."""
    source = str(reference / "last.ckpt")
    assert main(["--resume", source, "--out", str(tmp_path / "same"), "--progress", "off"]) == 0
    assert json.loads((tmp_path / "same" / "test.json").read_text())["best"]["top1"] == 1
    assert (tmp_path / "same" / "best.ckpt").read_bytes() == (reference / "best.ckpt").read_bytes()
    assert len(rows(reference)) == 4


def test_a_run_stopped_after_an_epochs_last_step(place, tmp_path):
    """Where nothing is left to work in an epoch, it is closed on resume, without a speed, to the same weights."""
    out = tmp_path / "run"
    command = [*options(place, out, "--epochs", "1")]

    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\nfrom lenet_mp.training import trainer\nfrom lenet_mp.train import main\n"
        "trainer.Trainer.evaluate = lambda *_: os._exit(9)\nmain(sys.argv[1:])\n"
    )
    assert programs.run(script, *command).returncode == 9
    saved = checkpoint.load(out / "last.ckpt")
    assert (saved.epoch, saved.step) == (0, 4)
    assert main(["--resume", str(out), "--progress", "off"]) == 0
    assert rows(out)[0]["images_per_second"] == ""
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    resumed, whole = (checkpoint.load(tmp_path / name / "last.ckpt") for name in ("run", "whole"))
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


@pytest.mark.parametrize("drawn", [0, 2])
def test_feature_maps_are_drawn_though_the_run_was_killed_before(place, reference, tmp_path, drawn):
    """Killed after an epoch's checkpoint, while its maps are drawn, a run draws them all when it goes on."""
    out = tmp_path / "run"
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\nfrom lenet_mp.results import mosaics\nfrom lenet_mp.train import main\n"
        f"real, drawn = mosaics.draw_maps, []\n"
        f"def draw(*a, **k): drawn.append(1) if len(drawn) < {drawn} else os._exit(9); real(*a, **k)\n"
        "mosaics.draw_maps = draw\nmain(sys.argv[1:])\n"
    )
    assert programs.run(script, *options(place, out)).returncode == 9
    assert checkpoint.load(out / "last.ckpt").epoch == 1
    (out / "features" / "epoch-01" / ".C2.1.tmp.png").touch()  # as a kill between two system calls leaves it
    assert main(["--resume", str(out), "--progress", "off"]) == 0
    pictures = {p.relative_to(reference): p.read_bytes() for p in reference.rglob("*.png")}
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*.png")} == pictures
    assert len(pictures) == 9


def test_metrics_hold_no_row_of_lost_work(place, tmp_path):
    """Going on from a checkpoint cuts metrics.csv back to its epochs at once, before the next epoch is finished."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "2")) == 0
    (out / "last.ckpt").unlink()
    (out / "previous.ckpt").rename(out / "last.ckpt")  # before the end of epoch 2
    assert [row["epoch"] for row in rows(out)] == ["1", "2"]
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\nfrom lenet_mp.training import trainer\nfrom lenet_mp.train import main\n"
        "trainer.Trainer.evaluate = lambda *_: os._exit(9)\nmain(sys.argv[1:])\n"
    )
    assert programs.run(script, "--resume", out, "--progress", "off").returncode == 9
    assert [row["epoch"] for row in rows(out)] == ["1"]


def test_losses_that_do_not_fit_are_refused(place, tmp_path, capsys):
    """Losses whose sum would overflow end the run as diverged, instead of being reported wrong."""
    from lenet_mp.networks.network import Network  # noqa: PLC0415

    draw = Network.initialise

    def biased(self, *arguments):
        flat = draw(self, *arguments)
        self.views(flat)["F3.bias"][0] = 1e5
        return flat

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "initialise", biased)
        assert main(options(place, tmp_path / "run", "--batch-size", "187")) == 76
    assert "set a lower --lr" in capsys.readouterr().err


def test_a_suspended_run_is_not_taken_for_a_hung_one(place, tmp_path):
    """A run that is stopped for longer than its time-out, and continued, goes on."""
    command = options(place, tmp_path / "run", "--epochs", "100000", "--timeout", "6s", "--train-accuracy", "running")
    arguments = [sys.executable, "-m", "lenet_mp.train", *command]
    with subprocess.Popen(arguments, env=programs.environment(), stdout=subprocess.PIPE, text=True) as process:
        while "epoch 1/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGSTOP)
        time.sleep(7)
        process.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_signal_in_a_step_ends_the_run_with_that_step(place, tmp_path):
    """What arrives while the engine computes is known before the ranks are asked whether to stop."""
    script = tmp_path / "asked.py"
    script.write_text(
        "import os, signal, sys\nfrom lenet_mp import plan\nfrom lenet_mp.train import main\n"
        "real, steps = plan.Plan.step, []\n"
        "def step(*a, **k):\n    steps.append(1)\n"
        "    if len(steps) == 2: os.kill(os.getpid(), signal.SIGTERM)\n    return real(*a, **k)\n"
        "plan.Plan.step = step\nraise SystemExit(main(sys.argv[1:]))\n"
    )
    done = programs.run(script, *options(place, tmp_path / "run"))
    assert done.returncode == 143
    saved = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert (saved.epoch, saved.step) == (0, 2)


def test_a_second_signal_ends_at_once(place, tmp_path):
    """The first signal finishes the step; the second does not wait for it, even where that would be for ever."""
    script = tmp_path / "stuck.py"
    script.write_text(
        "import ctypes, sys\nfrom lenet_mp import plan\nfrom lenet_mp.train import main\n"
        "lock = ctypes.CDLL(None).pthread_mutex_lock\n"
        "def stuck(*_, **__):\n    print('step', flush=True)\n"
        "    mutex = ctypes.create_string_buffer(64)\n    lock(mutex), lock(mutex)  # no signal ends this\n"
        "plan.Plan.step = stuck\nraise SystemExit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, str(script), *options(place, tmp_path / "run")]
    with subprocess.Popen(command, env=programs.environment(), stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "step\n":
            assert process.poll() is None
        deadline = time.monotonic() + programs.TIME_LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        process.kill()
    assert process.returncode == 143


def test_a_repetition_within_a_second_is_the_same_signal(monkeypatch):
    """A launcher and a batch system may both pass it on; what comes later is meant to end the run at once."""
    now, codes = [100.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.os, "_exit", codes.append)
    stop = stopping.StopRequest()
    for later, expected in ((0.0, []), (0.9, []), (0.05, []), (0.1, [130])):
        now[0] += later
        stop._hear(signal.SIGINT)
        assert codes == expected


def test_an_infinite_loss_is_null_in_json():
    """JSON has no infinity."""
    from lenet_mp.training.evaluation import Scores  # noqa: PLC0415

    assert Scores(3, float("inf"), 0.5, 1.0).as_dict() == {"samples": 3, "loss": None, "top1": 0.5, "top5": 1.0}


def test_patience_ends_a_run_early(place, tmp_path, capsys):
    """A run whose validation accuracy stays where it is ends, tested and with feature maps, before its last epoch."""
    stuck = ["--lr", "1e-12", "--patience", "2", "--epochs", "50"]
    assert main(options(place, tmp_path / "run", *stuck)) == 0
    assert len(rows(tmp_path / "run")) == 3
    assert "test (last weights)" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "run" / "features").iterdir()) == ["epoch-01", "epoch-03"]


def test_a_run_saves_within_an_epoch(place, tmp_path):
    """Killed without warning, a run goes on from a checkpoint inside the epoch, to the bits of an undisturbed run."""
    long = ["--epochs", "3000", "--batch-size", "2", "--lr", "1e-5", "--train-accuracy", "running"]
    out = tmp_path / "run"
    command = [sys.executable, "-m", "lenet_mp.train", *options(place, out, *long, "--save-every", "0.001s")]
    with subprocess.Popen(command, env=programs.environment(), stdout=subprocess.PIPE, text=True) as process:
        while "epoch 1/" not in process.stdout.readline():
            assert process.poll() is None
        while not (out / "last.ckpt").exists() or checkpoint.load(out / "last.ckpt").step < 5:
            assert process.poll() is None
        process.kill()
    saved = checkpoint.load(out / "last.ckpt")
    until = str(saved.epoch + 1)
    assert main(["--resume", str(out), "--epochs", until, "--progress", "off"]) == 0
    assert main(options(place, tmp_path / "whole", *long, "--epochs", until)) == 0
    resumed, whole = (checkpoint.load(tmp_path / name / "last.ckpt") for name in ("run", "whole"))
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_max_time_saves_and_stops(place, tmp_path, capsys):
    """When its time is over a run saves, says how to go on and ends with 143."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "100000", "--max-time", "0.2s")) == 143
    assert f"--resume {out}" in capsys.readouterr().out
    assert checkpoint.load(out / "last.ckpt").epoch < 100000


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("1.5s", 1.5), ("55m", 3300), ("1h30m", 5400), ("2d", 172800)]
)
def test_times_are_read(text, expected):
    """Times are written as people do in batch scripts."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "x", "-1", "5w", "1h x"])
def test_bad_times_are_refused(text):
    """Anything else is a usage error that shows the forms."""
    with pytest.raises(UsageError, match="write 90s, 55m"):
        seconds(text)


def test_a_hanging_single_process_is_ended(place, tmp_path):
    """The watchdog ends a lone process too, and shows where it hangs."""
    script = tmp_path / "hang.py"
    script.write_text(
        "import sys, time\nfrom lenet_mp.training import trainer\nfrom lenet_mp.train import main\n"
        "trainer.Trainer._work = lambda *_: time.sleep(1000)\nraise SystemExit(main(sys.argv[1:]))\n"
    )
    done = programs.run(script, *options(place, tmp_path / "run", "--timeout", "1s"))
    assert done.returncode == 75
    assert "nothing finished in 1 s" in done.stderr
    assert "hang.py" in done.stderr


def test_resume_finds_the_newest_run(place, tmp_path, monkeypatch, capsys):
    """Runs without --out get folders of their own; --resume alone goes on with the newest, 'auto' starts if none."""
    monkeypatch.chdir(tmp_path)
    arguments = options(place, "x", "--epochs", "1")
    place_of_out = arguments.index("--out")
    del arguments[place_of_out : place_of_out + 2]
    assert main(["--resume", "--progress", "off"]) == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert main([*arguments, "--resume", "auto"]) == 0
    assert main(arguments) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["model-small-1", "model-small-2"]
    assert main(["--resume", "--epochs", "2", "--progress", "off"]) == 0
    assert [len(rows(tmp_path / "runs" / f"model-small-{i}")) for i in (1, 2)] == [1, 2]


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [
        (["--epochs", "0"], 2, "--epochs must be from 1"),
        (["--epochs", "x"], 2, "invalid int value: 'x'"),
        (["--model", "9"], 2, "unknown model '9'"),
        (["--model", "1"], 2, "smallest image that works is 34 x 34"),
        (["--data", "nowhere"], 3, "nowhere: no such folder"),
        (["--learning-rate", "3"], 2, "unrecognized arguments: --learning-rate"),
        (["--config", "none.toml"], 2, "cannot read none.toml"),
        (["--feature-image", "none.jpg"], 3, "none.jpg"),
        (["--lr", "1e29"], 76, "in epoch 1, step 2 of 4: set a lower --lr, or look at its images: rows 16-31 of "),
        (["--lr", "1e39"], 2, "cannot read learning rate"),
        (["--check-ranks", "-1"], 2, "--check-ranks"),
        (["--resume", ""], 2, "--resume"),
        (["--resume", "nowhere"], 4, "nowhere does not exist"),
        (["--out", "/proc/x"], 74, "cannot write /proc/x"),
    ],
)
def test_bad_requests_are_one_line_and_an_exit_code(place, tmp_path, capsys, more, code, complaint):
    """Every mistake is told in one line on stderr, with the exit code of its kind, and writes no checkpoint."""
    assert main(options(place, tmp_path / "run", *more)) == code
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_existing_run_is_never_overwritten(place, reference, capsys):
    """A folder that holds a run is refused, and stays as it is."""
    before = (reference / "last.ckpt").read_bytes()
    assert main(options(place, reference)) == 2
    assert "exists already" in capsys.readouterr().err
    assert (reference / "last.ckpt").read_bytes() == before


def test_two_runs_in_one_folder(place, tmp_path, capsys):
    """While a run holds its folder another one is told who does; a resume of it as well."""
    assert main(options(place, tmp_path / "run", "--epochs", "1")) == 0
    with folder_lock(tmp_path / "run"):
        assert main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 2
        assert f"in use by process {os.getpid()} on" in capsys.readouterr().err
    with folder_lock(make_folder(tmp_path / "new")):
        assert main(options(place, tmp_path / "new")) == 2
        assert "in use by process" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(place, reference, tmp_path, capsys):
    """When last.ckpt is damaged a resume says so and takes the previous one, to the same result."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "3")) == 0
    (out / "last.ckpt").write_bytes((out / "last.ckpt").read_bytes()[:-1])
    assert main(["--resume", str(out), "--epochs", "4", "--progress", "off"]) == 0
    assert "last.ckpt is damaged" in capsys.readouterr().err
    ours, theirs = (checkpoint.load(run / "last.ckpt") for run in (out, reference))
    assert ours.parameters.tobytes() == theirs.parameters.tobytes()
    for name in ("last.ckpt", "previous.ckpt"):
        (out / name).write_bytes(b"")
    assert main(["--resume", str(out), "--epochs", "5"]) == 4


def test_resuming_with_other_options_or_data_is_refused(reference, tmp_path, capsys):
    """A resume that would be another run is refused, with the option or the data named."""
    assert main(["--resume", str(reference), "--seed", "5", "--epochs", "9"]) == 2
    assert "--seed 5 does not fit the saved run" in capsys.readouterr().err
    small_data.write_shards(tmp_path / "other", counts=(50, 50, 50, 36))
    assert main(["--resume", str(reference), "--data", str(tmp_path / "other"), "--epochs", "9"]) == 4
    assert "other data" in capsys.readouterr().err


def test_the_config_file_repeats_a_run_and_the_command_line_wins(reference, tmp_path):
    """A run's config.toml makes the same run again; options beside it change it."""
    config = str(reference / "config.toml")
    assert main(["--config", config, "--out", str(tmp_path / "a"), "--progress", "off"]) == 0
    again, first = (checkpoint.load(run / "last.ckpt") for run in (tmp_path / "a", reference))
    assert again.parameters.tobytes() == first.parameters.tobytes()
    assert main(["--config", config, "--epochs", "1", "--out", str(tmp_path / "b"), "--progress", "off"]) == 0
    assert Config(**checkpoint.load(tmp_path / "b" / "last.ckpt").config).epochs == 1


def test_a_picture_that_fails_does_not_stop_training(place, tmp_path, monkeypatch, capsys):
    """When curves cannot be drawn the run goes on, says so, and ends with 0."""

    def fail(*_arguments, **_options):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("lenet_mp.results.plots.draw_curves", fail)
    assert main(options(place, tmp_path / "run", "--epochs", "1")) == 0
    assert "warning: no curves this time (RuntimeError: no fonts)" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.ckpt").is_file()


def test_a_disk_without_room_for_a_picture_does_not_stop_training(place, tmp_path, monkeypatch, capsys):
    """Where neither the curves nor the line about it in log.txt can be written, the run goes on and ends with 0."""
    real, full = files.write_atomically, OutputError("cannot write it: No space left on device; free some space")

    def write(path, data):
        if path.suffix == ".png":
            raise full
        real(path, data)

    def append(_, text):
        if "warning" in text:
            raise full

    monkeypatch.setattr(files, "write_atomically", write)
    monkeypatch.setattr(files, "append", append)
    assert main(options(place, tmp_path / "run", "--epochs", "1")) == 0
    captured = capsys.readouterr()
    assert "warning: no curves this time (OutputError: cannot write it: No space left" in captured.err
    assert "drawings failed" in captured.out
    assert (tmp_path / "run" / "last.ckpt").is_file()


def test_training_without_held_out_data(place, tmp_path):
    """Without data.h5 a run trains; best is by training loss, and the columns of validation are empty."""
    small_data.write_shards(tmp_path / "data")
    (tmp_path / "data" / "data.h5").unlink()
    assert main(options(place, tmp_path / "run", "--data", tmp_path / "data", "--epochs", "2")) == 0
    assert [row["val_top1"] for row in rows(tmp_path / "run")] == ["", ""]
    assert not (tmp_path / "run" / "test.json").exists()


def test_init_from_starts_with_the_weights_of_another_run(place, reference, tmp_path, capsys):
    """--init-from begins with a run's weights, says so, and is refused in one line where there are none."""
    near = ["--init-from", str(reference), "--lr", "1e-9", "--epochs", "1"]
    assert main(options(place, tmp_path / "run", *near)) == 0
    assert "weights of C1, C2, F3 from" in capsys.readouterr().out
    assert rows(tmp_path / "run")[0]["val_top1"] == "1.0"
    assert main(options(place, tmp_path / "none", "--init-from", tmp_path / "nothing")) == 4
    assert "nothing does not exist" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # TensorBoard and protobuf, about each other's old habits
def test_every_epoch_has_one_event_whatever_became_of_its_process(place, tmp_path):
    """Killed between an epoch's checkpoint and event, gone on without events, with them: one event an epoch."""
    pytest.importorskip("tensorboardX")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out, script = tmp_path / "run", tmp_path / "killed.py"
    script.write_text(
        "import os, sys\nfrom lenet_mp.train import main\nfrom lenet_mp.training.event_log import EventLog\n"
        "real = EventLog.epoch_done\n"
        "def epoch_done(self, row, *more):\n    os._exit(9) if row['epoch'] == 2 else real(self, row, *more)\n"
        "EventLog.epoch_done = epoch_done\nmain(sys.argv[1:])\n"
    )
    assert programs.run(script, *options(place, out, "--epochs", "3", "--tensorboard")).returncode == 9
    resume = ["--resume", str(out), "--progress", "off"]
    assert main([*resume, "--tensorboard"]) == 0
    assert main([*resume, "--epochs", "4"]) == 0
    for _ in range(2):
        assert main([*resume, "--epochs", "5", "--tensorboard"]) == 0
    events = accumulators.EventAccumulator(str(out / "tensorboard"), size_guidance={"histograms": 0, "scalars": 0})
    events.Reload()
    for tag, column in (("loss/train", "loss"), ("accuracy/validation_top1", "val_top1")):
        expected = [(int(row["epoch"]), pytest.approx(float(row[column]))) for row in rows(out)]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == expected
    assert [event.step for event in events.Histograms("C1/weight")] == [1, 2, 3, 4, 5]
    assert [event.step for event in events.Scalars("accuracy/test_top1_last")] == [3, 5]
