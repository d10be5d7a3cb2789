"""Folders from somebody else that hold links: nothing outside of them is read or written."""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import small_run

from lenet_mp import evaluate, export, files, report, train
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.errors import CheckpointError, OutputError
from lenet_mp.locks import NAME, folder_lock
from lenet_mp.results import mosaics, report_pictures
from lenet_mp.training import run_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("links"))


@pytest.fixture
def secret(tmp_path):
    """Return a file that must neither be read nor changed."""
    path = tmp_path / "secret"
    path.write_text("a secret")
    return path


@pytest.mark.parametrize("name", ["last.ckpt", "log.txt", "env.json", "features", ".lock", "metrics.csv"])
def test_a_run_folder_with_a_link_is_refused(trained, tmp_path, secret, name, capsys):
    """No command reads a run through a link in its folder, and none goes on in such a folder; a line names the link."""
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    if (run / name).is_dir():
        shutil.rmtree(run / name)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(secret)
    for command, arguments in ((evaluate, [run]), (report, [run]), (export, [run]), (train, ["--resume", run])):
        assert command.main(list(map(str, arguments))) == 4
        assert f"{name} is a link" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="is a link"):
        run_folder.find_checkpoint(run, "last")
    assert secret.read_text() == "a secret"


@pytest.mark.parametrize("name", ["features/epoch-07", "evaluation/test", "tensorboard/link"])
def test_a_link_inside_of_a_folder_of_a_run_is_refused(trained, tmp_path, name, capsys):
    """The same for links further down, also where a file of the run is named: nothing is written where they lead."""
    run, victim = tmp_path / "run", tmp_path / "victim"
    shutil.copytree(trained.run, run)
    victim.mkdir()
    (victim / ".a.tmp").touch()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(victim)
    for file in ("", "last.ckpt"):
        assert train.main(["--resume", str(run / file), "--epochs", "7", "--progress", "off"]) == 4
        assert f"{run / name} is a link" in capsys.readouterr().err
    assert evaluate.main([str(run)]) == 4
    if name == "evaluation/test":
        assert evaluate.main([str(run / "best.ckpt")]) == 4
    assert [path.name for path in victim.iterdir()] == [".a.tmp"]


def test_a_link_in_a_folder_that_a_run_begins_in(trained, tmp_path, secret, capsys):
    """A folder without any checkpoint is taken for a new run with --resume auto, but not with a link in it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "features").symlink_to(secret.parent)
    model = trained.run.parent / "small.toml"
    arguments = ["--data", trained.data, "--model", model, "--out", tmp_path / "run", "--resume", "auto"]
    assert train.main([str(argument) for argument in arguments]) == 4
    assert "features is a link" in capsys.readouterr().err


def test_locks_and_logs_are_no_way_out(tmp_path, secret):
    """A lock or a log that is a link is an error; the file at its end is left alone."""
    for name in (NAME, "log.txt"):
        (tmp_path / name).symlink_to(secret)
    with pytest.raises(OutputError, match="cannot write"), folder_lock(tmp_path):
        pass
    with pytest.raises(OutputError, match=r"cannot write .*log\.txt"):
        files.append(tmp_path / "log.txt", "a line\n")
    assert secret.read_text() == "a secret"


def test_a_link_where_a_file_is_replaced(tmp_path, secret):
    """A file is put in the place of a link, also of one that has the temporary name; what they name stays."""
    (tmp_path / "last.ckpt").symlink_to(secret)
    (tmp_path / f".last.{socket.gethostname()}-{os.getpid()}.tmp.ckpt").symlink_to(secret)
    files.write_atomically(tmp_path / "last.ckpt", b"new")
    assert secret.read_text() == "a secret"
    assert not (tmp_path / "last.ckpt").is_symlink()
    assert (tmp_path / "last.ckpt").read_bytes() == b"new"


def shard(path):
    images, labels = small_run.pictures(3, 0)
    write_shard(path, [("train", images, labels)], image_shape=small_run.SHAPE, channel_order="RGB")


def drawing(path):
    mosaics.draw_pictures(np.zeros((1, 4, 4, 3), np.uint8), path, title="")


@pytest.mark.parametrize("write", [shard, drawing, lambda path: files.write_atomically(path, b"new")])
def test_a_link_that_comes_back(tmp_path, secret, monkeypatch, write):
    """A link that takes the temporary name again, just after that was cleared, is never written through."""
    link = tmp_path / f".0.{socket.gethostname()}-{os.getpid()}.tmp.png"
    link.symlink_to(secret)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "0.png")
    assert secret.read_text() == "a secret"
    assert not (tmp_path / "0.png").exists()


def test_a_report_holds_pictures_of_its_folder_alone(trained, tmp_path):
    """Links, pipes and files that are no pictures do not get into the page, and nobody waits for them."""
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    good = report_pictures.feature_maps(run, ["C1"])
    kept = max(run.glob("features/epoch-*/C1.png"))
    bad = [run / "features" / f"epoch-0{number}" / "C1.png" for number in (5, 6, 7, 8)]
    for path in bad:
        path.parent.mkdir()
    bad[0].symlink_to(kept)
    os.mkfifo(bad[1])
    bad[2].write_bytes(b"a secret" * 99)
    bad[3].write_bytes(kept.read_bytes()[:20])
    assert report_pictures.feature_maps(run, ["C1"]) == good
