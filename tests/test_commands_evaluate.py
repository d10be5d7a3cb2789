"""``lenet-mp evaluate``: the figures of training, by class and sample, from the checkpoint alone."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest
import small_run
from PIL import Image

from lenet_mp import evaluate
from lenet_mp.data import shards
from lenet_mp.results.classifier import Classifier
from lenet_mp.training import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("evaluate"))


def rows(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_scores_are_those_that_training_reported(trained, tmp_path, capsys):
    """Validation of last.ckpt equals the last row of metrics.csv, test equals test.json, to the last bit."""
    last = str(trained.run / "last.ckpt")
    assert evaluate.main([last, "--split", "val", "-o", str(tmp_path / "val")]) == 0
    assert evaluate.main([last, "--split", "test", "-o", str(tmp_path / "test")]) == 0
    capsys.readouterr()
    validation = json.loads((tmp_path / "val" / "scores.json").read_text())
    reported = rows(trained.run / "metrics.csv")[-1]
    assert validation["top1"] == float(reported["val_top1"])
    assert validation["top5"] == float(reported["val_top5"])
    test = json.loads((tmp_path / "test" / "scores.json").read_text())
    reported = json.loads((trained.run / "test.json").read_text())["last"]
    assert {key: test[key] for key in reported} == reported


def test_every_table_tells_the_same(trained, tmp_path, capsys):
    """Confusion matrix, figures by class, predictions and scores agree with each other and with NumPy."""
    assert evaluate.main([str(trained.run), "--split", "train", "-o", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert str(tmp_path) in captured.err
    guesses = rows(tmp_path / "predictions.csv")
    labels, predictions = (np.array([int(row[key]) for row in guesses]) for key in ("label", "prediction"))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["samples"] == len(guesses) == 65
    assert scores["top1"] == (labels == predictions).mean()
    matrix = [[int(row[name]) for name in small_run.NAMES] for row in rows(tmp_path / "confusion.csv")]
    expected = [[((labels == i) & (predictions == j)).sum() for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(matrix, expected)
    for number, row in enumerate(rows(tmp_path / "per_class.csv")):
        assert row["class"] == small_run.NAMES[number]
        assert int(row["samples"]) == (labels == number).sum()
        assert float(row["recall"]) == (predictions[labels == number] == number).mean()
        assert f"{float(row['recall']):.1%}" in captured.out
    picture = np.asarray(Image.open(tmp_path / "confusion.png").convert("L"))
    assert picture.std() > 20


def test_predictions_name_the_sample_they_are_about(trained, tmp_path, capsys):
    """File and row lead back to the image: its label and the network's probability are those of the line."""
    assert evaluate.main([str(trained.run), "--split", "train", "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    classifier = Classifier.load(trained.run)
    splits = {split.path.name: split for split in shards.open_dataset(trained.data).train}
    guesses = rows(tmp_path / "predictions.csv")
    for guess in guesses[::7]:
        split, row = splits[guess["file"]], int(guess["row"])
        logits = classifier.logits(split.images[row : row + 1])[0].astype(np.float64)
        assert int(guess["label"]) == split.labels[row]
        assert int(guess["prediction"]) == logits.argmax()
        assert guess["predicted_class"] == small_run.NAMES[logits.argmax()]
        likely = np.exp(logits).max() / np.exp(logits).sum()
        assert float(guess["probability"]) == pytest.approx(likely, abs=5.1e-7)  # six digits were written


def test_results_go_into_the_run_folder_by_default(trained, capsys):
    """Without -o the files of a split lie in the run's evaluation/SPLIT."""
    assert evaluate.main([str(trained.run)]) == 0
    assert "test, 37 samples" in capsys.readouterr().out
    found = {path.name for path in (trained.run / "evaluation" / "test").iterdir()}
    pictures = {"confusion.png", "confusion.svg"}
    assert found == {"scores.json", "per_class.csv", "confusion.csv", "predictions.csv"} | pictures


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ("red, bright", "green", "gray", "grey")}, "class 2 is 'gray' instead of 'blue'"),
        ({"names": (*small_run.NAMES, "more")}, "5 instead of 4"),
        ({"order": "BGR"}, "12 x 10 x 3 BGR"),
    ],
)
def test_other_data_is_refused(trained, tmp_path, capsys, change, words):
    """Other class names, another number of them or another channel order end in one line that says which."""
    data = small_run.write_data(tmp_path / "data", **change)
    assert evaluate.main([str(trained.run), "--data", str(data)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_same_classes_in_another_data_set_are_welcome(trained, tmp_path, capsys):
    """A data set of the same form is evaluated, with a note that it is not the one of the training."""
    data = small_run.write_data(tmp_path / "data", seed=1)
    images, labels = small_run.pictures(50, 99)
    rewrite_test_split(data, images, labels)
    assert evaluate.main([str(trained.run), "--data", str(data), "-o", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "is not the data set" in captured.err
    assert "50 samples" in captured.out


def rewrite_test_split(data, images, labels):
    """Replace the held-out file of a data set by one with these test samples alone."""
    import dataclasses  # noqa: PLC0415

    from lenet_mp.data import manifest  # noqa: PLC0415
    from lenet_mp.data.shard_writer import write_shard  # noqa: PLC0415

    found = manifest.load(data)
    entry = write_shard(
        data / manifest.HELD_OUT, [("test", images, labels)], image_shape=small_run.SHAPE, channel_order="RGB"
    )
    changed = dataclasses.replace(found, shards=(*found.shards[:-1], entry))
    (data / manifest.NAME).write_bytes(changed.encode())


def test_missing_split_and_missing_data_say_what_to_do(trained, tmp_path, capsys):
    """A split that is not there and a data folder that has moved are one line each, with the option to use."""
    data = small_run.write_data(tmp_path / "data")
    rewrite_test_split(data, *small_run.pictures(5, 0))
    assert evaluate.main([str(trained.run), "--data", str(data), "--split", "val"]) == 3
    assert "no validation split" in capsys.readouterr().err
    state = checkpoint.load(trained.run / "best.ckpt")
    state.config["data"] = str(tmp_path / "moved")
    checkpoint.save(state, tmp_path / "moved.ckpt")
    assert evaluate.main([str(tmp_path / "moved.ckpt")]) == 3
    assert "--data" in capsys.readouterr().err


def test_diverged_weights_are_not_evaluated(trained, tmp_path, capsys):
    """Weights that are not finite are no checkpoint; finite ones that give no finite logits are told as diverged."""
    state = checkpoint.load(trained.run / "best.ckpt")
    state.arrays["parameters"] = np.full_like(state.parameters, 3e38)
    diverged = checkpoint.to_bytes(state)
    body = diverged[: -checkpoint.DIGEST].replace(np.float32(3e38).tobytes(), np.float32(np.nan).tobytes())
    spoilt = body + hashlib.sha256(body).digest()
    for content, code, complaint in ((spoilt, 4, "not all of its weights are finite"), (diverged, 76, "diverged")):
        (tmp_path / "bad.ckpt").write_bytes(content)
        assert evaluate.main([str(tmp_path / "bad.ckpt")]) == code
        assert complaint in capsys.readouterr().err
