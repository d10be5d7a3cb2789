"""Damaged shards and manifests: no image of them is used, whoever reads it first."""

import hashlib
import json
import os
import random
import shutil
import threading

import h5py
import numpy as np
import programs
import pytest
import small_data
import xxhash
from programs import needs_mpi

from lenet_mp.data import arrays, manifest, seals, shards
from lenet_mp.data.batches import Batches
from lenet_mp.data.jpeg_store import encode
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.errors import DataError
from lenet_mp.training import checkpoint

SHAPE = (20, 20, 3)


def pixels(folder):
    """Write a data set of pixels."""
    train, validation, test = small_data.samples(60, 0), small_data.samples(9, 1), small_data.samples(5, 2)
    return arrays.save_dataset(folder, train, validation=validation, test=test)


def jpeg(folder):
    """Write one of JPEG images."""
    from PIL import Image  # noqa: PLC0415 - here alone

    folder.mkdir()
    images, labels = small_data.samples(20, 0)
    block = "train", [encode(Image.fromarray(image), 90) for image in images], labels.astype(np.int32)
    entry = write_shard(folder / "0.h5", [block], image_shape=SHAPE, channel_order="RGB")
    return describe(folder, labels, entry)


def chunked(folder):
    """Write one of compressed chunks, as another program might, with a manifest."""
    folder.mkdir()
    images, labels = small_data.samples(20, 0)
    with h5py.File(folder / "0.h5", "w") as file:
        file.create_dataset("image_train", data=images, chunks=(4, *SHAPE), compression="gzip")
        file["label_train"] = labels
    with (folder / "0.h5").open("rb") as file:
        found = seals.hashes(file)
    entry = manifest.ShardEntry("0.h5", {"train": 20}, (folder / "0.h5").stat().st_size, *found)
    return describe(folder, labels, entry)


def describe(folder, labels, entry):
    extra = {"class_counts": {"train": np.bincount(labels, minlength=4).tolist()}}
    made = manifest.Manifest(SHAPE, "RGB", ("a", "b", "c", "d"), (entry,), extra=extra)
    (folder / "manifest.json").write_bytes(made.encode())
    return folder


def put(path, contents):
    """Replace a file; threads that still decode the old one keep it."""
    path.unlink()
    path.write_bytes(contents)


def read(folder):
    """Return all images and labels, by split."""
    data = shards.open_dataset(folder)
    splits = [split for split in (*data.train, data.validation, data.test) if split]
    return [(split.name, split.images.tobytes(), split.labels.tobytes()) for split in splits]


@pytest.mark.parametrize("write", [pixels, jpeg, chunked])
def test_no_image_of_a_damaged_shard_is_handed_out(tmp_path, write):
    """One flipped bit, a zeroed page or a missing end anywhere in a file is an error that names it."""
    folder = write(tmp_path / "data")
    rng = random.Random(0)
    read(folder)
    for path in sorted(folder.glob("*.h5")):
        whole = path.read_bytes()
        for _ in range(150):
            bit = rng.randrange(8 * len(whole))
            flipped = bytes([whole[bit // 8] ^ 1 << bit % 8])
            put(path, whole[: bit // 8] + flipped + whole[bit // 8 + 1 :])
            with pytest.raises(DataError, match=path.name.replace(".", r"\.") + "|the labels in the shards"):
                read(folder)
        for start in range(0, len(whole), 4096):
            zeroed = whole[:start] + bytes(len(whole[start : start + 4096])) + whole[start + 4096 :]
            if zeroed != whole:
                put(path, zeroed)
                with pytest.raises(DataError):
                    read(folder)
            put(path, whole[:start])
            with pytest.raises(DataError):
                read(folder)
        put(path, whole)
    read(folder)


def test_the_message_tells_both_hashes(tmp_path):
    """File, the hash that it has and the one that it should have are in the message."""
    folder = pixels(tmp_path / "data")
    path = folder / "0.h5"
    stated = manifest.load(folder).shards[0]
    assert stated.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stated.xxh3 == xxhash.xxh3_128_hexdigest(path.read_bytes())
    small_data.flip(path, 8 * 9000)
    now = xxhash.xxh3_128_hexdigest(path.read_bytes())
    with pytest.raises(DataError) as caught:
        _ = shards.open_dataset(folder).train[0].images
    assert str(caught.value).startswith(f"{path}: damaged, its XXH3 is {now}, but manifest.json says {stated.xxh3}; ")


def test_a_flipped_bit_of_a_manifest_is_found(tmp_path):
    """A manifest with any one bit changed is refused, or says the same as before."""
    folder = pixels(tmp_path / "data")
    path = folder / "manifest.json"
    whole = path.read_bytes()
    made = manifest.load(folder)
    same = 0
    for bit in range(0, 8 * len(whole), 11):  # all of them take a minute
        small_data.flip(path, bit)
        try:
            assert manifest.load(folder) == made
            same += 1
        except DataError:
            pass
        path.write_bytes(whole)
    # Where the checksum itself has another name, there is none, as in an earlier version.
    assert same <= len("sha256")


def test_manifests_of_earlier_versions(tmp_path):
    """Without XXH3 and checksum a data set is read as before, and has the fingerprint that its runs know."""
    folder = pixels(tmp_path / "data")
    before, images = shards.open_dataset(folder).fingerprint, read(folder)
    small_data.unseal(folder)
    assert shards.open_dataset(folder).fingerprint == before
    assert before == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert read(folder) == images
    assert '"xxh3": ""' in manifest.load(folder).encode().decode()


def test_a_label_is_checked_before_it_counts(tmp_path):
    """A label that became another is told on opening, though no image was asked for."""
    folder = pixels(tmp_path / "data")
    with h5py.File(folder / "0.h5", "r+", libver="latest") as file:
        file["label_train"][3] = (file["label_train"][3] + 1) % 4
    with pytest.raises(DataError, match="do not add up to the class_counts"):
        shards.open_dataset(folder)


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    """However many threads, splits and epochs read a file, it is hashed at the first touch alone."""
    folder = pixels(tmp_path / "data")
    hashed = []
    real = xxhash.xxh3_128_hexdigest
    monkeypatch.setattr(xxhash, "xxh3_128_hexdigest", lambda data: hashed.append(threading.get_ident()) or real(data))
    data = shards.open_dataset(folder)
    assert not hashed
    together = [threading.Thread(target=lambda split=split: split.images) for split in [data.validation, data.test] * 4]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    for _ in range(3):
        _ = data.validation.images
        data.validation.release()
    assert len(hashed) == 1
    data.train[0].prefetch()
    data.train[0].prefetch()
    _ = data.train[0].images
    assert len(hashed) == 2


def test_what_was_fetched_ahead_is_compared_too(tmp_path):
    """A damaged shard that was fetched in the background is told to who asks for its images."""
    folder = pixels(tmp_path / "data")
    small_data.flip(folder / "0.h5", 8 * 9000)
    data = shards.open_dataset(folder)
    batches = Batches(data.train)
    batches.prefetch(np.array([0]))
    with pytest.raises(DataError, match="damaged, its XXH3"):
        batches.gather(np.array([0]), np.array([0]))


@pytest.fixture
def place(tmp_path):
    small_data.write_model(tmp_path / "small.toml")
    return tmp_path


def arguments(place):
    begin = ["--model", place / "small.toml", "--batch-size", 40, "--lr", "0.002", "--epochs", 2, "--progress", "off"]
    return [*begin, "--out", place / "run"]


def test_training_stops_before_the_damaged_shard(place):
    """Training ends with code 3 and the file's name; what was trained before goes on once the file is whole again."""
    images, labels = small_data.samples(700, 0)  # two shards
    folder = arrays.save_dataset(place / "data", (images, labels), validation=small_data.samples(20, 1))
    damaged = sorted(folder.glob("[0-9].h5"))[1]
    small_data.flip(folder / "data.h5", 8 * 9000)
    done = programs.train("--data", folder, *arguments(place))
    assert done.returncode == 3, done.stderr
    assert f"{folder / 'data.h5'}: damaged, its XXH3 is" in done.stderr
    small_data.flip(folder / "data.h5", 8 * 9000)
    small_data.flip(damaged, 8 * 9000)
    done = programs.train("--data", folder, *arguments(place))
    assert done.returncode == 3, done.stderr
    assert f"{damaged}: damaged, its XXH3 is" in done.stderr
    assert done.stderr.count("\n") == 1


OWN_COPY = """
import os, sys
from lenet_mp import train
rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"
sys.exit(train.main(["--data", sys.argv[1] + rank, *sys.argv[2:]]))
"""


def test_a_file_is_hashed_by_one_process_of_a_machine(tmp_path, monkeypatch):
    """What one has compared, others that share the note need not compare; what none has, whoever comes first does."""
    folder = pixels(tmp_path / "data")
    hashed = []
    real = xxhash.xxh3_128_hexdigest
    monkeypatch.setattr(xxhash, "xxh3_128_hexdigest", lambda data: hashed.append(len(data)) or real(data))
    notes, subjects = np.zeros(2, np.uint8), []
    ranks = [shards.open_dataset(folder) for _ in range(3)]
    _ = ranks[2].validation.images  # before they share
    old = shutil.copytree(folder, tmp_path / "old", copy_function=os.link)
    (old / "manifest.json").unlink()
    shutil.copy(folder / "manifest.json", old)
    small_data.unseal(old)
    other = shards.open_dataset(tmp_path / "old")  # the same files, of which nothing says what they should be
    other.share_seals(lambda count, subject: subjects.append(subject) or np.ones(count, np.uint8))
    other_subject = subjects.pop()
    for data in ranks:
        data.share_seals(lambda count, subject: subjects.append(subject) or notes[:count])
    assert len(set(subjects)) == 1
    assert other_subject != subjects[0]
    for data in ranks:
        _ = data.train[0].images, data.validation.images, data.test.images
    assert len(hashed) == 2
    small_data.flip(folder / "0.h5", 8 * 9000)
    later = shards.open_dataset(folder)
    later.share_seals(lambda count, subject: subjects.append(subject) or np.zeros(count, np.uint8))
    assert subjects[-1] != subjects[0]  # another file: nobody else's note counts
    with pytest.raises(DataError, match="damaged, its XXH3 is"):
        _ = later.train[0].images


ONE_AFTER_THE_OTHER = """
import sys, xxhash
from lenet_mp import train
from lenet_mp.training.trainer import Trainer

hashed, hexdigest, fit = [], xxhash.xxh3_128_hexdigest, Trainer.fit
xxhash.xxh3_128_hexdigest = lambda data: hashed.append(1) or hexdigest(data)

def one_after_the_other(self, *arguments, **options):
    for rank in range(self.comm.size):
        if rank == self.comm.rank:
            for split in self.dataset.train[rank:]:
                split.images
        self.comm.rest()
    counts = self.comm.gather(len(hashed))
    if self.comm.rank == 0:
        print("hashed", counts, "of", len(self.dataset.train))
    return fit(self, *arguments, **options)

Trainer.fit = one_after_the_other
sys.exit(train.main(sys.argv[1:]))
"""


@needs_mpi
def test_ranks_tell_each_other_what_they_compared(place):
    """What one rank has compared, no other one does; and a damaged shard ends all of them."""
    folder = arrays.save_dataset(place / "data", small_data.samples(1100, 0), validation=small_data.samples(40, 1))
    done = programs.run("-c", ONE_AFTER_THE_OTHER, "--data", folder, *arguments(place), ranks=3)
    assert done.returncode == 0, done.stderr
    assert "hashed [4, 0, 0] of 3" in done.stdout  # and data.h5, of which rank 0 draws an image
    small_data.flip(folder / "1.h5", 8 * 9000)
    shutil.rmtree(place / "run")
    done = programs.run("-c", ONE_AFTER_THE_OTHER, "--data", folder, *arguments(place), ranks=3)
    assert done.returncode == 3, done.stderr
    assert f"{folder / '1.h5'}: damaged, its XXH3 is" in done.stderr


@needs_mpi
@pytest.mark.parametrize("how", ["whole", "flipped", "missing", "other"])
def test_ranks_with_copies_of_their_own(place, how):
    """Ranks may read copies of their own; one that is damaged, lacks a shard or is another ends all of them."""
    for rank in range(3):
        train = small_data.samples(1100, rank if how == "other" else 0)  # three shards
        arrays.save_dataset(place / f"data{rank}", train, validation=small_data.samples(40, 1))
    if how == "flipped":
        for shard in (place / "data1").glob("[0-9].h5"):
            small_data.flip(shard, 8 * 9000)
    if how == "missing":
        os.unlink(place / "data1" / "1.h5")  # noqa: PTH108 - as the others
    done = programs.run("-c", OWN_COPY, place / "data", *arguments(place), ranks=3)
    code, words = {
        "whole": (0, ""),
        "flipped": (3, f"[rank 1] lenet-mp train: error: {place / 'data1'}"),
        "missing": (3, f"{place / 'data1' / '1.h5'}: no such file"),
        "other": (75, "rank 1 runs another job than rank 0: data is"),
    }[how]
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    if how == "flipped":
        assert "damaged, its XXH3 is" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_goes_on_with_the_data_prepared_again(place):
    """A run on a data set of an earlier version goes on with the same images prepared by this one."""
    folder = pixels(place / "data")
    sealed = (folder / "manifest.json").read_bytes()
    small_data.unseal(folder)
    done = programs.train("--data", folder, *arguments(place))
    assert done.returncode == 0, done.stderr
    (folder / "manifest.json").write_bytes(sealed)
    done = programs.train("--resume", place / "run", "--epochs", 3, "--progress", "off")
    assert done.returncode == 0, done.stderr
    assert checkpoint.load(place / "run" / "last.ckpt").epoch == 3
    assert json.loads(sealed)["shards"][0]["xxh3"]
