"""Event files, read back by TensorBoard itself."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet_mp.errors import OutputError, UsageError
from lenet_mp.training.evaluation import Scores
from lenet_mp.training.event_log import FOLDER, EventLog, require

# TensorBoard and protobuf warn about their own and each other's old habits.
pytestmark = pytest.mark.filterwarnings("ignore")
WEIGHTS = {"C1.weight": np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2), "C1.bias": np.full(2, 0.01, np.float32)}


def row(epoch, **values):
    return {"epoch": epoch, "lr": 0.1, "loss": 1 / epoch, "train_top1": 0.5, "val_top1": None, "val_top5": None,
            "seconds": 1.0, "images_per_second": 100.0, **values}  # fmt: skip


def read(run):
    """Return what TensorBoard sees in a run's folder."""
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / FOLDER), size_guidance={"images": 0, "histograms": 0, "scalars": 0})
    events.Reload()
    return events


def scalars(run, tag):
    return [(event.step, event.value) for event in read(run).Scalars(tag)]


def test_figures_weights_and_pictures_are_read_back(tmp_path):
    """TensorBoard finds every figure that there is, the range of each array, and the pictures pixel by pixel."""
    pytest.importorskip("tensorboardX")
    pictures = tmp_path / "epoch-01"
    pictures.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(pictures / "C1.png")
    log = EventLog(tmp_path, 0)
    log.epoch_done(row(1, val_top1=0.25), WEIGHTS, pictures)
    log.epoch_done(row(2, val_top1=0.75), WEIGHTS)
    log.tested({"best": Scores(10, 1.5, 0.4, 0.9)}, 2)
    log.close()
    events = read(tmp_path)
    assert scalars(tmp_path, "loss/train") == [(1, 1.0), (2, 0.5)]
    assert scalars(tmp_path, "accuracy/validation_top1") == [(1, 0.25), (2, 0.75)]
    assert scalars(tmp_path, "accuracy/test_top1_best") == [(2, pytest.approx(0.4))]
    assert "accuracy/validation_top5" not in events.Tags()["scalars"]
    histogram = events.Histograms("C1/weight")[-1].histogram_value
    assert (histogram.num, histogram.min, histogram.max, histogram.sum) == (24, 0, 23, 276)
    image = events.Images("features/C1")[0]
    (tmp_path / "read.png").write_bytes(image.encoded_image_string)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "read.png")), pixels)


def test_figures_are_on_disk_after_every_epoch(tmp_path):
    """A process that is killed right after an epoch has written all of it, in one file, without a thread's help."""
    pytest.importorskip("tensorboardX")
    code = (
        "import os, pathlib, signal, sys, threading\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_event_log import WEIGHTS, row\n"
        "from lenet_mp.training.event_log import EventLog\n"
        "log = EventLog(pathlib.Path(sys.argv[2]), 0)\n"
        "for epoch in (1, 2):\n"
        "    log.epoch_done(row(epoch), WEIGHTS)\n"
        "assert threading.active_count() == 1\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, Path(__file__).parent, tmp_path], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert scalars(tmp_path, "loss/train") == [(1, 1.0), (2, 0.5)]
    assert [event.step for event in read(tmp_path).Histograms("C1/bias")] == [1, 2]
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_a_resumed_run_hides_what_is_worked_again(tmp_path):
    """After a resume from epoch 1, the lost second epoch appears once, as it was worked again."""
    pytest.importorskip("tensorboardX")
    first = EventLog(tmp_path, 0)
    first.epoch_done(row(1), WEIGHTS)
    first.epoch_done(row(2, loss=9.0), WEIGHTS)
    first.close()
    second = EventLog(tmp_path, 1)
    second.epoch_done(row(2), WEIGHTS)
    second.close()
    assert scalars(tmp_path, "loss/train") == [(1, 1.0), (2, 0.5)]


def test_a_torn_event_is_no_event(tmp_path):
    """What a kill left of an epoch's event is not shown, and the epoch is taken for missing."""
    pytest.importorskip("tensorboardX")
    first = EventLog(tmp_path, 0)
    first.epoch_done(row(1), WEIGHTS)
    first.epoch_done(row(2), WEIGHTS)
    first.close()
    (file,) = (tmp_path / FOLDER).iterdir()
    whole = file.read_bytes()
    for bytes_lost in (1, 100, 1000):
        file.write_bytes(whole[:-bytes_lost])
        second = EventLog(tmp_path, 2)
        assert [second.lacks(epoch) for epoch in (1, 2)] == [False, True]
        second.epoch_done(row(2), {})
        second.close()
        assert scalars(tmp_path, "loss/train") == [(1, 1.0), (2, 0.5)]
        assert not EventLog(tmp_path, 2).lacks(2)
        for later in set((tmp_path / FOLDER).iterdir()) - {file}:
            later.unlink()


def test_the_order_of_processes_is_not_that_of_the_clock(tmp_path, monkeypatch):
    """Where the clock was put back between two processes, what the second hides is still what the first wrote."""
    pytest.importorskip("tensorboardX")
    for epoch, (now, loss) in enumerate(((2e9, 9.0), (1e9, 1.0))):
        monkeypatch.setattr("time.time", lambda now=now: now)
        log = EventLog(tmp_path, epoch)
        log.epoch_done(row(1), WEIGHTS)
        log.epoch_done(row(2, loss=loss), WEIGHTS)
        log.close()
    assert scalars(tmp_path, "loss/train")[-1] == (2, 1.0)
    assert len({path.name.partition(".out.")[0] for path in (tmp_path / FOLDER).iterdir()}) == 2


def test_test_scores_are_written_once(tmp_path):
    """A finished run that is resumed adds no second score of the same epoch."""
    pytest.importorskip("tensorboardX")
    for epoch in (0, 1):
        log = EventLog(tmp_path, epoch)
        if log.lacks(1):
            log.epoch_done(row(1), WEIGHTS)
        log.tested({"last": Scores(10, 1.5, 0.4, 0.9)}, 1)
        log.close()
    assert scalars(tmp_path, "accuracy/test_top1_last") == [(1, pytest.approx(0.4))]
    assert scalars(tmp_path, "loss/train") == [(1, 1.0)]


def test_a_strange_file_in_the_folder_does_no_harm(tmp_path):
    """What is no event file counts for nothing, whatever lengths it claims."""
    pytest.importorskip("tensorboardX")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "a.tfevents.folder").mkdir()
    for number, data in enumerate((b"", b"\xff" * 40, bytes(100), b"\x04" + bytes(11) + b"\xff" * 8)):
        (tmp_path / FOLDER / f"b.tfevents.{number}").write_bytes(data)
    assert EventLog(tmp_path, 3).lacks(3)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    """A full disk at the start is one line about the folder."""
    library = pytest.importorskip("tensorboardX")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(library.event_file_writer, "EventsWriter", full)
    with pytest.raises(OutputError, match=f"cannot write {tmp_path / FOLDER}: No space left on device; free some"):
        EventLog(tmp_path, 0)


def test_without_the_library_the_remedy_is_told(monkeypatch):
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"pip install 'lenet-mp\[tensorboard\]'"):
        require()
