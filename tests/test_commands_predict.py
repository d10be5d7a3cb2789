"""``lenet-mp predict``: any images, in, and what the network takes them for, out."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import small_run

from lenet_mp import predict
from lenet_mp.results.classifier import Classifier
from lenet_mp.training import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("predict"))


@pytest.fixture
def photos(tmp_path):
    """Twelve images in two folders, lossless and of the network's own size."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    images, _ = small_run.pictures(12, 5)
    return {
        small_run.write_image(folder / ("more" if n % 2 else "") / f"{n}.png", image): image
        for n, image in enumerate(images)
    }


def expected(trained, image):
    """Probabilities of one image by the network's definition, in float64."""
    logits = Classifier.load(trained.run).logits(image[np.newaxis])[0].astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum()


def test_csv_has_the_probabilities_of_every_image(trained, photos, capsys):
    """One line an image and rank, with the class names of the training and the network's own probabilities."""
    folder = str(next(iter(photos)).parent)
    assert predict.main([trained.run.as_posix(), folder, "--topk", "3", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3 * len(photos)
    for path, image in photos.items():
        shares = expected(trained, image)
        best = np.argsort(-shares)[:3]
        mine = [row for row in rows if row["path"] == str(path)]
        assert [int(row["rank"]) for row in mine] == [1, 2, 3]
        assert [int(row["label"]) for row in mine] == best.tolist()
        assert [row["class"] for row in mine] == [small_run.NAMES[n] for n in best]
        # Six digits were written.
        assert [float(row["probability"]) for row in mine] == pytest.approx(shares[best].tolist(), abs=5.1e-7)


def test_folder_gives_its_images_in_natural_order(trained, photos, capsys):
    """2 comes before 10; hidden files and files without an image's suffix are passed over."""
    folder = next(iter(photos)).parent
    (folder / ".hidden").mkdir()
    for name in ("notes.txt", "._0.png", ".hidden/1.png"):
        (folder / name).write_text("not an image")
    assert predict.main([str(trained.run), str(folder), "--topk", "1"]) == 0
    names = [line.split(":")[0].removeprefix(f"{folder}/") for line in capsys.readouterr().out.splitlines()]
    assert names == ["0.png", "2.png", "4.png", "6.png", "8.png", "10.png"] + [
        f"more/{n}.png" for n in (1, 3, 5, 7, 9, 11)
    ]


def test_json_is_one_document(trained, photos, capsys):
    """The answer parses as one list; --topk beyond the classes gives all of them, adding up to 1."""
    paths = [str(path) for path in photos][:3]
    assert predict.main([str(trained.run), *paths, "--topk", "99", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in document] == paths
    for entry in document:
        assert {answer["class"] for answer in entry["predictions"]} == set(small_run.NAMES)
        assert sum(answer["probability"] for answer in entry["predictions"]) == pytest.approx(1, abs=4e-6)


def test_bad_images_are_reported_and_the_good_ones_answered(trained, photos, tmp_path, capsys):
    """Each bad image is one line on stderr; all good ones are answered; the exit code says that something was bad."""
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    good = [str(path) for path in photos]
    assert predict.main([str(trained.run), good[0], str(bad), "missing.jpg", *good[1:]]) == 3
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == len(good)
    errors = captured.err.splitlines()
    assert len(errors) == 2
    assert f"{bad}: not an image" in errors[0]
    assert "missing.jpg: no such file" in errors[1]


@pytest.mark.parametrize(
    ("kind", "answer"), [("text", ""), ("csv", "path,rank,label,class,probability\n"), ("json", "[]\n")]
)
def test_nothing_but_bad_images_is_still_a_valid_answer(trained, tmp_path, capsys, kind, answer):
    """An empty folder is reported, and the output is an empty document of its format."""
    assert predict.main([str(trained.run), str(tmp_path), "--format", kind]) == 3
    captured = capsys.readouterr()
    assert captured.out == answer
    assert "holds no image" in captured.err


def test_stdin_out_and_odd_names(trained, photos, tmp_path):
    """Paths come from stdin with '-', also ones that are no valid UTF-8, and -o gets what stdout would."""
    odd = tmp_path / os.fsdecode(b"caf\xe9 one.png")
    odd.write_bytes(next(iter(photos)).read_bytes())
    command = [sys.executable, "-W", "error", "-m", "lenet_mp.predict", str(trained.run), "-", "--format", "csv"]
    given = os.fsencode(odd) + b"\n\n" + os.fsencode(next(iter(photos))) + b"\r\n"
    printed = subprocess.run(command, input=given, capture_output=True, check=False, timeout=120)
    assert (printed.returncode, printed.stderr) == (0, b"")
    assert os.fsencode(odd) in printed.stdout
    assert len(printed.stdout.splitlines()) == 1 + 2 * len(small_run.NAMES)
    written = subprocess.run(
        [*command, "-o", str(tmp_path / "out.csv")], input=given, capture_output=True, check=False, timeout=120
    )
    assert (written.returncode, written.stdout) == (0, b"")
    assert (tmp_path / "out.csv").read_bytes() == printed.stdout


def test_channel_order_of_the_training_is_kept(tmp_path, capsys):
    """A network trained on BGR shards gets files as BGR: the answer is that of its own test images."""
    trained = small_run.train_small(tmp_path, order="BGR")
    assert checkpoint.load(trained.run / "best.ckpt").channel_order == "BGR"
    images, _ = small_run.pictures(6, 3)
    classifier = Classifier.load(trained.run)
    paths = [small_run.write_image(tmp_path / f"{n}.png", image) for n, image in enumerate(images)]
    capsys.readouterr()
    assert predict.main([str(trained.run), *map(str, paths), "--topk", "1", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["label"]) for row in rows] == classifier.logits(images[..., ::-1]).argmax(axis=1).tolist()


@pytest.mark.parametrize("topk", ["0", "-1", "x"])
def test_bad_topk_is_a_usage_error(trained, capsys, topk):
    """A number of classes below 1 ends in code 2."""
    assert predict.main([str(trained.run), "x.png", f"--topk={topk}"]) == 2
    assert "whole number above 0" in capsys.readouterr().err


def test_missing_run_is_one_line(tmp_path, capsys):
    """A run that does not exist is named, with what to give instead."""
    assert predict.main([str(tmp_path / "nosuch"), "x.png"]) == 4
    assert capsys.readouterr().err.startswith("lenet-mp predict: error: ")
