"""Writing shards: the original's file and dataset names, built in memory, then put in place atomically.

HDF5 ends with a segmentation fault when the disk fills under its hands, and leaves an unreadable file when the process
is killed. So it only ever writes to memory here, and the finished bytes reach the disk in one atomic step.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import h5py
import numpy as np

from lenet_mp.files import write_atomically
from lenet_mp.manifest import ShardEntry
from lenet_mp.shard_file import FORMAT, FORMAT_ATTRIBUTE, SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lenet_mp.pixels import Pixels
    from lenet_mp.shard_file import Labels

_PAGE = 4096


def encode_shard(splits: Mapping[str, tuple[Pixels, Labels]], *, channel_order: str) -> memoryview:
    """Bytes of an H5 file with the given splits; the same input gives the same bytes (in one HDF5 version).

    Parameters
    ----------
    splits : {"train" | "validation" | "test": (images, labels)}
        images (N, H, W, C) uint8, labels (N,) int32; empty splits are left out.
    channel_order : "RGB", "BGR" or "L"
    """
    buffer = io.BytesIO()
    # The newest file format keeps a checksum of all its metadata; a flipped bit there is an error, never other data.
    # Large datasets begin on a page, as a mapping of the file does.
    with h5py.File(buffer, "w", libver="latest", alignment_threshold=_PAGE, alignment_interval=_PAGE) as file:
        file.attrs[FORMAT_ATTRIBUTE] = np.int32(FORMAT)
        file.attrs["channel_order"] = np.bytes_(channel_order)
        for split, (images, labels) in splits.items():
            if len(labels) == 0:
                continue
            suffix = SUFFIXES[split]
            file.attrs["image_shape"] = np.array(images.shape[1:], np.int32)
            # Contiguous (h5py's default without chunks), so that the file can be mapped as the array it holds.
            file.create_dataset(f"image_{suffix}", data=images)
            file.create_dataset(f"label_{suffix}", data=labels.astype("<i4"))
    return buffer.getbuffer()


def write_shard(path: Path, splits: Mapping[str, tuple[Pixels, Labels]], *, channel_order: str) -> ShardEntry:
    """Write one H5 file atomically and return its manifest entry; ``OutputError`` if the disk refuses."""
    data = encode_shard(splits, channel_order=channel_order)
    counts = {split: len(labels) for split, (_, labels) in splits.items() if len(labels)}
    write_atomically(path, data)
    return ShardEntry(path.name, counts, len(data), hashlib.sha256(data).hexdigest())
