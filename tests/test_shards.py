"""Reading data folders: ours, the original program's, damaged ones and hostile ones."""

import errno
import gc
import json
import os
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest

from lenet_mp.data import manifest, shards
from lenet_mp.data.manifest import Manifest
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.errors import DataError, OutputError

SHAPE = (6, 5, 3)


def samples(count, seed=0, shape=SHAPE, classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, classes, count)


def write_original(folder, counts=(5, 5, 2), held_out=(3, 2), label_type="int64", **storage):
    """Write shards as the original program did, with labels of any type and any storage; return the images."""
    written = {}
    for number, count in enumerate(counts):
        images, labels = samples(count, number)
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file.create_dataset("image_train", data=images, **storage)
            file.create_dataset("label_train", data=labels.astype(label_type))
        written[number] = images, labels
    if held_out:
        with h5py.File(folder / "data.h5", "w") as file:
            for seed, name, count in zip((90, 91), ("val", "test"), held_out, strict=True):
                images, labels = samples(count, seed)
                file.create_dataset(f"image_{name}", data=images, **storage)
                file.create_dataset(f"label_{name}", data=labels.astype(label_type))
                written[name] = images, labels
    return written


def write_ours(folder, counts=(4, 4, 1), held_out=(3, 2)):
    """Write a data set with a manifest; return the images."""
    written = {number: samples(count, number) for number, count in enumerate(counts)}
    kinds = {"image_shape": SHAPE, "channel_order": "RGB"}
    entries = [
        write_shard(folder / f"{number}.h5", [("train", images, labels.astype(np.int32))], **kinds)
        for number, (images, labels) in written.items()
    ]
    written |= {"val": samples(held_out[0], 90), "test": samples(held_out[1], 91)}
    blocks = [(split, *written[name]) for split, name in (("validation", "val"), ("test", "test"))]
    entries.append(write_shard(folder / "data.h5", blocks, **kinds))
    made = Manifest(SHAPE, "RGB", ("a", "b", "c", "d"), tuple(entries))
    (folder / "manifest.json").write_bytes(made.encode())
    return written


def assert_holds(dataset, written):
    found = [*dataset.train, dataset.validation, dataset.test]
    assert len(found) == len(written)
    for split, (images, labels) in zip(found, written.values(), strict=True):
        assert split.count == len(labels)
        assert split.images.dtype == np.uint8
        assert np.array_equal(split.images, images)
        assert split.labels.dtype == np.int32
        assert np.array_equal(split.labels, labels)


def test_our_data_set_comes_back(tmp_path):
    """What was written with a manifest is read back, mapped and read-only, with its names and order."""
    written = write_ours(tmp_path)
    dataset = shards.open_dataset(tmp_path)
    assert_holds(dataset, written)
    assert dataset.image_shape == SHAPE
    assert dataset.channel_order == "RGB"
    assert dataset.class_names == ("a", "b", "c", "d")
    assert dataset.classes == 4
    for split in (*dataset.train, dataset.validation, dataset.test):
        assert split.mapped
        assert not split.images.flags.writeable
        assert not split.labels.flags.writeable


def test_plain_h5py_reads_our_shards(tmp_path):
    """A shard is an ordinary H5 file with the original's names, contiguous, without times in it."""
    written = write_ours(tmp_path)
    with h5py.File(tmp_path / "1.h5") as file:
        assert sorted(file) == ["image_train", "label_train"]
        assert np.array_equal(file["image_train"][...], written[1][0])
        assert np.array_equal(file["label_train"][...], written[1][1])
        assert file["image_train"].chunks is None
        assert not any(file[name].id.get_create_plist().get_obj_track_times() for name in file)
    with h5py.File(tmp_path / "data.h5") as file:
        assert sorted(file) == ["image_test", "image_val", "label_test", "label_val"]
        assert np.array_equal(file["image_test"][...], written["test"][0])


def test_blocks_do_not_show_in_the_file(tmp_path):
    """A file's bytes depend on its samples, not on the blocks they came in; empty splits and blocks are left out."""
    images, labels = samples(7)
    kinds = {"image_shape": SHAPE, "channel_order": "RGB"}
    whole = write_shard(tmp_path / "data.h5", [("validation", images, labels), ("test", images, labels)], **kinds)
    parts = [
        ("validation", images[:3], labels[:3]), ("validation", images[:0], labels[:0]),
        ("validation", images[3:], labels[3:]), ("test", images[:1], labels[:1]), ("test", images[1:], labels[1:]),
    ]  # fmt: skip
    assert write_shard(tmp_path / "data.h5", parts, **kinds) == whole
    half = [("validation", images[:0], labels[:0]), ("test", images, labels)]
    only = write_shard(tmp_path / "data.h5", half, **kinds)
    assert only.counts == {"test": 7}


@pytest.mark.parametrize("label_type", ["uint8", "int64", ">i4", "<u2", "int8", ">u8"])
def test_originals_shards(tmp_path, label_type):
    """The original's folder is read with any integer label type; channels are BGR, classes are called by number."""
    written = write_original(tmp_path, label_type=label_type)
    dataset = shards.open_dataset(tmp_path)
    assert_holds(dataset, written)
    assert dataset.channel_order == "BGR"
    assert dataset.class_names == ("0", "1", "2", "3")
    assert dataset.manifest is None
    assert dataset.train[0].mapped


@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (2, *SHAPE)},
        {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": True, "compression": "lzf"},
    ],
)
def test_chunked_and_compressed_shards(tmp_path, storage):
    """Chunked and compressed shards give the same as contiguous ones, only through h5py."""
    written = write_original(tmp_path, **storage)
    dataset = shards.open_dataset(tmp_path)
    dataset.train[1].prefetch()
    assert_holds(dataset, written)
    assert not dataset.train[0].mapped
    assert not dataset.train[0].images.flags.writeable


def test_shards_are_in_the_order_of_their_numbers(tmp_path):
    """10.h5 comes after 9.h5, not after 1.h5."""
    write_original(tmp_path, counts=range(1, 13))
    assert [split.count for split in shards.open_dataset(tmp_path).train] == list(range(1, 13))


def test_one_column_labels_and_one_channel(tmp_path):
    """Labels of shape (n, 1) and greyscale images are fine; without data.h5 there is no validation and no test."""
    images, labels = samples(5, shape=(4, 4, 1))
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["image_train"] = images
        file["label_train"] = labels[:, None]
    dataset = shards.open_dataset(tmp_path)
    assert dataset.channel_order == "L"
    assert dataset.validation is None
    assert dataset.test is None
    assert np.array_equal(dataset.train[0].labels, labels)


def test_a_user_block_before_the_file(tmp_path):
    """A mapped image starts where HDF5 says, also in a file with a user block."""
    images, labels = samples(4)
    with h5py.File(tmp_path / "0.h5", "w", userblock_size=1024) as file:
        file["image_train"] = images
        file["label_train"] = labels
    split = shards.open_dataset(tmp_path).train[0]
    assert split.mapped
    assert np.array_equal(split.images, images)


@pytest.mark.parametrize("storage", [{}, {"chunks": (2, *SHAPE)}])
def test_release_and_prefetch(tmp_path, storage):
    """Views stay valid after release, and the images come back afterwards."""
    written = write_original(tmp_path, **storage)
    split = shards.open_dataset(tmp_path).train[0]
    split.prefetch()
    view = split.images[1]
    split.release()
    split.release()
    gc.collect()
    assert np.array_equal(view, written[0][0][1])
    assert np.array_equal(split.images, written[0][0])


def test_fingerprints(tmp_path):
    """Equal data sets have equal fingerprints wherever they are; other labels, counts or names give others."""
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    write_ours(folders[0])
    write_ours(folders[1])
    write_ours(folders[2], counts=(4, 5))
    write_original(folders[3])
    first, second, third, fourth = (shards.open_dataset(folder).fingerprint for folder in folders)
    assert first == second
    assert len({first, third, fourth}) == 3
    images, labels = samples(5)
    with h5py.File(folders[3] / "0.h5", "w") as file:
        file["image_train"] = images
        file["label_train"] = (labels + 1) % 4
    assert shards.open_dataset(folders[3]).fingerprint != fourth


def change(path, **datasets):
    """Rewrite an H5 file with the given datasets, keeping the others; None removes one."""
    with h5py.File(path) as file:
        kept = {name: file[name][...] for name in file}
    with h5py.File(path, "w") as file:
        for name, data in (kept | datasets).items():
            if data is not None:
                file[name] = data


IMAGES, LABELS = samples(5)


@pytest.mark.parametrize(
    ("datasets", "reason"),
    [
        ({"image_train": None}, "'image_train' is missing"),
        ({"label_train": None}, "'label_train' is missing"),
        ({"image_train": None, "label_train": None}, "holds no sample"),
        ({"image_train": IMAGES[:0], "label_train": LABELS[:0]}, "holds no sample"),
        ({"image_train": IMAGES.astype("uint16")}, "dtype uint16, expected uint8"),
        ({"image_train": IMAGES.astype(">f4")}, "dtype >f4, not integers"),
        ({"image_train": IMAGES[0]}, r"shape \(6, 5, 3\), expected \(samples"),
        ({"image_train": IMAGES[..., :2]}, "1 or 3 channels"),
        ({"label_train": LABELS[:4]}, r"shape \(4,\) for 5 images"),
        ({"label_train": LABELS * 1.0}, "dtype float64, not integers"),
        ({"label_train": LABELS - 9}, "holds -[0-9] at sample 0"),
        ({"label_train": LABELS + 70_000}, "holds 7[0-9]* at sample 0"),
        ({"image_train": np.zeros((5, 6, 6, 3), np.uint8)}, "6 x 5 x 3, but .* has 6 x 6 x 3"),
    ],
)
def test_wrong_contents(tmp_path, datasets, reason):
    """Missing, empty, ill-typed, ill-shaped and ill-labelled datasets are one-line errors that name the file."""
    write_original(tmp_path)
    change(tmp_path / "0.h5", **datasets)
    with pytest.raises(DataError, match=reason) as caught:
        shards.open_dataset(tmp_path)
    assert ".h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_data_sets(tmp_path):
    """A missing folder, an empty one and one with a gap between its shards are clear errors."""
    with pytest.raises(DataError, match=r"nowhere: no such folder; prepare a data set"):
        shards.open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no manifest.json and no 0.h5"):
        shards.open_dataset(tmp_path)
    write_original(tmp_path)
    (tmp_path / "1.h5").unlink()
    with pytest.raises(DataError, match=r"1.h5 is missing, 2.h5 is there"):
        shards.open_dataset(tmp_path)


def test_an_unfinished_preparation_is_told(tmp_path):
    """Our shards without their manifest are not taken for the original's."""
    write_ours(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"no manifest.json, so the preparation did not finish"):
        shards.open_dataset(tmp_path)


def test_stale_files_are_not_read(tmp_path):
    """Shards that the manifest does not name are ignored."""
    written = write_ours(tmp_path)
    os.link(tmp_path / "0.h5", tmp_path / "7.h5")
    assert_holds(shards.open_dataset(tmp_path), written)


def test_shards_that_are_not_the_manifests(tmp_path):
    """A shard with other counts or size than the manifest says, or a missing one, is named."""
    write_ours(tmp_path)
    os.link(tmp_path / "2.h5", tmp_path / "x")
    (tmp_path / "x").replace(tmp_path / "1.h5")
    with pytest.raises(DataError, match=r"1.h5: holds .*1.* but manifest.json says .*4"):
        shards.open_dataset(tmp_path)
    (tmp_path / "1.h5").unlink()
    with pytest.raises(DataError, match=r"1.h5: no such file"):
        shards.open_dataset(tmp_path)


def test_a_label_beyond_the_classes(tmp_path):
    """A label without a class name is an error with shard, label and sample."""
    write_ours(tmp_path)
    made = manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_bytes(replace(made, class_names=("a", "b")).encode())
    with pytest.raises(DataError, match=r"label 3 at sample [0-9]+, but there are 2 classes"):
        shards.open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "other"), ("version", 2), ("image_shape", [6, 5]), ("image_shape", [6, 5, 2]),
        ("image_shape", [6, True, 3]), ("channel_order", "GBR"), ("class_names", []), ("class_names", [1]),
        ("shards", []), ("shards", [{"name": "../0.h5", "counts": {"train": 1}, "bytes": 1, "sha256": ""}]),
        ("shards", [{"name": "/etc/passwd", "counts": {"train": 1}, "bytes": 1, "sha256": ""}]),
        ("shards", [{"name": "0.h5", "counts": {"test": 1}, "bytes": 1, "sha256": ""}]),
        ("shards", [{"name": "0.h5", "counts": {"train": 0}, "bytes": 1, "sha256": ""}]),
        ("shards", [{"name": "0.h5", "counts": {"train": 1}, "bytes": 1, "sha256": ""}] * 2),
        ("rejected", None), ("options", []), ("extra", 3),
    ],
)  # fmt: skip
def test_bad_manifests(tmp_path, field, value):
    """Every field of a manifest is checked, names of shards above all: none leads out of the folder."""
    write_ours(tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(document | {field: value}))
    with pytest.raises(DataError, match=rf"manifest.json: .*{field}|version 2"):
        shards.open_dataset(tmp_path)


def test_a_manifest_of_millions_of_classes(tmp_path):
    """Names beyond what there may be are told at once, and not carried into every list, plot and checkpoint."""
    write_ours(tmp_path)
    made = manifest.load(tmp_path)
    names = tuple(f"class {number}" for number in range(1_000_000))
    (tmp_path / "manifest.json").write_bytes(replace(made, class_names=names).encode())
    with pytest.raises(DataError, match=r"manifest.json: class_names: 1,000,000 classes, more than the 65,536"):
        shards.open_dataset(tmp_path)
    (tmp_path / "manifest.json").write_bytes(replace(made, class_names=names[:65_536]).encode())
    assert shards.open_dataset(tmp_path).classes == 65_536


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", '{"format": "lenet_mp data set"', "\xff\xfe"])
def test_damaged_manifests(tmp_path, text):
    """A cut, nested or foreign manifest is an error, not a folder of the original's."""
    write_ours(tmp_path)
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"manifest.json: "):
        shards.open_dataset(tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path):
    """Writing where it is impossible is an OutputError and leaves no file behind."""
    images, labels = samples(3)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_shard(tmp_path / "file" / "0.h5", [("train", images, labels)], image_shape=SHAPE, channel_order="RGB")
    with pytest.raises(OutputError):
        write_shard(tmp_path / "no" / "0.h5", [("train", images, labels)], image_shape=SHAPE, channel_order="RGB")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_reading_in_a_background_thread(tmp_path):
    """Splits can be fetched from another thread than the one that opened them."""
    written = write_original(tmp_path, chunks=(1, *SHAPE))
    dataset = shards.open_dataset(tmp_path)
    found = []
    thread = threading.Thread(target=lambda: found.append(dataset.train[2].images))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], written[2][0])


@pytest.mark.parametrize("how", ["rewritten", "replaced", "removed"])
def test_changes_while_in_use_are_noticed(tmp_path, how):
    """A shard that is rewritten, replaced or removed after it was opened is noticed when asked for."""
    write_ours(tmp_path)
    dataset = shards.open_dataset(tmp_path)
    dataset.check_unchanged()
    path = tmp_path / "data.h5"
    if how == "rewritten":
        os.utime(path, ns=(1, 1))
    elif how == "replaced":
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"data.h5: was changed while in use"):
        dataset.check_unchanged()


def test_a_disk_that_fails_is_no_bad_data(tmp_path, monkeypatch):
    """Where the system cannot read the disk, that is told as such, and not taken for a damaged file."""
    write_ours(tmp_path)
    split = shards.open_dataset(tmp_path).train[0]

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("mmap.mmap", fail)
    with pytest.raises(OutputError, match=r"0\.h5: cannot be mapped \(Input/output error\); check the disk"):
        split.images[0]
