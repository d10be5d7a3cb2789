"""``--class-weights`` and ``--label-smoothing`` of a run: what they stand for, what is told, kept and repeated."""

from __future__ import annotations

import tomllib

import numpy as np
import programs
import pytest
import reference
import small_data

from lenet_mp.data.shards import open_dataset
from lenet_mp.errors import UsageError
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.plan import Plan
from lenet_mp.train import main
from lenet_mp.training import checkpoint, class_weights, evaluation

COUNTS = (60, 30, 20, 10)
"""Training images of each class."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a small, unbalanced data set, a model and a file of weights."""
    folder = tmp_path_factory.mktemp("weights")
    images, labels = small_data.samples(600, 0)
    chosen = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate(COUNTS)])
    np.random.default_rng(0).shuffle(chosen)
    small_data.write_shards(folder / "data", counts=())
    for shard, part in enumerate(np.array_split(chosen, 3)):
        small_data.write_shard(folder / "data" / f"{shard}.h5", images[part], labels[part])
    small_data.write_model(folder / "small.toml")
    return folder


@pytest.fixture
def dataset(place):
    return open_dataset(place / "data")


def options(place, out, *more):
    common = ["--model", place / "small.toml", "--data", place / "data", "--batch-size", 32, "--lr", "0.003"]
    return [str(a) for a in (*common, "--out", out, "--epochs", 3, "--progress", "off", *more)]


def state(run):
    return checkpoint.load(run / "last.ckpt")


def test_balanced_gives_every_class_the_same_part(dataset):
    """Each class weighs N / (K n): over the training images all classes weigh the same, and the mean weight is 1."""
    weights = class_weights.resolve("balanced", dataset)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, np.array([120 / (4 * n) for n in COUNTS], np.float32))
    assert class_weights.resolve("", dataset) is None


@pytest.mark.parametrize("text", ["1,2,0,4", "2, 4, 0, 8", "1e-3,2e-3,0,4e-3"])
def test_only_the_ratio_of_weights_matters(text, dataset):
    """A list is one number a class, whatever its unit: the mean over the training images becomes 1."""
    weights = class_weights.resolve(text, dataset)
    expected = np.array([1, 2, 0, 4]) * 120 / (60 * 1 + 30 * 2 + 10 * 4)
    np.testing.assert_allclose(weights, expected, rtol=2**-23)  # two roundings, one of them to float32


@pytest.mark.parametrize("text", ["0 1\n1 2\n2 0\n3 4\n", "\ufeff# mine\r\n3\t4\r\n\r\n  1   2 \r\n2 0.0\r\n"])
def test_a_file_names_classes(text, dataset, tmp_path):
    """Lines may come in any order; classes that are left out weigh 1."""
    (tmp_path / "weights.txt").write_text(text, encoding="utf-8")
    weights = class_weights.resolve(str(tmp_path / "weights.txt"), dataset)
    np.testing.assert_array_equal(weights, class_weights.resolve("1,2,0,4", dataset))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,2,3", r"3 numbers for 4 classes"),
        ("1,2,3,x", r"'x' is no weight"),
        ("1,2,3,-1", r"'-1' is no weight"),
        ("1,2,3,nan", r"'nan' is no weight"),
        ("1,2,3,1e10", r"number from 0 to 1e\+09"),
        ("0,0,0,0", r"no training image has a weight above 0"),
        ("nowhere.txt", r"cannot read nowhere\.txt \(No such file.*'balanced'"),
        ("balance", r"cannot read balance .*'balanced'"),
    ],
)
def test_mistakes_are_named(text, complaint, dataset):
    """What cannot be used is told in one line that shows the form."""
    with pytest.raises(UsageError, match=complaint):
        class_weights.resolve(text, dataset)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("4 1", r"weights\.txt:2: there is no class '4'; classes are '0' to '3'"),
        ("0 2", r"weights\.txt:2: class '0' is there twice"),
        ("1", r"weights\.txt:2: expected 'CLASS WEIGHT', got '1'"),
        ("1 much", r"weights\.txt:2: 'much' is no weight"),
    ],
)
def test_mistakes_in_a_file_are_named_by_line(line, complaint, dataset, tmp_path):
    """File and line say where the mistake is."""
    (tmp_path / "weights.txt").write_text(f"0 1\n{line}\n")
    with pytest.raises(UsageError, match=complaint):
        class_weights.resolve(str(tmp_path / "weights.txt"), dataset)


def test_a_run_tells_and_keeps_its_weights(place, tmp_path, capsys):
    """The first lines, config.toml and the checkpoint have them."""
    assert main(options(place, tmp_path / "run", "--class-weights", "balanced", "--label-smoothing", "0.2")) == 0
    printed = capsys.readouterr().out
    assert "label smoothing 0.2\n" in printed
    assert "class weights balanced: 0.5 (0), 1 (1), 1.5 (2), 3 (3); mean over the training images 1\n" in printed
    assert "evaluations report plain cross-entropy" in printed
    kept = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert kept["class_weights"] == "balanced"
    assert kept["label_smoothing"] == 0.2
    assert state(tmp_path / "run").arrays["class_weights"].tolist() == [0.5, 1, 1.5, 3]


def test_the_training_loss_is_the_weighted_mean(place, tmp_path, dataset):
    """An epoch's loss is what torch.nn.CrossEntropyLoss(weight, label_smoothing=0.1) has as its mean of all samples."""
    weights = np.array([1, 2, 0.5, 4], np.float32)
    chosen = ("--class-weights", "1,2,0.5,4", "--label-smoothing", "0.1", "--batch-size", "120", "--epochs", "1")
    assert main(options(place, tmp_path / "run", *chosen)) == 0
    saved = state(tmp_path / "run")
    # One step: its loss is that of the initial weights, which the seed gives.
    initial = saved.network.initialise(saved.config["seed"])
    scale, offset = scale_and_offset(saved.normalize)
    plan = Plan(saved.network.layers, scale=scale, offset=offset, threads=1)
    logits = np.concatenate([evaluation.logits(plan, initial, split) for split in dataset.train])
    labels = np.concatenate([split.labels for split in dataset.train])
    losses, _ = reference.softmax_cross_entropy(logits, labels, 0.1, weights)
    # Each loss is off by the (6 + 40 + 4) roundings of test_targets, of its mass, and by three of its own; weights by
    # two. The mean mass is 1, the mean loss above a quarter of it.
    assert saved.history[0]["loss"] == pytest.approx(losses.sum() / weights[labels].sum(), rel=4 * 55 * 2**-24)


@pytest.mark.parametrize("ranks", [2, 3])
@programs.needs_mpi
def test_the_same_weights_on_any_number_of_ranks(place, tmp_path, ranks):
    """Weights, momentum and figures are bit for bit those of one process, whose file only rank 0 reads."""
    (tmp_path / "weights.txt").write_text("0 1\n3 7.5\n")
    chosen = ("--class-weights", tmp_path / "weights.txt", "--label-smoothing", "0.1")
    assert main(options(place, tmp_path / "alone", *chosen)) == 0
    done = programs.train(*options(place, tmp_path / "many", *chosen), ranks=ranks, OMP_NUM_THREADS=1)
    assert done.returncode == 0, done.stderr
    alone, many = state(tmp_path / "alone"), state(tmp_path / "many")
    for name, array in alone.arrays.items():
        assert many.arrays[name].tobytes() == array.tobytes()
    assert [row["loss"] for row in many.history] == [row["loss"] for row in alone.history]


def test_a_run_goes_on_with_its_weights_though_the_file_changed(place, tmp_path):
    """Resumed with the same options, as a batch system does, a run keeps the weights that it began with."""
    file = tmp_path / "weights.txt"
    file.write_text("0 1\n3 7.5\n")
    chosen = ("--class-weights", str(file), "--label-smoothing", "0.1")
    assert main(options(place, tmp_path / "whole", *chosen)) == 0
    arguments = options(place, tmp_path / "parts", *chosen, "--resume", "auto")
    assert main([*arguments, "--max-time", "0.001s"]) == 143
    file.unlink()
    assert main(arguments) == 0
    assert state(tmp_path / "parts").parameters.tobytes() == state(tmp_path / "whole").parameters.tobytes()


def test_weights_that_do_not_fit_the_sums_are_refused(place, tmp_path, capsys):
    """A class so heavy that its losses might not fit is refused before the first step, with what would fit."""
    assert main(options(place, tmp_path / "run", "--class-weights", "1e-9,1e-9,1e-9,1", "--batch-size", "32768")) == 2
    error = capsys.readouterr().err
    # The mean over 120 images, 10 of class 3, is 1: class 3 weighs 12. 2^22 / 32768 / 32 = 4.
    assert "--class-weights: a class weighs 12 times the mean, at most 4 times fits the sums of 32768 images" in error
    assert error.count("\n") == 1


def test_damaged_weights_in_a_checkpoint_are_refused(place, tmp_path):
    """A checkpoint whose class weights do not fit its classes is told from a good one."""
    assert main(options(place, tmp_path / "run", "--class-weights", "1,2,3,4", "--epochs", "1")) == 0
    saved = state(tmp_path / "run")
    for wrong in (np.ones(3, np.float32), -np.ones(4, np.float32)):
        saved.arrays["class_weights"] = wrong
        with pytest.raises(checkpoint.CheckpointError, match="its class weights cannot be"):
            checkpoint.from_bytes(checkpoint.to_bytes(saved), "x.ckpt")
