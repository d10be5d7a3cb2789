"""A small data set of coloured squares and a small network trained on it, for tests of what comes after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp import train
from lenet_mp.data import manifest
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("red, bright", "green", "blue", "grey")
COLORS = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200), (128, 128, 128)])
SHAPE = (12, 10, 3)
MODEL = """
name = "small"
image = [12, 10, 3]
classes = 4
[[layer]]
kind = "conv"
channels = 4
kernel = 3
[[layer]]
kind = "squash"
[[layer]]
kind = "max_pool"
kernel = 2
[[layer]]
kind = "dense"
"""


@dataclass(frozen=True)
class SmallRun:
    """Where things are."""

    data: Path
    run: Path


def pictures(count, seed, order="RGB"):
    """Noisy squares of the classes' colours, (count, 12, 10, 3) uint8, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(NAMES), count).astype(np.int32)
    noise = rng.normal(0, 70, (count, *SHAPE))
    images = np.clip(COLORS[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    return (images[..., ::-1] if order == "BGR" else images), labels


def write_data(folder, *, names=NAMES, order="RGB", seed=0):
    """Write two training shards, validation and test as ``prepare`` does."""
    folder.mkdir(parents=True)
    entries = []
    for number, splits in enumerate(({"train": 40}, {"train": 25}, {"validation": 30, "test": 37})):
        name = f"{number}.h5" if "train" in splits else manifest.HELD_OUT
        blocks = [(split, *pictures(count, [seed, number, count], order)) for split, count in splits.items()]
        entries.append(write_shard(folder / name, blocks, image_shape=SHAPE, channel_order=order))
    document = manifest.Manifest(SHAPE, order, tuple(names), tuple(entries))
    write_atomically(folder / manifest.NAME, document.encode())
    return folder


def train_small(folder, *options, order="RGB"):
    """Write the data set and train three epochs; return where both are."""
    data = write_data(folder / "data", order=order)
    (folder / "small.toml").write_text(MODEL)
    arguments = ["--data", str(data), "--model", str(folder / "small.toml"), "--out", str(folder / "run")]
    code = train.main(
        [*arguments, "--epochs", "3", "--batch-size", "20", "--lr", "1e-3", "--progress", "off", *options]
    )
    assert code == 0
    return SmallRun(data, folder / "run")


def write_image(path, pixels):
    """Save (H, W, 3) RGB pixels as they are."""
    Image.fromarray(pixels).save(path)
    return path
