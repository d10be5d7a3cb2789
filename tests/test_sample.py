"""The sample of Fashion-MNIST that comes with the package."""

import subprocess
import sys
from importlib import resources

import numpy as np
from PIL import Image

from lenet_mp.data import sample, shards


def test_it_is_small_and_says_its_licence():
    """The data is one file below 3 MB, and the notice that its licence asks for lies beside it."""
    folder = resources.files(sample)
    assert len(folder.joinpath("fashion-mnist.npz").read_bytes()) < 3_000_000
    notice = folder.joinpath("LICENSE").read_text()
    assert "Copyright © 2017 Zalando SE" in notice
    assert "The above copyright notice and this permission notice shall be included" in notice


def test_it_is_stratified_and_disjoint():
    """Every class has the same number of images in every split, and no image is in two splits."""
    arrays = sample.load()
    assert {split: len(labels) for split, (_, labels) in arrays.items()} == {
        "train": 5300,
        "validation": 500,
        "test": 500,
    }
    seen = {}
    for split, (images, labels) in arrays.items():
        assert images.shape == (len(labels), 28, 28)
        assert len(set(np.bincount(labels))) == 1
        assert len(np.bincount(labels)) == len(sample.CLASS_NAMES)
        seen[split] = {image.tobytes() for image in images}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]


def test_it_is_prepared_once(tmp_path, capsys):
    """The first call prepares it and says so in one line with place and size; the second finds it as it is."""
    folder = sample.prepare(tmp_path, size=32)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert str(folder) in err
    assert "6 MB" in err  # 6,300 * 32 * 32 bytes
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    assert sample.prepare(tmp_path, size=32) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")} == before


def test_its_shards_hold_the_images(tmp_path):
    """The prepared images are the sample's, enlarged by Pillow, in shards of 500 with class names."""
    dataset = shards.open_dataset(sample.prepare(tmp_path, size=32))
    assert [split.count for split in dataset.train] == [500] * 10 + [300]
    assert dataset.image_shape == (32, 32, 1)
    assert dataset.class_names == sample.CLASS_NAMES
    images, labels = sample.load()["test"]
    assert np.array_equal(dataset.test.labels, labels)
    for number in range(0, 500, 50):
        expected = Image.fromarray(images[number]).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.array_equal(dataset.test.images[number, :, :, 0], np.asarray(expected))
    train = np.concatenate([split.images for split in dataset.train]).astype(float)
    assert abs(dataset.manifest.extra["mean"][0] - train.mean()) < 1e-6  # rounded to six digits
    assert abs(dataset.manifest.extra["std"][0] - train.std()) < 1e-6
    assert len(set(dataset.train[0].labels)) == 10  # shuffled: no shard holds a single class


def test_at_the_models_size_it_stays_below_400_mb():
    """At 250 x 250 the cache takes less than 400 MB, headers included."""
    images = sum(len(labels) for _, labels in sample.load().values())
    headers = 12 * 65_536  # 11 shards and data.h5
    assert images * 250 * 250 + headers < 400e6


def test_a_damaged_cache_is_made_again(tmp_path):
    """A cache that lost a shard, or was cut short in the making, is prepared anew."""
    folder = sample.prepare(tmp_path, size=8)
    whole = {path.name: path.read_bytes() for path in folder.glob("*.[hj]*")}
    (folder / "3.h5").unlink()
    sample.prepare(tmp_path, size=8)
    (folder / "manifest.json").unlink()
    sample.prepare(tmp_path, size=8)
    assert {path.name: path.read_bytes() for path in folder.glob("*.[hj]*")} == whole


def test_two_processes_at_once(tmp_path):
    """Two processes that want it at the same time both end with a complete data set; one makes it."""
    code = "import sys; from pathlib import Path; from lenet_mp.data import sample, shards;"
    code += "shards.open_dataset(sample.prepare(Path(sys.argv[1]), size=16))"
    both = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("preparing" in text for text in said) == [False, True]


def test_the_cache_is_where_the_desktop_keeps_caches(monkeypatch, tmp_path):
    """The default place follows XDG_CACHE_HOME, and ~/.cache where that is not set or not absolute."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sample.cache_root() == tmp_path / "lenet_mp"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert sample.cache_root() == tmp_path / "home" / ".cache" / "lenet_mp"
