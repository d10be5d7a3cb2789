"""Reading chunked datasets that somebody else wrote: every chunk is measured before HDF5 unpacks it.

HDF5 believes that a chunk unpacks to the size that it should have. One that is shorter makes it read, and show, what
lies behind in memory, or crash; one that is longer makes it ask for as much memory as the file likes.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import h5py

from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_LZF: "lzf",
}
"""Filters that every HDF5 (and h5py) carries itself, so that reading never loads a plug-in."""
_PACKERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}
_FLETCHER_BYTES = 4
_LZF_SIZE = 2
"""Place of the unpacked size among the values of the lzf filter."""
_LZF_LITERAL = 32
"""Below it, a control byte of lzf announces so many bytes as they are, and one more."""


def read(dataset: h5py.Dataset, path: Path) -> NDArray[Any]:
    """Return a dataset's values; ``DataError`` if a chunk is missing or has not the size that it must have."""
    if dataset.chunks and dataset.size:
        _measure(dataset, path)
    return dataset[...]  # type: ignore[no-any-return]


def _measure(dataset: h5py.Dataset, path: Path) -> None:
    found: list[Any] = []
    dataset.id.chunk_iter(found.append)
    grid = [range(0, size, step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)]
    places = {tuple(chunk.chunk_offset) for chunk in found}
    # HDF5 shows its fill value where a chunk is missing.
    inside = all(offset in axis for place in places for offset, axis in zip(place, grid, strict=True))
    if not inside or len(places) != len(found) or len(places) != math.prod(map(len, grid)):
        raise _refused(dataset, path, "lacks chunks, or has one twice")
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    filters = _pipeline(dataset, path, size)
    most = path.stat().st_size
    for chunk in found:
        if chunk.size > most:
            raise _refused(dataset, path, f"has a chunk of {chunk.size:,} bytes in a file of {most:,}")
        applied = [code for place, code in enumerate(filters) if not chunk.filter_mask >> place & 1]
        if not applied:
            length = chunk.size
        else:
            _, packed = dataset.id.read_direct_chunk(tuple(chunk.chunk_offset))
            length = _unpacked_length(packed, applied, size)
        if length != size:
            raise _refused(dataset, path, f"has a chunk at {tuple(chunk.chunk_offset)} that is not of {size:,} bytes")


def _pipeline(dataset: h5py.Dataset, path: Path, size: int) -> list[int]:
    """Codes of the dataset's filters, in the order in which they were applied."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(place) for place in range(properties.get_nfilters())]
    codes = [code for code, *_ in filters]
    if len(set(codes)) < len(codes) or len(_PACKERS & set(codes)) > 1:
        raise _refused(dataset, path, "has a filter twice, or two that pack")
    for code, _, values, _ in filters:
        # The filter makes room for what is stated here before it looks at the chunk.
        if code == h5py.h5z.FILTER_LZF and len(values) > _LZF_SIZE and values[_LZF_SIZE] not in (0, size):
            raise _refused(dataset, path, "has lzf chunks of another size than its own")
    return codes


def _unpacked_length(packed: bytes, codes: Sequence[int], size: int) -> int:
    """Bytes that a chunk becomes when its filters are undone, last first; -1 if they cannot be."""
    room = size + _FLETCHER_BYTES
    length = len(packed)
    for code in reversed(codes):
        if code == h5py.h5z.FILTER_FLETCHER32:
            length -= _FLETCHER_BYTES
        elif code == h5py.h5z.FILTER_DEFLATE:
            length = _inflated_length(packed[:length], room)
        elif code == h5py.h5z.FILTER_LZF:
            length = _lzf_length(packed[:length], room)
        if length < 0:
            return -1
    return length


def _inflated_length(packed: bytes, room: int) -> int:
    unpacking = zlib.decompressobj()
    try:
        length = len(unpacking.decompress(packed, room + 1))
    except zlib.error:
        return -1
    return length if unpacking.eof else -1


def _lzf_length(packed: bytes, room: int) -> int:
    """Bytes that lzf unpacks to, without unpacking: its control bytes say how many follow, or are repeated."""
    place = length = 0
    end = len(packed)
    while place < end:
        control = packed[place]
        if control < _LZF_LITERAL:
            place += control + 2
            length += control + 1
            continue
        repeated = control >> 5
        if repeated == 7:  # noqa: PLR2004 - three bits full: the next byte tells how many more
            place += 1
            if place >= end:
                return -1
            repeated += packed[place]
        place += 1
        if place >= end:
            return -1
        back = ((control & 31) << 8 | packed[place]) + 1
        if back > length:
            return -1
        place += 1
        length += repeated + 2
        if length > room:
            return -1
    return length if place == end else -1


def _refused(dataset: h5py.Dataset, path: Path, what: str) -> DataError:
    return DataError(f"{path}: dataset {dataset.name!r} {what}; copy it again or prepare the data set again")
