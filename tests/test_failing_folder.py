"""Runs whose folder fails them: full, read-only, gone, damaged, or held by another run."""

import os
import stat
import subprocess
import sys
import time
from functools import partial

import programs
import pytest
import small_data

from lenet_mp.train import main
from lenet_mp.training import checkpoint

DAMAGED = """
import os, shutil, subprocess, sys
from lenet_mp.train import main
from lenet_mp.training.recorder import RunRecorder
out = sys.argv[sys.argv.index("--out") + 1]
real = RunRecorder.steps_done
def steps_done(self, trainer):
    real(self, trainer)
    if trainer.epoch == 1:
        {damage}
RunRecorder.steps_done = steps_done
raise SystemExit(main(sys.argv[1:]))
"""
"""A run to whose folder something happens before the end of its second epoch, after the checkpoint of the last step."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a small data set and model."""
    return small_data.write_place(tmp_path_factory.mktemp("failing"))


options = partial(small_data.options, epochs=3)


@pytest.fixture(scope="module")
def expected(place):
    """Return the weights of a run to which nothing happens."""
    assert main(options(place, place / "reference")) == 0
    return checkpoint.load(place / "reference" / "last.ckpt").parameters.tobytes()


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounts are refused here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def damaged(tmp_path, damage, *arguments):
    """Run the script with the damage."""
    script = tmp_path / "damaged.py"
    script.write_text(DAMAGED.format(damage=damage))
    return as_ordinary_user(script, *arguments)


def as_ordinary_user(*arguments):
    """Run Python with no more rights to files than their modes give: root's are taken away."""
    command = [sys.executable, *map(str, arguments)]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *command]
    options = {"env": programs.environment(), "timeout": programs.TIME_LIMIT}
    return subprocess.run(command, **options, text=True, capture_output=True, check=False)


def assert_told(done, words):
    """The run ended with 74, one line on stderr and no traceback."""
    assert done.returncode == 74, done.stderr
    assert "cannot write" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_vanishes(place, tmp_path):
    """A run whose folder is removed ends at its next checkpoint, and says so."""
    done = damaged(tmp_path, "shutil.rmtree(out)", *options(place, tmp_path / "run"))
    assert_told(done, "its folder does not exist (any more)")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("best", ["", "os.remove(os.path.join(out, 'best.ckpt')); "])
def test_the_fallback_folder_takes_the_state(place, tmp_path, expected, best):
    """With --fallback-dir the state of such a run is saved there, and the run goes on from it to the same weights."""
    more = ["--fallback-dir", tmp_path / "other"]
    done = damaged(tmp_path, f"{best}os.rename(out, out + '-moved')", *options(place, tmp_path / "run", *more))
    saved = tmp_path / "other" / "run-1"
    assert_told(done, f"all is saved in {saved}: go on with --resume {saved}")
    assert checkpoint.load(saved / "last.ckpt").epoch == 2
    assert main(["--resume", str(saved), "--progress", "off"]) == 0
    assert checkpoint.load(saved / "last.ckpt").parameters.tobytes() == expected


def test_a_fallback_that_fails_too_is_told(place, tmp_path):
    """Where neither folder can be written, both reasons are told."""
    more = ["--fallback-dir", tmp_path / "other"]
    damage = f"shutil.rmtree(out); shutil.rmtree({str(tmp_path / 'other')!r}); open({str(tmp_path / 'other')!r}, 'w')"
    done = damaged(tmp_path, damage, *options(place, tmp_path / "run", *more))
    assert_told(done, f"and not to --fallback-dir either: cannot write {tmp_path / 'other'}")


def test_a_folder_that_may_not_be_written_any_more(place, tmp_path, expected):
    """A run that loses the right to write ends with its last checkpoint sound, from which it can go on."""
    out = tmp_path / "run"
    done = damaged(tmp_path, "os.chmod(out, 0o500)", *options(place, out))
    assert_told(done, "Permission denied; choose a folder that you may write to")
    out.chmod(0o700)
    assert main(["--resume", str(out), "--progress", "off"]) == 0
    assert checkpoint.load(out / "last.ckpt").parameters.tobytes() == expected


def test_a_folder_that_may_not_be_written_at_all(place, tmp_path):
    """A run that cannot make or write its folder ends before it trains."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    for folder in (locked, locked / "run"):
        assert_told(as_ordinary_user("-m", "lenet_mp.train", *options(place, folder)), "Permission denied")
    assert not list(locked.iterdir())


def test_a_disk_that_becomes_read_only(place, small_disk, tmp_path, expected):
    """The same where the whole disk does, as Linux does to one that fails."""
    out = small_disk / "run"
    remount = "; ".join(
        f"subprocess.run(['mount', '-o', {option!r}, out, out], check=True)" for option in ("bind", "remount,bind,ro")
    )
    assert_told(damaged(tmp_path, remount, *options(place, out)), "Read-only file system; choose a folder on a")
    subprocess.run(["umount", str(out)], check=True)
    assert main(["--resume", str(out), "--progress", "off"]) == 0
    assert checkpoint.load(out / "last.ckpt").parameters.tobytes() == expected


def test_a_disk_that_fills_up(place, small_disk, tmp_path, expected):
    """A run whose disk is full ends with its last checkpoint sound; with room again it goes on to the same weights."""
    out = small_disk / "run"
    fill = (
        f"file = open({str(small_disk / 'filler')!r}, 'wb', buffering=0)\n"
        "        while file.write(bytes(512)) if os.statvfs(out).f_bavail else 0: pass"
    )
    assert_told(damaged(tmp_path, fill, *options(place, out)), "No space left on device; free some space")
    assert not list(out.rglob("*.tmp*"))
    (small_disk / "filler").unlink()
    assert main(["--resume", str(out), "--progress", "off"]) == 0
    assert checkpoint.load(out / "last.ckpt").parameters.tobytes() == expected


def test_no_drawing_library(place, tmp_path):
    """Without a matplotlib that can be imported a run trains, warns, counts what is missing, and ends with 0."""
    script = "import sys; from lenet_mp.train import main; sys.modules['matplotlib'] = None; sys.exit(main())"
    done = programs.run("-c", script, *options(place, tmp_path / "run", "--epochs", "1"))
    assert done.returncode == 0, done.stderr
    assert "warning: no curves this time" in done.stderr
    assert "warning: no feature maps this time" in done.stderr
    assert " drawings failed: see the warnings in log.txt\n" in done.stdout
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").epoch == 1


def test_a_damaged_checkpoint_never_takes_the_place_of_a_sound_one(place, tmp_path):
    """Killed after its first save, a run that began beside a damaged last.ckpt still has a checkpoint to go on from."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "2")) == 0
    (out / "last.ckpt").write_bytes(b"damaged")
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\nfrom lenet_mp import files\nfrom lenet_mp.train import main\n"
        "real = files.write_atomically\n"
        "def write(path, data):\n"
        "    if path.name == 'last.ckpt': os._exit(9)\n"
        "    real(path, data)\n"
        "files.write_atomically = write\nmain(sys.argv[1:])\n"
    )
    assert programs.run(script, "--resume", out, "--progress", "off").returncode == 9
    assert (out / "last.ckpt").read_bytes() == b"damaged"
    assert main(["--resume", str(out), "--progress", "off"]) == 0


@pytest.mark.parametrize("how", [[], ["auto"]])
def test_a_lost_checkpoint_is_replaced_by_the_one_before(place, tmp_path, expected, how, capsys):
    """Without last.ckpt a resume goes on from the previous one, saying so, to the same weights."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "2")) == 0
    (out / "last.ckpt").unlink()
    arguments = options(place, out, "--resume", "auto") if how else ["--resume", str(out), "--epochs", "3"]
    assert main(arguments) == 0
    assert "last.ckpt: No such file or directory; going on from previous.ckpt" in capsys.readouterr().err
    assert checkpoint.load(out / "last.ckpt").parameters.tobytes() == expected


def test_of_damaged_checkpoints_the_best_is_named(place, tmp_path, capsys):
    """With last and previous damaged a resume ends with 4 and names the best, from which it can go on."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "2")) == 0
    for name in ("last.ckpt", "previous.ckpt"):
        (out / name).write_bytes(b"damaged")
    assert main(["--resume", str(out), "--progress", "off"]) == 4
    assert f"previous.ckpt is no help either: name {out / 'best.ckpt'} to go on from" in capsys.readouterr().err
    assert main(["--resume", str(out / "best.ckpt"), "--progress", "off"]) == 0
    assert checkpoint.load(out / "last.ckpt").epoch == 2
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        (out / name).write_bytes(b"damaged")
    assert main(["--resume", str(out), "--progress", "off"]) == 4
    assert "no help" not in capsys.readouterr().err


def test_a_run_is_never_begun_anew_over_what_is_left_of_one(place, tmp_path, capsys):
    """Where only the best checkpoint is left, --resume auto does not start from scratch but says what there is."""
    out = tmp_path / "run"
    assert main(options(place, out, "--epochs", "1")) == 0
    for name in ("last.ckpt", "previous.ckpt"):
        (out / name).unlink()
    before = (out / "best.ckpt").read_bytes()
    assert main(options(place, out, "--resume", "auto")) == 4
    assert f"has lost its last.ckpt: name {out / 'best.ckpt'} to go on from" in capsys.readouterr().err
    assert (out / "best.ckpt").read_bytes() == before


@pytest.mark.parametrize("mask", [0o002, 0o027, 0o077])
def test_files_have_the_modes_that_the_umask_leaves(place, tmp_path, mask):
    """Every file and folder of a run is readable and writable for whom the user's umask says, and nobody else."""
    script = f"import os, sys; os.umask({mask}); from lenet_mp.train import main; sys.exit(main(sys.argv[1:]))"
    assert programs.run("-c", script, *options(place, tmp_path / "run", "--epochs", "1")).returncode == 0
    paths = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert len(paths) > 15
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_nothing_is_written_outside_of_the_run_folder(place, tmp_path):
    """A run leaves nothing in the home, temporary and working folders, but for matplotlib's own cache of fonts."""
    folders = {name: tmp_path / name for name in ("home", "tmp", "work")}
    for folder in folders.values():
        folder.mkdir()
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    arguments = options(place, tmp_path / "out" / "run", "--epochs", "1")
    variables = {"HOME": folders["home"], "TMPDIR": folders["tmp"], "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    done = programs.train(*arguments, cwd=folders["work"], **variables)
    assert done.returncode == 0, done.stderr
    written = [path for folder in folders.values() for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if path.parent.name != "matplotlib"] == []
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]


def test_of_two_runs_started_at_once_exactly_one_trains(place, tmp_path):
    """Two runs into one folder: one trains to its end, the other says who holds the folder and ends with 2."""
    for number in range(2):
        endless = ["--epochs", "100000", "--train-accuracy", "running"]
        command = [sys.executable, "-m", "lenet_mp.train", *options(place, tmp_path / f"run-{number}", *endless)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        runs = [subprocess.Popen(command, env=programs.environment(), **pipes) for _ in range(2)]
        try:
            while all(run.poll() is None for run in runs):
                time.sleep(0.02)
            refused, training = sorted(runs, key=lambda run: run.poll() is None)
            assert f"in use by process {training.pid} on" in refused.communicate()[1]
            assert refused.returncode == 2
            training.terminate()
            training.communicate(timeout=programs.TIME_LIMIT)
            assert training.returncode == 143
        finally:
            for run in runs:
                run.kill()
                run.communicate()
        assert checkpoint.load(tmp_path / f"run-{number}" / "last.ckpt")
