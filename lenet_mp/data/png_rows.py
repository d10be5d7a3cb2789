"""Whether a PNG holds all of its rows: Pillow leaves those black that the compressed data end before."""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

_SIGNATURE_BYTES = 8
_CHUNK = struct.Struct(">I4s")  # length, type; the contents follow, and a checksum of 4 bytes
_HEADER = struct.Struct(">IIBBxxB")  # width, height, bits a channel, colour type, interlaced or not
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced image: first column and row, and steps to the next column and row."""
_AT_ONCE = 1 << 20


def check(data: bytes, decoded: Image.Image) -> None:
    """Raise a ``DataError`` with the reason alone if rows are missing, or a ``zlib.error`` if the data are damaged.

    Rows are decoded in their order, so where the last has any pixel that is not black, none is missing; only where it
    has none, as in an image with a black border, the data are unpacked once more and counted.

    Parameters
    ----------
    data : bytes
        A PNG file whose chunks have been looked through.
    decoded : Image
        What Pillow made of it, not resized yet.
    """
    width, height = decoded.size
    interlaced = _HEADER.unpack_from(data, _SIGNATURE_BYTES + _CHUNK.size)[4]
    if not interlaced and np.asarray(decoded.crop((0, height - 1, width, height))).any():
        return
    needed, found = _size(data), _unpacked(data)
    if found < needed:
        raise DataError(f"is truncated: its pixel data are {found:,} bytes, not {needed:,}")


def _size(data: bytes) -> int:
    """Bytes of the unpacked rows, each with a byte for its filter."""
    width, height, bits, kind, interlaced = _HEADER.unpack_from(data, _SIGNATURE_BYTES + _CHUNK.size)
    total = 0
    for left, top, right_by, down_by in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = math.ceil((width - left) / right_by), math.ceil((height - top) / down_by)
        if columns > 0:
            total += max(rows, 0) * (1 + math.ceil(columns * bits * _CHANNELS[kind] / 8))
    return total


def _unpacked(data: bytes) -> int:
    """Bytes that the compressed data hold, counted piece by piece; ``zlib.error`` where they are damaged."""
    stream, count = zlib.decompressobj(), 0
    for part in _image_data(data):
        rest = part
        while rest and not stream.eof:
            count += len(stream.decompress(rest, _AT_ONCE))
            rest = stream.unconsumed_tail
    return count + len(stream.flush())


def _image_data(data: bytes) -> Iterator[bytes]:
    """Yield the contents of all IDAT chunks."""
    start = _SIGNATURE_BYTES
    while start + _CHUNK.size <= len(data):
        length, kind = _CHUNK.unpack_from(data, start)
        start += _CHUNK.size
        if kind == b"IDAT":
            yield data[start : start + length]
        start += length + 4
