"""``prepare --idx``: MNIST's files become a data set; what is wrong with them is told."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import programs
import pytest

from lenet_mp.data import sample
from lenet_mp.data.shards import open_dataset
from lenet_mp.prepare import main

FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx(array):
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


def problem(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 9, 7), np.uint8), rng.integers(0, 4, count).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the four files: 60 training images of 9 x 7 and 20 test images, 4 classes."""
    place = tmp_path / "idx"
    place.mkdir()
    for part, count in (("train", 60), ("t10k", 20)):
        images, labels = problem(count, count)
        (place / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (place / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return place


def prepare(folder, out, *more):
    return main(["--idx", str(folder), "--out", str(out), "--hold-out", "10", *map(str, more)])


def test_all_images_arrive(folder, tmp_path, capsys):
    """Every image and label is in one split, as it is: held-out ones in validation, those of t10k in test, in order."""
    assert prepare(folder, tmp_path / "data") == 0
    assert "50 train, 10 validation, 20 test images of 9 x 7 x 1 in 4 classes" in capsys.readouterr().out
    dataset = open_dataset(tmp_path / "data")
    images, labels = problem(20, 20)
    np.testing.assert_array_equal(dataset.test.images[..., 0], images)
    np.testing.assert_array_equal(dataset.test.labels, labels)
    found = [
        (image.tobytes(), label)
        for split in (*dataset.train, dataset.validation)
        for image, label in zip(split.images, split.labels.tolist(), strict=True)
    ]
    images, labels = problem(60, 60)
    expected = [(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)]
    assert sorted(found) == sorted(expected)
    assert dataset.manifest.extra["class_counts"]["test"] == np.bincount(problem(20, 20)[1]).tolist()
    assert dataset.manifest.extra["duplicates"]["groups"] == 0
    assert (tmp_path / "data" / "classes.txt").read_text() == "0 0\n1 1\n2 2\n3 3\n"


def test_nothing_is_cleared_away_for_what_does_not_fit(folder, tmp_path, monkeypatch, capsys):
    """Too little room is told before anything is written, and --overwrite leaves the old data set whole then."""
    assert prepare(folder, tmp_path / "data") == 0
    before = (tmp_path / "data" / "manifest.json").read_bytes()

    class Full:
        f_bavail, f_frsize = 0, 4096

    monkeypatch.setattr("lenet_mp.data.jobs.os.statvfs", lambda _: Full)
    assert prepare(folder, tmp_path / "data", "--size", 400, "--overwrite") == 74
    assert "13.2 MB for 80 images of 400 x 400 x 1, only" in capsys.readouterr().err
    assert (tmp_path / "data" / "manifest.json").read_bytes() == before
    assert open_dataset(tmp_path / "data").test is not None


def test_the_same_command_does_nothing_twice_and_the_same_bytes_anew(folder, tmp_path, capsys):
    """A complete data set is left as it is; another folder gets the same bytes; other options need --overwrite."""
    assert prepare(folder, tmp_path / "a") == prepare(folder, tmp_path / "b") == 0
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()
    capsys.readouterr()
    assert prepare(folder, tmp_path / "a") == 0
    assert "it was complete already" in capsys.readouterr().out
    assert prepare(folder, tmp_path / "a", "--seed", 1) == 2
    assert "holds a data set already" in capsys.readouterr().err
    assert prepare(folder, tmp_path / "a", "--seed", 1, "--overwrite") == 0
    assert open_dataset(tmp_path / "a").fingerprint != open_dataset(tmp_path / "b").fingerprint


def test_what_an_interruption_left_is_replaced(folder, tmp_path):
    """Shards without a manifest, of the same command, are made anew."""
    assert prepare(folder, tmp_path / "a") == prepare(folder, tmp_path / "b") == 0
    (tmp_path / "a" / "manifest.json").unlink()
    (tmp_path / "a" / "0.h5").write_bytes(b"half")
    (tmp_path / "a" / ".prepare.0.jsonl").write_text('{"job": "..."}\n')
    assert prepare(folder, tmp_path / "a") == 0
    assert open_dataset(tmp_path / "a").fingerprint == open_dataset(tmp_path / "b").fingerprint
    assert (tmp_path / "a" / "0.h5").read_bytes() == (tmp_path / "b" / "0.h5").read_bytes()


def test_size_names_and_no_validation(folder, tmp_path):
    """Images are resized where that is asked for, classes named, and nothing held out with --hold-out 0."""
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    more = ("--size", "12x10", "--classes", tmp_path / "names.txt", "--hold-out", 0, "--shard-size", 25)
    assert prepare(folder, tmp_path / "data", *more) == 0
    dataset = open_dataset(tmp_path / "data")
    assert dataset.image_shape == (12, 10, 1)
    assert dataset.class_names == tuple("abcde")
    assert dataset.validation is None
    assert [split.count for split in dataset.train] == [25, 25, 10]


def test_other_names_of_files(folder, tmp_path):
    """A prefix, dots for dashes and no test files are accepted; an unpacked file beside its .gz is the one read."""
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    (folder / "train-images-idx3-ubyte.gz").rename(folder / "my-train-images.idx3-ubyte.gz")
    (folder / "train-labels-idx1-ubyte").rename(folder / "my-train-labels-idx1-ubyte")
    (folder / "my-train-labels-idx1-ubyte.gz").write_bytes(b"not read")
    assert prepare(folder, tmp_path / "data") == 0
    assert open_dataset(tmp_path / "data").test is None


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (IMAGES, None, "no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in it"),
        (LABELS, None, "no train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz in it"),
        ("t10k-labels-idx1-ubyte", None, "no t10k-labels-idx1-ubyte"),
        (LABELS, b"", "is no IDX file"),
        (LABELS, b"P5 9 7 255 ", "is no IDX file"),
        (LABELS, struct.pack(">2xBBI", 13, 1, 60) + bytes(240), "has 1 axes of type 13, not 1 of unsigned bytes (8)"),
        (LABELS, struct.pack(">2xBBII", 8, 2, 6, 10) + bytes(60), "has 2 axes of type 8, not 1"),
        (LABELS, idx(np.zeros(59, np.uint8)), "holds 60 images, train-labels-idx1-ubyte 59 labels"),
        (LABELS, idx(np.zeros(60, np.uint8))[:-1], "says 60, which is 60 bytes, but holds 59 bytes"),
        (LABELS, idx(np.zeros(60, np.uint8)) + b"x", "says 60, which is 60 bytes, but holds more"),
        (IMAGES, gzip.compress(idx(problem(60, 60)[0]))[:-30], "is damaged"),
        (IMAGES, b"\x1f\x8b" + bytes(50), "train-images-idx3-ubyte.gz"),
        (IMAGES, struct.pack(">2xBBIII", 8, 3, 1 << 31, 1 << 31, 1 << 31), "bytes, more than the 4,294,967,296"),
        (IMAGES, gzip.compress(idx(np.zeros((0, 9, 7), np.uint8))), "holds 0 images"),
        ("t10k-images-idx3-ubyte.gz", idx(np.zeros((20, 9, 8), np.uint8)), "training and test images have different"),
        ("other-train-labels-idx1-ubyte", b"x", "holds several data sets ('...', 'other-...')"),
    ],
)
def test_files_that_cannot_be_used_are_named(folder, tmp_path, capsys, name, content, complaint):
    """Missing, damaged, hostile and ill-fitting files end in code 3 and one line, and nothing is written."""
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert prepare(folder, tmp_path / "data") == 3
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "data").glob("*.h5"))


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [
        (["--hold-out", "60"], 2, "there are 60 training images; give 0 or fewer"),
        (["--hold-out", "-1"], 2, "--hold-out"),
        (["--store", "jpeg"], 2, "leave --store and --channels out"),
        (["--channels", "3"], 2, "leave --store and --channels out"),
        (["--folder", "x"], 2, "not allowed with argument"),
        (["--idx", "/nowhere"], 2, "/nowhere: no such folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, tmp_path, capsys, more, code, complaint):
    """A mistake is one line and a code."""
    assert prepare(folder, tmp_path / "data", *more) == code
    assert complaint in capsys.readouterr().err


def test_too_few_names(folder, tmp_path, capsys):
    """Labels that no name is given for are told."""
    (tmp_path / "names.txt").write_text("a\nb\n")
    assert prepare(folder, tmp_path / "data", "--classes", tmp_path / "names.txt") == 3
    assert "has labels up to 3, but only 2 classes have a name" in capsys.readouterr().err


@programs.needs_mpi
def test_under_mpi_one_rank_does_it(folder, tmp_path):
    """Under mpirun the data set is the same, told of once."""
    assert prepare(folder, tmp_path / "alone") == 0
    arguments = ["--idx", folder, "--out", tmp_path / "many", "--hold-out", "10"]
    done = programs.run("-m", "lenet_mp.prepare", *arguments, ranks=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("50 train") == 1
    assert open_dataset(tmp_path / "alone").fingerprint == open_dataset(tmp_path / "many").fingerprint


@pytest.mark.skipif(not FASHION.is_dir(), reason="no dataset-fashion-mnist here (Debian's package)")
def test_fashion_mnist_has_names(tmp_path):
    """Fashion-MNIST is known by its labels: classes have names, and all 70,000 images are there."""
    assert main(["--idx", str(FASHION), "--out", str(tmp_path / "data")]) == 0
    dataset = open_dataset(tmp_path / "data")
    assert dataset.class_names == sample.CLASS_NAMES
    counts = [sum(split.count for split in dataset.train), dataset.validation.count, dataset.test.count]
    assert counts == [55_000, 5_000, 10_000]
