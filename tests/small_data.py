"""A small data set and a small model, for tests of whole runs."""

import json

import h5py
import numpy as np
from PIL import Image

from lenet_mp.data.manifest import Manifest
from lenet_mp.data.shard_writer import write_shard as write_our_shard

SIZE, CLASSES = 20, 4
MODEL = """
name = "small"
[[layer]]
kind = "conv"
name = "C1"
channels = 3
kernel = 3
stride = 2
[[layer]]
kind = "squash"
[[layer]]
kind = "average_pool"
name = "S1"
kernel = 3
[[layer]]
kind = "conv"
name = "C2"
channels = 12
[[layer]]
kind = "squash"
[[layer]]
kind = "dense"
name = "F3"
"""


def samples(count, seed, channels=3, size=SIZE):
    """Return images with a bright quarter, which quarter is the label, under noise; and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 150, (count, size, size, channels)).astype(np.uint8)
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * half : (row + 1) * half, column * half : (column + 1) * half] += 80
    return images, labels


def write_shards(folder, counts=(50, 50, 50, 37), validation=45, test=30, size=SIZE):
    """Write shards as the original program did: no attributes, any integer labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, count in enumerate(counts):
        write_shard(folder / f"{shard}.h5", *samples(count, shard, size=size))
    with h5py.File(folder / "data.h5", "w") as file:
        for name, count, seed in (("val", validation, 100), ("test", test, 101)):
            images, labels = samples(count, seed, size=size)
            file[f"image_{name}"] = images
            file[f"label_{name}"] = labels
    return folder


def write_shard(path, images, labels):
    """Write one training shard."""
    with h5py.File(path, "w") as file:
        file["image_train"] = images
        file["label_train"] = labels


def write_data_set(folder, counts=(50, 50, 50, 37), validation=45, test=30, size=SIZE):
    """Write what ``write_shards`` writes as a data set with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"image_shape": (size, size, 3), "channel_order": "RGB"}

    def block(split, count, seed):
        images, labels = samples(count, seed, size=size)
        return split, images, labels.astype(np.int32)

    entries = [
        write_our_shard(folder / f"{number}.h5", [block("train", count, number)], **kinds)
        for number, count in enumerate(counts)
    ]
    held_out = [block("validation", validation, 100), block("test", test, 101)]
    entries.append(write_our_shard(folder / "data.h5", held_out, **kinds))
    made = Manifest((size, size, 3), "RGB", tuple(map(str, range(CLASSES))), tuple(entries))
    (folder / "manifest.json").write_bytes(made.encode())
    return folder


def write_model(path):
    """Write the small model's table."""
    path.write_text(MODEL)
    return path


def write_place(folder):
    """Write the data set and the model into a folder; return it."""
    write_shards(folder / "data")
    write_model(folder / "small.toml")
    return folder


def options(place, out, *more, epochs):
    """Return arguments of a short run on what ``write_place`` wrote; ``more`` wins."""
    common = ["--model", place / "small.toml", "--data", place / "data", "--batch-size", 60, "--lr", "0.002"]
    return [str(a) for a in (*common, "--out", out, "--epochs", epochs, "--progress", "off", *more)]


def write_images(folder, count, seed=0):
    """Write PNG files of the small task, one folder a class."""
    images, labels = samples(count, seed)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    return folder


def unseal(data, **extra):
    """Make a manifest one of an earlier version, without XXH3 and its own SHA-256, and put ``extra`` into its extra."""
    path = data / "manifest.json"
    document = json.loads(path.read_text())
    document.pop("sha256", None)
    for shard in document["shards"]:
        shard.pop("xxh3", None)
    document["extra"] |= extra
    path.write_text(json.dumps(document, indent=1) + "\n")


def flip(path, bit):
    """Change one bit of a file; once more changes it back."""
    contents = bytearray(path.read_bytes())
    contents[bit // 8] ^= 1 << bit % 8
    path.write_bytes(contents)
