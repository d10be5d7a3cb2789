"""Shards of JPEG images: prepared, read back, damaged."""

import io

import h5py
import numpy as np
import pytest
from PIL import Image

from lenet_mp.data import jpeg_store, shards
from lenet_mp.errors import DataError
from lenet_mp.prepare import main as prepare
from lenet_mp.verify import main as verify
from tests.pictures import pixels, write_lists
from tests.small_data import unseal


def make(folder, out, *options):
    lists = [folder / f"{name}.txt" for name in ("train", "val", "test")]
    arguments = ["--lists", *map(str, lists), "--out", str(folder / out), "--size", "40x48", "--shard-size", "4"]
    assert prepare([*arguments, *options]) == 0
    return shards.open_dataset(folder / out)


@pytest.fixture
def both(tmp_path):
    """The same images stored as pixels and as JPEG."""
    write_lists(tmp_path)
    return make(tmp_path, "raw"), make(tmp_path, "jpeg", "--store", "jpeg", "--quality", "90")


def parts(dataset):
    return [*dataset.train, dataset.validation, dataset.test]


@pytest.mark.parametrize("channels", ["1", "3"])
def test_what_is_read_is_what_pillow_decodes(tmp_path, channels):
    """Every image that comes out is the resized one after JPEG of the quality asked for, its label beside it."""
    write_lists(tmp_path)
    raw = make(tmp_path, "raw", "--channels", channels)
    stored = make(tmp_path, "jpeg", "--channels", channels, "--store", "jpeg", "--quality", "70")
    assert stored.image_shape == raw.image_shape
    for one, other in zip(parts(stored), parts(raw), strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert not one.mapped
        assert not one.images.flags.writeable
        for found, image in zip(one.images, other.images, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image[:, :, 0] if channels == "1" else image).save(buffer, "JPEG", quality=70)
            assert np.array_equal(found, np.asarray(Image.open(buffer)).reshape(image.shape))


def test_prefetch_and_release(both):
    """Images come back after release, and views handed out before stay valid."""
    split = both[1].train[0]
    split.prefetch()
    view = split.images[0]
    expected = view.copy()
    split.release()
    assert np.array_equal(view, expected)
    split.prefetch()
    split.release()
    assert np.array_equal(split.images[0], expected)


def test_verify_knows_them(both, capsys):
    """Verification checks hashes and the statistics of the decoded pixels, and draws them."""
    assert verify([str(both[1].folder)]) == 0
    assert "whole" in capsys.readouterr().out
    assert both[1].manifest.extra["mean"] != both[0].manifest.extra["mean"]


def test_bytes_do_not_depend_on_workers(both, tmp_path):
    """Several processes write the same JPEG shards as one."""
    other = make(tmp_path, "again", "--store", "jpeg", "--workers", "3")
    assert other.fingerprint == both[1].fingerprint


def change(dataset, name, function):
    """Replace a dataset of the first shard, and take it for a shard of the same size."""
    path = dataset.train[0].path
    with h5py.File(path, "a") as file:
        data = function(file[name][...])
        del file[name]
        file[name] = data
    return path


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("offset_train", lambda ends: ends[:-1]),
        ("offset_train", lambda ends: ends[::-1]),
        ("offset_train", lambda ends: ends + 1),
        ("offset_train", lambda ends: ends * 0),
        ("offset_train", lambda ends: ends[:, None]),
        ("offset_train", lambda ends: ends[:1]),
        ("jpeg_train", lambda data: data[:-1]),
        ("jpeg_train", lambda data: data[None]),
        ("jpeg_train", lambda data: data.astype(np.uint16)),
    ],
)
def test_offsets_that_lie(both, name, function):
    """Offsets that do not part the bytes into as many images as there are labels are refused on opening."""
    change(both[1], name, function)
    with pytest.raises(DataError, match=r"0.h5: (jpeg_train and offset_train do not fit|label_train has shape)"):
        shards.open_dataset(both[1].folder)


def test_missing_offsets_and_bad_shape(both):
    """Without offsets, or with an image shape that the bytes cannot fill, a JPEG shard is refused."""
    path = both[1].train[0].path
    with h5py.File(path, "a") as file:
        file.attrs.modify("image_shape", [40_000, 40_000, 3])
    with pytest.raises(DataError, match="do not fit together"):
        shards.open_dataset(both[1].folder)
    with h5py.File(path, "a") as file:
        file.attrs.modify("image_shape", [40, 48, 3])
        del file["offset_train"]
    with pytest.raises(DataError, match="do not fit together"):
        shards.open_dataset(both[1].folder)


def test_a_damaged_image_is_named(both):
    """Bytes that are no JPEG image of the right size are an error with file and number when they are decoded."""
    folder = both[1].folder
    unseal(folder)
    split = shards.open_dataset(folder).train[0]
    with h5py.File(split.path, "r+") as file:
        start, end = file["offset_train"][1:3]
        file["jpeg_train"][start:end] = 0
    with pytest.raises(DataError, match=r"0.h5: image 1 cannot be decoded"):
        _ = split.images


@pytest.mark.parametrize("shape", [(40, 48, 1), (48, 40, 3), (40, 49, 3)])
def test_decoding_checks_the_shape(shape):
    """An image of another size or number of channels is refused before it is decoded."""
    data = jpeg_store.encode(Image.fromarray(pixels(0, 40, 48)), 90)
    assert jpeg_store.decode(data, (40, 48, 3)).size == (48, 40)
    with pytest.raises(DataError, match="expected"):
        jpeg_store.decode(data, shape)


def test_room_for_noise():
    """The room set aside for an encoded image suffices for noise at the best quality."""
    for shape in ((1, 1), (8, 8), (250, 250)):
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        encoded = jpeg_store.encode(Image.fromarray(noise), 95)
        assert len(encoded) <= jpeg_store.most_bytes(noise.nbytes)
