"""From images in memory to a data folder: shuffle, resize where that is wanted, write shards, then the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lenet_mp.data import manifest
from lenet_mp.data.folders import shuffled
from lenet_mp.data.images import DEFAULT_FILTER, FILTERS
from lenet_mp.data.manifest import Manifest
from lenet_mp.data.moments import mean_and_deviation, sums
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.data.pixels import Pixels
    from lenet_mp.data.shard_file import Labels

    Arrays = Mapping[str, tuple[Pixels, NDArray[np.integer[Any]]]]

SHARD_SIZE = 500
"""Training images a file."""
SEED = 0
"""Order of the training images."""


def write_arrays(
    folder: Path,
    samples: Arrays,
    class_names: Sequence[str],
    options: dict[str, Any],
    *,
    size: tuple[int, int] | None = None,
    resampling: str = DEFAULT_FILTER,
    shard_size: int = SHARD_SIZE,
    seed: int = SEED,
    extra: dict[str, Any] | None = None,
) -> Manifest:
    """Write a data set; the same arguments give the same bytes.

    Parameters
    ----------
    folder : Path
    samples : mapping of split to (images, labels)
        uint8 (N, H, W, C), labels (N,) below the number of classes; ``train``, and ``validation`` and ``test`` where
        there are any. The training samples are shuffled by ``seed``.
    class_names : sequence of str
    options : dict
        What the manifest tells of where they come from.
    size : (H, W), optional
        To which images are resized, by Pillow's filter ``resampling``; as they are if left out.
    shard_size : int
    extra : dict, optional
        What the manifest tells beside counts, mean and deviation.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    height, width, channels = samples["train"][0].shape[1:]
    shape = (*(size or (height, width)), channels)
    order = manifest.CHANNEL_ORDERS[channels][0]
    counts = np.zeros((channels, 256), np.int64)

    def blocks(split: str, places: NDArray[np.integer[Any]]) -> Iterator[tuple[str, Pixels, Labels]]:
        images, labels = samples[split]
        for start in range(0, len(places), SHARD_SIZE):
            part = places[start : start + SHARD_SIZE]
            pixels = images[part] if shape == images.shape[1:] else _resized(images[part], shape, resampling)
            if split == "train":
                for channel in range(channels):
                    counts[channel] += np.bincount(pixels[..., channel].reshape(-1), minlength=256)
            yield split, pixels, labels[part].astype(np.int32)

    shuffle = np.array(shuffled(range(len(samples["train"][1])), seed, "train"))
    parts = [shuffle[start : start + shard_size] for start in range(0, len(shuffle), shard_size)]
    entries = [
        write_shard(folder / f"{number}.h5", blocks("train", part), image_shape=shape, channel_order=order)
        for number, part in enumerate(parts)
    ]
    others = [split for split in ("validation", "test") if split in samples]
    if others:
        held_out = (block for split in others for block in blocks(split, np.arange(len(samples[split][1]))))
        entries.append(write_shard(folder / manifest.HELD_OUT, held_out, image_shape=shape, channel_order=order))
    passport: dict[str, Any] = {
        "class_counts": {
            split: np.bincount(labels, minlength=len(class_names)).tolist() for split, (_, labels) in samples.items()
        }
    }
    passport["mean"], passport["std"] = mean_and_deviation(*sums(counts), int(counts[0].sum()))
    made = Manifest(shape, order, tuple(class_names), tuple(entries), options, (), passport | (extra or {}))
    write_atomically(folder / manifest.NAME, made.encode())
    return made


def _resized(images: Pixels, shape: tuple[int, int, int], resampling: str) -> Pixels:
    height, width, channels = shape
    flat = images[..., 0] if channels == 1 else images
    resized = [np.asarray(Image.fromarray(image).resize((width, height), FILTERS[resampling])) for image in flat]
    return np.stack(resized).reshape(len(images), *shape)
