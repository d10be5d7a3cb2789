"""Hostile shards, manifests and IDX files: each is built in a folder and given to a command.

A builder gets the folder that the command may look into, and one outside that it must not; it returns the command line.
All of them are bad data, exit code 3.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zlib
from typing import TYPE_CHECKING

import h5py
import hostile_h5
import numpy as np
import small_run
from campaigns.hostile_images import make_socket

from lenet_mp.data import manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Builder = Callable[[Path, Path], list[str]]


def builders() -> dict[str, Builder]:
    """Every kind, by name."""
    made: dict[str, Builder] = {f"shard: {h5.__name__}": _shard(h5) for h5 in hostile_h5.HOSTILE}
    made |= {f"shard: {name}": _shard_file(make) for name, make in SHARD_FILES.items()}
    made |= {f"manifest: {name}": _manifest(make) for name, make in MANIFESTS.items()}
    return made | {f"idx: {name}": _idx(make) for name, make in IDX.items()}


def _shard(fill: Callable[[h5py.File, Path], None]) -> Builder:
    def build(given: Path, outside: Path) -> list[str]:
        with h5py.File(given / "0.h5", "w") as file:
            fill(file, outside)
            file["label_train"] = hostile_h5.LABELS
        return ["verify", str(given), "--no-pictures"]

    return build


def _shard_file(make: Callable[[Path, Path], None]) -> Builder:
    def build(given: Path, outside: Path) -> list[str]:
        make(given / "0.h5", outside)
        return ["verify", str(given), "--no-pictures"]

    return build


def _chunked(path: Path, **options: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("image_train", data=hostile_h5.IMAGES, chunks=(2, 6, 5, 3), **options)
        file["label_train"] = hostile_h5.LABELS


def _short_chunk(path: Path, _: Path) -> None:
    _chunked(path, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["image_train"].id.write_direct_chunk((0, 0, 0, 0), zlib.compress(b"short"))


def _long_chunk(path: Path, _: Path) -> None:
    _chunked(path, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["image_train"].id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(300 << 20), 1))


def _missing_chunk(path: Path, _: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("image_train", hostile_h5.SHAPE, np.uint8, chunks=(2, 6, 5, 3))[:2] = 1
        file["label_train"] = hostile_h5.LABELS


def _huge_attribute(path: Path, _: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["jpeg_train"] = np.zeros(100, np.uint8)
        file["offset_train"] = np.arange(5) * 25
        file["label_train"] = hostile_h5.LABELS
        file.attrs["image_shape"] = np.zeros(30_000_000, np.int64)


def _through_device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def _truncated_shard(path: Path, _: Path) -> None:
    _chunked(path)
    os.truncate(path, path.stat().st_size // 2)


SHARD_FILES: dict[str, Callable[[Path, Path], None]] = {
    "a short chunk": _short_chunk,
    "a chunk that is a bomb": _long_chunk,
    "a missing chunk": _missing_chunk,
    "an attribute of 240 MB": _huge_attribute,
    "cut short": _truncated_shard,
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a socket": make_socket,
    "a device": _through_device,
    "a pickle": lambda path, _: path.write_bytes(pickle.dumps({"image_train": 1})),
    "empty": lambda path, _: path.write_bytes(b""),
}


def _manifest(change: Callable[[dict[str, object]], bytes | None]) -> Builder:
    def build(given: Path, _: Path) -> list[str]:
        data = small_run.write_data(given / "data")
        document = json.loads((data / manifest.NAME).read_bytes())
        document.pop("sha256", None)
        text = change(document)
        (data / manifest.NAME).write_bytes(json.dumps(document).encode() if text is None else text)
        return ["verify", str(data), "--no-pictures"]

    return build


def _climbing(document: dict[str, object]) -> None:
    document["shards"][0]["name"] = "../../outside/0.h5"  # type: ignore[index]


MANIFESTS: dict[str, Callable[[dict[str, object]], bytes | None]] = {
    "a path out of the folder": _climbing,
    "deep": lambda _: b"[" * 1_000_000,
    "a name twice": lambda d: json.dumps(d).encode()[:-1] + b', "format": "x"}',
    "millions of classes": lambda d: d.update(class_names=[str(n) for n in range(1_500_000)]),
    "millions of values": lambda _: b'{"format": [' + b"1," * 3_000_000 + b"1]}",
    "an endless number": lambda d: json.dumps(d).encode().replace(b'"version": 1', b'"version": ' + b"1" * 10_000),
    "1e999": lambda d: json.dumps(d).encode().replace(b'"version": 1', b'"version": 1e999'),
    "a long name": lambda d: d.update(class_names=["x" * 10_000_000, "b", "c", "d"]),
    "no JSON": lambda _: pickle.dumps({}),
}


def _idx(make: Callable[[], bytes]) -> Builder:
    def build(given: Path, _: Path) -> list[str]:
        (given / "train-images-idx3-ubyte").write_bytes(make())
        (given / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes(4))
        return ["prepare", "--idx", str(given), "--out", str(given / "out")]

    return build


def _packed(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(data)
    return buffer.getvalue()


IDX: dict[str, Callable[[], bytes]] = {
    "3 TB": lambda: struct.pack(">IIII", 0x803, 1 << 31, 40, 40),
    "cut short": lambda: struct.pack(">IIII", 0x803, 4, 8, 8) + bytes(99),
    "a gzip bomb": lambda: _packed(struct.pack(">IIII", 0x803, 4, 8, 8) + bytes(500 << 20)),
    "cut gzip": lambda: _packed(struct.pack(">IIII", 0x803, 4, 8, 8) + bytes(256))[:30],
    "floats": lambda: struct.pack(">IIII", 0xD03, 4, 8, 8) + bytes(1024),
    "a pickle": lambda: pickle.dumps([0] * 99),
}
