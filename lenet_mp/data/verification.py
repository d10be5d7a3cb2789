"""Checking a data folder against its manifest: every byte, every count, and what should not be there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp.data import classes, manifest, moments
from lenet_mp.data.seals import hashes
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.data.seals import Hashes
    from lenet_mp.data.shards import Dataset, Split

_BLOCK = 64
"""Images that are counted at once."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the training pixels (0..255) by channel, rounded to six digits."""

    mean: list[float]
    std: list[float]


def check_hashes(dataset: Dataset, *, workers: int, advance: Callable[[int], None]) -> list[str]:
    """Compare every file's hashes with the manifest's; return a line for each file that differs.

    Parameters
    ----------
    dataset : Dataset
        With a manifest.
    workers : int
        Files that are read side by side.
    advance : called with the bytes of every file that is done
    """
    assert dataset.manifest is not None  # noqa: S101 - the caller's promise

    def check(entry: manifest.ShardEntry) -> str:
        path = dataset.folder / entry.name
        found = _hashes(path)
        advance(entry.bytes)
        pairs = ("SHA-256", found.sha256, entry.sha256), ("XXH3", found.xxh3, entry.xxh3 or found.xxh3)
        # One line a file: where SHA-256 differs, so does XXH3.
        wrong = [(name, is_now, stated) for name, is_now, stated in pairs if is_now != stated]
        if not wrong:
            return ""
        name, is_now, stated = wrong[0]
        return f"{path}: {name} is {is_now}, but manifest.json says {stated}; copy or prepare it again"

    with ThreadPoolExecutor(workers) as pool:
        return [line for line in pool.map(check, dataset.manifest.shards) if line]


def _hashes(path: Path) -> Hashes:
    """Hashes of a file; ``DataError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashes(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def measure(dataset: Dataset, *, workers: int, advance: Callable[[int], None]) -> Statistics:
    """Mean and standard deviation of all training pixels, exact before they are rounded.

    Parameters
    ----------
    dataset : Dataset
    workers : int
        Shards that are read side by side.
    advance : called with the number of images of every shard that is done
    """

    def count(split: Split) -> NDArray[np.int64]:
        counts = _value_counts(split.images)
        split.release()
        advance(split.count)
        return counts

    with ThreadPoolExecutor(workers) as pool:
        counts = sum(pool.map(count, dataset.train), start=np.zeros((dataset.image_shape[2], 256), np.int64))
    pixels = int(counts[0].sum())
    return Statistics(*moments.mean_and_deviation(*moments.sums(counts), pixels))


def _value_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value occurs in (N, H, W, C) pixels, as (C, 256)."""
    channels = images.shape[3]
    total = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        flat = block.reshape(-1, block.shape[2], channels)
        # Pillow counts ten times as fast as numpy.bincount, and without the interpreter's lock.
        picture = Image.fromarray(flat[:, :, 0] if channels == 1 else flat)
        total += np.array(picture.histogram(), np.int64).reshape(channels, 256)
    return total


def check_passport(dataset: Dataset, counts: Mapping[str, NDArray[np.int64]], found: Statistics) -> list[str]:
    """Compare class counts, statistics and classes.txt with what the manifest says of them; one line a difference."""
    assert dataset.manifest is not None  # noqa: S101 - the caller's promise
    extra, path = dataset.manifest.extra, dataset.folder / manifest.NAME
    wrong = []
    stated = extra.get("class_counts")
    if stated is not None and stated != {split: values.tolist() for split, values in counts.items()}:
        wrong.append(f"{path}: class_counts differ from the labels in the shards; prepare the data set again")
    wrong += [
        f"{path}: {name} is {extra[name]}, but the pixels give {measured}"
        for name, measured in (("mean", found.mean), ("std", found.std))
        if name in extra and extra[name] != measured
    ]
    names_file = dataset.folder / classes.NAME
    if names_file.exists() and classes.read_classes(names_file) != dataset.class_names:
        wrong.append(f"{names_file}: names other classes than manifest.json; delete it or prepare the data set again")
    return wrong


def strangers(dataset: Dataset) -> list[str]:
    """H5 files in the folder that do not belong to the data set: they are never read, but somebody may think so."""
    known = {split.path.name for split in (*dataset.train, dataset.validation, dataset.test) if split}
    return sorted(
        (path.name for path in dataset.folder.glob("*.h5") if path.name not in known), key=classes.natural_key
    )


def examples(dataset: Dataset, labels: Sequence[int], count: int, seed: int) -> dict[int, list[NDArray[np.uint8]]]:
    """Up to `count` random training images of each of the classes `labels`, (H, W, C) in RGB or grey.

    The same seed gives the same images. Every shard is opened at most once, and one at a time.
    """
    all_labels = np.concatenate([split.labels for split in dataset.train])
    ends = np.cumsum([split.count for split in dataset.train])
    places = {
        label: np.sort(np.random.default_rng([seed, label]).permutation(np.flatnonzero(all_labels == label))[:count])
        for label in labels
    }
    found: dict[int, list[NDArray[np.uint8]]] = {label: [] for label in labels}
    step = -1 if dataset.channel_order == "BGR" else 1
    for split, end in zip(dataset.train, ends.tolist(), strict=True):
        begin = end - split.count
        for label, chosen in places.items():
            rows = chosen[(chosen >= begin) & (chosen < end)] - begin
            found[label] += [split.images[row, :, :, ::step].copy() for row in rows]
        split.release()
    return found
