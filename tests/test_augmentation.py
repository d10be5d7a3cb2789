"""The option --augment: how it is read, refused and told; whole runs with it."""

from __future__ import annotations

import augmentation_reference
import numpy as np
import programs
import pytest
import small_data
from programs import needs_mpi
from test_engine import addresses

from lenet_mp import engine
from lenet_mp.augmentation import Augmentation, parse
from lenet_mp.data.shards import open_dataset
from lenet_mp.errors import UsageError
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.parallel.comm import Solo
from lenet_mp.plan import COUNTS, LOSS, QUANTUM, Plan, fill
from lenet_mp.train import main
from lenet_mp.training import checkpoint, evaluation
from lenet_mp.training.loader import Loader

CHANGES = "flip,crop=3,jitter=0.2,erase"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("none", {}),
        ("flip", {"flip": 0.5}),
        ("flip=25%", {"flip": 0.25}),
        ("crop", {"crop": 0.125}),
        ("crop=8", {"crop": 8}),
        ("crop=1", {"crop": 1}),
        ("crop=12%", {"crop": 0.12}),
        ("jitter", {"brightness": 0.4, "contrast": 0.4}),
        ("jitter=0.2", {"brightness": 0.2, "contrast": 0.2}),
        ("jitter=.2:0", {"brightness": 0.2, "contrast": 0}),
        ("erase", {"erase": 0.5, "erase_area": 0.33}),
        ("erase=1:20%", {"erase": 1, "erase_area": 0.2}),
        ("flip+crop=8", {"flip": 0.5, "crop": 8}),
        ("erase=0.25, flip", {"erase": 0.25, "erase_area": 0.33, "flip": 0.5}),
    ],
)
def test_kinds_and_parameters(text, fields):
    """Each kind alone has torchvision's usual parameters; given ones win; shares may be in per cent."""
    assert parse(text) == Augmentation(**fields)
    assert bool(parse(text)) == (text != "none")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no ''"),
        ("mirror", "has no 'mirror': write none, or some of flip, crop, jitter, erase"),
        ("flip,", "has no ''"),
        ("flip,flip=1", "names flip twice"),
        ("none,flip", "has no 'none'"),
        ("flip=2", "flip: '2' must be a number from 0 to 1"),
        ("flip=", "flip: '' must be"),
        ("flip=-1", "flip: '-1' must be"),
        ("flip=nan", "flip: 'nan' must be"),
        ("flip=1:1", "flip: 'flip=1:1' has too many values"),
        ("crop=0", "crop: '0' must be whole pixels, or a share such as 12%"),
        ("crop=0.5", "crop: '0.5' must be whole pixels"),
        ("crop=100%", "crop: '100%' must be"),
        ("crop=1000000", "crop: '1000000' must be"),
        ("jitter=1.5", "jitter: '1.5' must be a number from 0 to 1"),
        ("erase=0.5:0.01", "erase: '0.01' must be a number from 0.02 to 1"),
        ("erase=1:1:1", "erase: 'erase=1:1:1' has too many values"),
        ("erase=\u0661", "must be a number"),
    ],
)
def test_what_cannot_be_read_is_told(text, complaint):
    """A wrong kind or value is one line that says what was given and what may be."""
    with pytest.raises(UsageError, match=complaint) as error:
        parse(text)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("--augment ")


def test_padding_is_in_pixels_or_in_shares():
    """A share is of each side, rounded down; pixels are the same both ways, and fewer than the image has."""
    assert parse("crop").padding((250, 32, 3)) == (31, 4)
    assert parse("crop=8").padding((250, 32, 3)) == (8, 8)
    assert parse("crop=99%").padding((1, 2, 1)) == (0, 1)
    with pytest.raises(UsageError, match="crop=32 could leave nothing of an image of 250 x 32 pixels"):
        parse("crop=32").padding((250, 32, 3))


def test_description():
    """The first lines of a run say all of it in words."""
    assert parse("none").describe((9, 9, 1)) == ""
    assert parse("flip,crop=8,jitter=0.4:0.2,erase=0.5").describe((250, 250, 3)) == (
        "mirrored with probability 0.5, cropped at random out of a border of 8 pixels, brightness times 0.6 to 1.4, "
        "contrast times 0.8 to 1.2, 0.02 to 0.33 of its area erased with probability 0.5"
    )


def test_sample_numbers_are_places_in_the_data_set():
    """A sample's number counts through the shards in their own order, whatever the epoch's."""
    loader = Loader([5, 9, 3], batch_size=4, streams=2, seed=1)
    firsts = np.array([0, 5, 14])
    seen = []
    for step in range(loader.steps):
        part = loader.part(2, step)
        np.testing.assert_array_equal(part.samples, firsts[part.shards] + part.rows)
        seen += part.samples.tolist()
    assert sorted(seen) == list(range(17))


# --- whole runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with data and a model, and the run of one process and one thread with augmentation."""
    folder = tmp_path_factory.mktemp("augment")
    small_data.write_shards(folder / "data", counts=(20, 21, 22, 19, 20, 7, 20))
    small_data.write_model(folder / "small.toml")
    done = programs.train(*options(folder, folder / "alone"), OMP_NUM_THREADS=1)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def options(place, out, *more):
    common = ["--model", place / "small.toml", "--data", place / "data", "--batch-size", 40, "--lr", "0.002"]
    return [str(a) for a in (*common, "--epochs", 3, "--augment", CHANGES, "--progress", "off", "--out", out, *more)]


def weights(run):
    saved = checkpoint.load(run / "last.ckpt")
    return saved.parameters.tobytes() + saved.arrays["velocity"].tobytes()


def test_it_is_told_and_kept(place):
    """The run prints what it does to images, and keeps the option in config.toml and in its checkpoints."""
    assert "augmentation: mirrored with probability 0.5, cropped" in (place / "printed.txt").read_text()
    assert f'augment = "{CHANGES}"' in (place / "alone" / "config.toml").read_text()
    assert checkpoint.load(place / "alone" / "last.ckpt").config["augment"] == CHANGES


def test_weights_differ_from_those_without(place, tmp_path):
    """The augmentation takes part: another seed, and none at all, end elsewhere; ``none`` is what is not said."""
    assert main(options(place, tmp_path / "none", "--augment", "none")) == 0
    plain = [word for word in options(place, tmp_path / "plain") if word not in ("--augment", CHANGES)]
    assert main(plain) == 0
    assert weights(tmp_path / "none") == weights(tmp_path / "plain")
    assert weights(tmp_path / "none") != weights(place / "alone")


@needs_mpi
@pytest.mark.parametrize(("ranks", "threads"), [(2, 1), (3, 2)])
@pytest.mark.parametrize("isa", [engine.available()[0], engine.available()[-1]])
def test_the_same_weights_on_any_ranks_threads_and_instruction_sets(place, tmp_path, ranks, threads, isa):
    """Augmentation goes by sample, so that where a sample is worked does not matter."""
    done = programs.train(
        *options(place, tmp_path / "run"), ranks=ranks, OMP_NUM_THREADS=threads, LENET_MP_ISA=isa
    )
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "run") == weights(place / "alone")


STOPPING = """
import os, signal
from lenet_mp.training.recorder import RunRecorder
show = RunRecorder.step_done
def step_done(self, trainer):
    show(self, trainer)
    if (trainer.epoch, trainer.step) == (1, 1):
        os.kill(os.getpid(), signal.SIGTERM)
RunRecorder.step_done = step_done
from lenet_mp.train import main
raise SystemExit(main())
"""


def test_a_run_stopped_in_mid_epoch_goes_on_to_the_same_weights(place, tmp_path):
    """Stopped after a step of the second epoch and resumed, a run ends at the bits of one that was never stopped."""
    out = tmp_path / "run"
    stopped = programs.run("-c", STOPPING, *options(place, out))
    assert stopped.returncode == 143, stopped.stderr
    saved = checkpoint.load(out / "last.ckpt")
    assert saved.epoch == 1
    assert 0 < saved.step < 4
    assert main(["--resume", str(out), "--progress", "off"]) == 0
    assert weights(out) == weights(place / "alone")


def test_a_resumed_run_keeps_its_augmentation(place, tmp_path, capsys):
    """Another augmentation would make it another run."""
    assert main(options(place, tmp_path / "run", "--epochs", 1)) == 0
    assert main(["--resume", str(tmp_path / "run"), "--epochs", "2", "--augment", "flip"]) == 2
    assert "--augment flip does not fit the saved run" in capsys.readouterr().err


def test_evaluation_sees_the_images_as_they_are(place):
    """Training accuracy and validation figures of the last row are those of the stored images."""
    saved = checkpoint.load(place / "alone" / "last.ckpt")
    scale, offset = scale_and_offset(saved.normalize)
    plan = Plan(saved.network.layers, scale=scale, offset=offset, threads=1)
    data = open_dataset(place / "data")
    for name, splits in (("train_top1", data.train), ("val_top1", [data.validation])):
        assert saved.history[-1][name] == evaluation.evaluate(plan, saved.parameters, splits, Solo()).top1


def test_training_sees_what_the_definition_says(place, tmp_path):
    """The first step's loss is that of images changed by seed, epoch 1 and number in the data set."""
    whole = ["--batch-size", 129, "--epochs", 1, "--seed", 6, "--train-accuracy", "running"]
    assert main(options(place, tmp_path / "run", *whole)) == 0
    saved = checkpoint.load(tmp_path / "run" / "last.ckpt")
    scale, offset = scale_and_offset(saved.normalize)
    splits = open_dataset(place / "data").train
    images = np.concatenate([split.images for split in splits])
    labels = np.concatenate([split.labels for split in splits]).astype(np.int32)
    for number, image in enumerate(images):
        images[number] = augmentation_reference.augment(image, parse(CHANGES), 6, 1, number, fill(scale, offset))
    plan = Plan(saved.network.layers, scale=scale, offset=offset, threads=1)
    counts = np.empty(COUNTS, np.int64)
    plan.evaluate(saved.network.initialise(6), addresses(images), labels, totals=counts)
    assert saved.history[0]["loss"] == counts[LOSS] * QUANTUM / 129


def test_too_large_a_crop_is_a_usage_error(place, tmp_path, capsys):
    """What could leave nothing of an image is refused before anything is written."""
    assert main(options(place, tmp_path / "run", "--augment", "crop=20")) == 2
    assert "crop=20 could leave nothing of an image of 20 x 20 pixels" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
