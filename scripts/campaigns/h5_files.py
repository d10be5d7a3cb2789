"""Small shards in the forms that HDF5 knows, for campaigns that damage them, and the checksum of its headers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (4, 6, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
LABELS = np.array([2, 0, 1, 2])
MASK = (1 << 32) - 1


def make(build: Callable[[h5py.File], None], libver: str = "earliest") -> bytes:
    """Return the bytes of the H5 file that ``build`` fills."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        build(file)
    return buffer.getvalue()


def shard(libver: str, labels: Any = LABELS, **options: Any) -> bytes:
    """Return a training shard whose images are stored with these options of h5py."""

    def build(file: h5py.File) -> None:
        file.create_dataset("image_train", data=IMAGES, **options)
        file["label_train"] = labels

    return make(build, libver)


def originals() -> list[bytes]:
    """Shards of every layout, filter and index, old format and new."""
    gzip = {"compression": "gzip", "chunks": (1, 6, 5, 3)}
    forms: list[dict[str, Any]] = [
        {},
        {"chunks": (2, 3, 5, 3)},
        gzip,
        gzip | {"shuffle": True, "fletcher32": True},
        {"compression": "lzf", "chunks": SHAPE},
        gzip | {"maxshape": (None, 6, 5, 3)},
        gzip | {"maxshape": (None, None, 5, 3)},
    ]
    files = [shard(libver, **form) for libver in ("earliest", "latest") for form in forms]
    return [*files, shard("earliest", LABELS.astype(">i2")[:, np.newaxis]), _held_out(), _encoded()]


def _held_out() -> bytes:
    def build(file: h5py.File) -> None:
        for name in ("val", "test"):
            file[f"image_{name}"] = IMAGES
            file[f"label_{name}"] = LABELS

    return make(build, "latest")


def _encoded() -> bytes:
    """Return a shard of images in JPEG bytes, as far as opening it goes."""

    def build(file: h5py.File) -> None:
        file["jpeg_train"] = np.arange(200, dtype=np.uint8)
        file["offset_train"] = np.arange(5) * 50
        file["label_train"] = LABELS
        file.attrs["image_shape"] = [6, 5, 3]

    return make(build, "latest")


def sealed(data: bytes) -> bytes:
    """Return the file with the checksums of its superblock and object headers made to fit, where these can be found."""
    changed = bytearray(data)
    if data[:8] == b"\x89HDF\r\n\x1a\n" and len(data) > 48 and data[8] in (2, 3):
        changed[44:48] = lookup3(data[:44]).to_bytes(4, "little")
    start = data.find(b"OHDR")
    while start >= 0 and start + 20 < len(data):
        flags = data[start + 5]
        place = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        end = place + width + int.from_bytes(data[place : place + width], "little")
        if end + 4 <= len(data):
            changed[end : end + 4] = lookup3(changed[start:end]).to_bytes(4, "little")
        start = data.find(b"OHDR", start + 4)
    return bytes(changed)


def lookup3(data: bytes | bytearray) -> int:
    """Return Bob Jenkins' hash (hashlittle, initial value 0), HDF5's checksum of metadata."""
    a = b = c = 0xDEADBEEF + len(data) & MASK
    place, left = 0, len(data)
    while left > 12:
        words = [int.from_bytes(data[p : p + 4], "little") for p in (place, place + 4, place + 8)]
        a, b, c = (n + word & MASK for n, word in zip((a, b, c), words, strict=True))
        for turn in (4, 6, 8, 16, 19, 4):
            a = (a - c & MASK) ^ _turned(c, turn)
            c = c + b & MASK
            a, b, c = b, c, a
        place, left = place + 12, left - 12
    if not left:
        return c
    last = bytes(data[place:]).ljust(12, b"\0")
    a, b, c = (n + int.from_bytes(last[p : p + 4], "little") & MASK for n, p in ((a, 0), (b, 4), (c, 8)))
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _turned(b, turn) & MASK
        a, b, c = b, c, a
    return b  # the last one that was worked out


def _turned(number: int, bits: int) -> int:
    return (number << bits | number >> (32 - bits)) & MASK
