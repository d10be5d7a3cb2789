"""H5 files that try to do harm: each is refused before anything of it is used."""

import fcntl
import os
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hostile_h5 import HOSTILE, IMAGES, LABELS, SHAPE, external_link

from lenet_mp.data import shards
from lenet_mp.errors import DataError


@pytest.mark.parametrize("build", HOSTILE, ids=lambda build: build.__name__)
def test_hostile_files_are_refused(tmp_path, build):
    """Links, outside storage, foreign filters and types, and sizes that the file cannot hold are refused by name."""
    folder = tmp_path / "data"
    folder.mkdir()
    with h5py.File(folder / "0.h5", "w") as file:
        build(file, tmp_path)
        file["label_train"] = LABELS
    with pytest.raises(DataError, match=r"0.h5: (dataset )?'?image_train") as caught:
        shards.open_dataset(folder)
    assert "\n" not in str(caught.value)


def test_numbers_of_a_few_bits(tmp_path):
    """Bytes of which HDF5 takes four bits for the number are read as HDF5 reads them, never mapped as they lie."""
    stored = h5py.h5t.STD_U8LE.copy()
    stored.set_precision(4)
    stored.set_offset(2)
    with h5py.File(tmp_path / "0.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        dataset = h5py.h5d.create(file.id, b"image_train", stored, h5py.h5s.create_simple(SHAPE), properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, IMAGES)
        file["label_train"] = LABELS
        expected = file["image_train"][...]
    split = shards.open_dataset(tmp_path).train[0]
    assert expected.max() < 16
    assert np.array_equal(split.images, expected)
    assert not split.mapped


@pytest.mark.parametrize(
    "value",
    ["6 5 3", np.zeros(10_000_000, np.int64), np.zeros(3), h5py.Empty("i4"), [6, 5, 2], [-6, -5, 3], [2**40, 2**40, 3]],
    ids=["text", "80 MB", "floats", "empty", "channels", "negative", "terabytes"],
)
def test_attributes_are_not_believed(tmp_path, value):
    """The image shape of a JPEG shard is refused, and not even read, unless it is three small integers that can be."""
    with h5py.File(tmp_path / "0.h5", "w", libver="latest") as file:
        file["jpeg_train"] = np.zeros(100, np.uint8)
        file["offset_train"] = np.arange(5) * 25
        file["label_train"] = LABELS
        file.attrs["image_shape"] = value
    with pytest.raises(DataError, match="jpeg_train and offset_train do not fit together"):
        shards.open_dataset(tmp_path)


def test_an_attribute_that_fills_the_memory(tmp_path):
    """HDF5 reads an attribute as a whole to tell its shape: one that is larger than any shard's facts is refused."""
    with h5py.File(tmp_path / "0.h5", "w", libver="latest") as file:
        file["jpeg_train"] = np.zeros(100, np.uint8)
        file["offset_train"] = np.arange(5) * 25
        file["label_train"] = LABELS
        file.attrs["image_shape"] = np.zeros(30_000_000, np.int64)
    with pytest.raises(DataError, match=r"0\.h5: damaged or not an H5 file"):
        shards.open_dataset(tmp_path)


def test_a_labels_link_is_refused_too(tmp_path):
    """The guard holds for every dataset, not for images alone."""
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["image_train"] = IMAGES
        file["label_train"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(DataError, match="'label_train' is a link"):
        shards.open_dataset(tmp_path)


def test_no_other_file_is_opened(tmp_path):
    """While a file with an external link is refused, the file it names is never opened."""
    with h5py.File(tmp_path / "0.h5", "w") as file:
        external_link(file, tmp_path)
        file["label_train"] = LABELS
    (tmp_path / "secret.h5").unlink()
    os.mkfifo(tmp_path / "secret.h5")  # to open it would wait for ever
    with pytest.raises(DataError, match="is a link"):
        shards.open_dataset(tmp_path)


def test_a_shard_that_is_no_regular_file(tmp_path):
    """A pipe called 0.h5 is refused without waiting for it."""
    os.mkfifo(tmp_path / "0.h5")
    with pytest.raises(DataError, match="not a regular file"):
        shards.open_dataset(tmp_path)


def test_truncated_files_are_refused_or_whole(tmp_path):
    """A shard cut anywhere is refused; none comes back with other pixels."""
    path = tmp_path / "0.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["image_train"] = IMAGES
        file["label_train"] = LABELS
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 13):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"0.h5: "):
            shards.open_dataset(tmp_path)


PIPELINES = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "all": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "checksum": {"fletcher32": True},
}


def write_chunked(path, images, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("image_train", data=images, chunks=(2, *images.shape[1:]), **options)
        file["label_train"] = np.arange(len(images))


@pytest.mark.parametrize("options", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("kind", ["noise", "flat", "stripes"])
def test_chunks_of_every_filter_are_read(tmp_path, options, kind):
    """Whatever the filters make of the images, they are measured rightly, and come back as they were written."""
    images = np.random.default_rng(1).integers(0, 256, (5, 40, 30, 3), np.uint8)
    if kind != "noise":
        images[:] = 7 if kind == "flat" else np.arange(30, dtype=np.uint8)[:, np.newaxis] // 3
        images[3, 17] = 9
    write_chunked(tmp_path / "0.h5", images, **options)
    np.testing.assert_array_equal(shards.open_dataset(tmp_path).train[0].images, images)


@pytest.mark.parametrize("options", list(PIPELINES.values())[1:], ids=list(PIPELINES)[1:])
@pytest.mark.parametrize("change", [-1, 1, 200], ids=["shorter", "longer", "much longer"])
def test_chunks_of_another_size_are_refused(tmp_path, options, change):
    """A chunk that unpacks to less or more than it should is refused before HDF5 shows what lies behind it."""
    size = 2 * IMAGES[0].size + change
    donor = tmp_path / "donor.h5"
    with h5py.File(donor, "w") as file:
        data = np.arange(size, dtype=np.uint8)
        packed = file.create_dataset("image_train", data=data, chunks=(size,), **options).id.read_direct_chunk((0,))[1]
    write_chunked(tmp_path / "0.h5", IMAGES, **options)
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file["image_train"].id.write_direct_chunk((2, 0, 0, 0), packed)
    donor.unlink()
    with pytest.raises(DataError, match=r"'/image_train' has a chunk at \(2, 0, 0, 0\) that is not of 180 bytes"):
        shards.open_dataset(tmp_path).train[0].images.sum()


def test_labels_in_chunks_are_measured_too(tmp_path):
    """The guard holds for labels, which are read when a file is opened."""
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["image_train"] = IMAGES
        file.create_dataset("label_train", data=LABELS, chunks=(4,)).id.write_direct_chunk((0,), b"\0" * 31)
    with pytest.raises(DataError, match="'/label_train' has a chunk at"):
        shards.open_dataset(tmp_path)


def test_missing_chunks_are_refused(tmp_path):
    """Where a chunk was never written HDF5 would show zeros, as if these were pixels."""
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file.create_dataset("image_train", SHAPE, np.uint8, chunks=(2, *SHAPE[1:]))[:2] = IMAGES[:2]
        file["label_train"] = LABELS
    with pytest.raises(DataError, match="'/image_train' lacks chunks"):
        shards.open_dataset(tmp_path).train[0].images.sum()


def test_a_chunk_without_its_filter(tmp_path):
    """A chunk that HDF5 stored as it is, because packing would not make it smaller, is measured as it is."""
    write_chunked(tmp_path / "0.h5", IMAGES, compression="gzip")
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file["image_train"].id.write_direct_chunk((2, 0, 0, 0), IMAGES[2:].tobytes(), filter_mask=1)
    np.testing.assert_array_equal(shards.open_dataset(tmp_path).train[0].images, IMAGES)


def test_the_limit_of_memory_is_taken_back(tmp_path):
    """Opening files, good and bad, leaves the process the memory that it had."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    write_chunked(tmp_path / "0.h5", IMAGES)
    shards.open_dataset(tmp_path)
    (tmp_path / "0.h5").write_bytes(b"no H5 file")
    with pytest.raises(DataError, match=r"0\.h5: damaged"):
        shards.open_dataset(tmp_path)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


MUTATE = """
import resource, sys
from pathlib import Path
import numpy as np
from lenet_mp.data import shards
from lenet_mp.errors import DataError
folder = Path(sys.argv[1])
data = (folder / "0.h5").read_bytes()
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
rng = np.random.default_rng(1)
refused = 0
for _ in range(400):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 6)):
        changed[place] = rng.integers(0, 256)
    (folder / "0.h5").write_bytes(changed)
    try:
        shards.open_dataset(folder).train[0].images.sum()
    except DataError:
        refused += 1
print(refused)
"""


def test_mutated_files_never_do_worse_than_an_error(tmp_path):
    """Random bytes changed in a compressed shard: a DataError or a readable file, no crash, no other exception."""
    with h5py.File(tmp_path / "0.h5", "w", libver="latest") as file:
        file.create_dataset("image_train", data=IMAGES, chunks=SHAPE, compression="gzip", fletcher32=True)
        file["label_train"] = LABELS
    done = subprocess.run([sys.executable, "-c", MUTATE, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_locks_are_not_asked_for(tmp_path):
    """A shard that somebody holds locked is read; only where the environment demands locks, it says what to do."""
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["image_train"], file["label_train"] = IMAGES, LABELS
    code = "import sys; from lenet_mp.data.shards import open_dataset; print(open_dataset(sys.argv[1]).train[0].count)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with (tmp_path / "0.h5").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for demand, words in (("FALSE", "4"), ("TRUE", "cannot be locked; unset HDF5_USE_FILE_LOCKING")):
            environment = os.environ | {"HDF5_USE_FILE_LOCKING": demand}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert words in done.stdout + done.stderr
        environment.pop("HDF5_USE_FILE_LOCKING")
        assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "4\n"
