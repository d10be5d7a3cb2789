"""Writing shards: the original's file and dataset names, uint8 images in one piece, put in place atomically.

HDF5 ends with a segmentation fault when the disk fills under its hands, and leaves an unreadable file when the process
is killed. So it never touches the disk here. It lays out the file in memory, with the images' place reserved and not
written (``_Layout``); the images go to the disk without it, block by block, and the laid-out rest is added at the
end. Memory holds one block, however large the file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from lenet_mp.data.manifest import ShardEntry
from lenet_mp.data.seals import hashes
from lenet_mp.data.shard_file import FORMAT, FORMAT_ATTRIBUTE, SUFFIXES
from lenet_mp.files import replaced

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from lenet_mp.data.pixels import Pixels
    from lenet_mp.data.shard_file import Labels

    Block = tuple[str, Pixels | Sequence[bytes], Labels]

_PAGE = 4096


@dataclass
class _Part:
    """What a file holds of one split so far; `lengths` are those of encoded images, None for pixels."""

    lengths: list[int] | None
    labels: list[Labels] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.labels))


def write_shard(
    path: Path, blocks: Iterable[Block], *, image_shape: tuple[int, int, int], channel_order: str
) -> ShardEntry:
    """Write one H5 file and return its manifest entry; the same blocks give the same bytes (in one HDF5 version).

    Blocks without any image give a file without datasets, and an entry without counts.

    Parameters
    ----------
    path : Path
        Holds the old file or the new one at any moment.
    blocks : iterable of (split, images, labels)
        images (n, H, W, C) uint8, or n encoded images; labels (n,) int32; all blocks of one split follow each
        other and are of one kind. Each is written before the next is asked for.
    image_shape : (H, W, C)
    channel_order : "RGB", "BGR" or "L"

    Raises
    ------
    OutputError
        If the disk is full or fails; nothing is left behind.
    """
    parts: dict[str, _Part] = {}
    with replaced(path) as temporary, temporary.open("x+b") as file:
        for split, images, labels in blocks:
            if len(labels) == 0:
                continue
            if split not in parts:
                parts[split] = _Part(None if isinstance(images, np.ndarray) else [])
                # A split's place depends on those before it alone, so its own size may still be open.
                file.seek(_Layout(parts, image_shape, channel_order).offsets[split])
            _append(file, parts[split], images, labels)
        _Layout(parts, image_shape, channel_order).write(file)
        file.flush()
        file.seek(0)
        found = hashes(file)
        size = file.seek(0, io.SEEK_END)
    return ShardEntry(path.name, {split: part.count for split, part in parts.items()}, size, *found)


def _append(file: BinaryIO, part: _Part, images: Pixels | Sequence[bytes], labels: Labels) -> None:
    part.labels.append(labels)
    if part.lengths is None:
        file.write(np.ascontiguousarray(images).data)
    else:
        file.write(b"".join(images))
        part.lengths += map(len, images)


class _Layout:
    """Everything of an H5 file but its images' bytes.

    Attributes
    ----------
    offsets : where in the file each split's images begin; always behind those of the splits before it
    """

    def __init__(self, parts: Mapping[str, _Part], image_shape: tuple[int, int, int], channel_order: str) -> None:
        self._memory = _Pieces()
        self.offsets: dict[str, int] = {}
        # The newest file format keeps a checksum of all its metadata: a flipped bit there is an error, never other
        # data. Everything begins on a page, so that places do not depend on what is small enough to be put together.
        with h5py.File(self._memory, "w", libver="latest", alignment_threshold=1, alignment_interval=_PAGE) as file:
            file.attrs[FORMAT_ATTRIBUTE] = np.int32(FORMAT)
            file.attrs["channel_order"] = np.bytes_(channel_order)
            file.attrs["image_shape"] = np.array(image_shape, np.int32)
            for split, part in parts.items():
                suffix = SUFFIXES[split]
                if part.lengths is None:
                    self.offsets[split] = _reserve(file, f"image_{suffix}", (part.count or 1, *image_shape))
                else:
                    self.offsets[split] = _reserve(file, f"jpeg_{suffix}", (sum(part.lengths) or 1,))
                    ends = np.cumsum([0, *part.lengths], dtype="<u8")
                    file.create_dataset(f"offset_{suffix}", data=ends)
                labels = np.concatenate(part.labels or [np.zeros(1, np.int32)])
                file.create_dataset(f"label_{suffix}", data=labels.astype("<i4"))

    def write(self, file: BinaryIO) -> None:
        """Add the laid-out parts to a file that holds the images."""
        for offset, data in self._memory.pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(self._memory.size)


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...]) -> int:
    """Create a contiguous uint8 dataset whose bytes are allocated but not written; return their offset."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)  # the bytes must not depend on the time of day
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, properties)
    return int(dataset.get_offset())


class _Pieces(io.RawIOBase):
    """A file in memory that keeps what was written and nothing of the gaps."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.size = 0
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self.pieces.append((self._position, piece))
        self._position += len(piece)
        self.size = max(self.size, self._position)
        return len(piece)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        first, last = self._position, self._position + len(view)
        for offset, piece in self.pieces:
            low, high = max(first, offset), min(last, offset + len(piece))
            if low < high:
                view[low - first : high - first] = piece[low - offset : high - offset]
        self._position = last
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        self.size = self._position if size is None else size
        return self.size
