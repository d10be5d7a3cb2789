"""H5 shards with bits, lengths, types and shapes changed are refused, or read the same twice and from the file alone.

Half of the mutants in HDF5's newer format get checksums that fit, so that what lies behind these is reached. What is
accepted is read twice, with other rubbish in the memory that HDF5 gets: were any of it shown, the two would differ.
Pixels that changed inside a plain file cannot be told from others here; the manifest's hashes find them (see flips).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from campaigns import h5_files, mutators
from campaigns.fuzzing import MemoryFile, fuzz

from lenet_mp.data.seals import Seal
from lenet_mp.data.shard_file import read_shard_file

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from campaigns.tally import Tally

SMALL, FULL = 1_000, 200_000

TYPES = ("u1", "i1", ">u2", "<i4", ">i8", "f4", "S3", "b1", "c8", "V5")
SHAPES = (
    (4, 6, 5, 3), (0, 6, 5, 3), (4,), (4, 1), (4, 6, 5, 2), (4, 6, 0, 3), (), (4, 6, 5, 3, 1), (5, 6, 5, 3),
    (99, 40, 40, 3),
)  # fmt: skip
M_PERTURB = -6
RUBBISH = (0x5A, 0xC3)


def run(size: int, seed: int, folder: Path) -> Tally:
    """Feed mutants to the reader of shards."""
    return fuzz("fuzz_shards", size, seed, folder)


def make(folder: Path) -> Target:
    """Return the target of one process."""
    return Target(folder)


class Target:
    """The reader of shards, and what must be true of what it accepts."""

    def __init__(self, folder: Path) -> None:
        self._file = MemoryFile(folder)  # HDF5 wants a real path
        self._seal = Seal(self._file.path, "")  # nothing states what the mutants should be
        self._files = h5_files.originals()
        self._libc = ctypes.CDLL(None)
        self._hdf5 = ctypes.CDLL(h5py.h5.__file__)

    def mutant(self, rng: random.Random) -> bytes:
        """Change bytes of a file, or write one with other types and shapes."""
        if rng.random() < 0.05:
            return _strange(rng)
        data = mutators.mutate(rng.choice(self._files), rng, self._files)
        return h5_files.sealed(data) if rng.random() < 0.5 else data

    def read(self, mutant: bytes) -> None:
        """Read it twice."""
        self._file.fill(mutant)
        first, second = (self._read(rubbish) for rubbish in RUBBISH)
        if first != second:
            raise AssertionError("wrong data accepted: other bytes than the file's are shown")

    def _read(self, rubbish: int) -> list[bytes]:
        """Read all splits, with ``rubbish`` in every byte that is asked of the C library."""
        self._hdf5.H5garbage_collect()
        self._libc.mallopt(M_PERTURB, rubbish)
        try:
            splits = read_shard_file(self._file.path, self._seal, original=True)
            found = []
            for name, split in splits.items():
                images = split.images
                if images.dtype != np.uint8 or images.shape != (split.count, *split.image_shape) or not split.count:
                    raise AssertionError(f"{name}: images of {images.dtype} {images.shape}")
                if split.labels.shape != (split.count,) or split.labels.min() < 0:
                    raise AssertionError(f"{name}: labels of {split.labels.shape}")
                found += [name.encode(), images.tobytes(), split.labels.tobytes()]
                split.release()
        finally:
            self._libc.mallopt(M_PERTURB, 0)
        return found


def _strange(rng: random.Random) -> bytes:
    """Write a shard whose types, shapes and storage h5py draws the lots for."""

    def build(file: h5py.File) -> None:
        for name in ("image_train", "label_train"):
            shape = rng.choice(SHAPES) if rng.random() < 0.5 else (h5_files.SHAPE, (4,))[name[0] == "l"]
            options: dict[str, Any] = {}
            if shape and 0 not in shape and rng.random() < 0.5:
                options = {"chunks": tuple(rng.randint(1 + size // 2, size) for size in shape)}
                options |= rng.choice(({}, {"compression": "gzip"}, {"compression": "lzf"}, {"fletcher32": True}))
            kind = rng.choice(TYPES) if rng.random() < 0.4 else "u1"
            dataset = file.create_dataset(name, shape, kind, **options)
            if kind == "u1" and shape and 0 not in shape and rng.random() < 0.8:
                part = np.ones((1 + int(rng.random() * shape[0]), *shape[1:]), np.uint8)
                dataset[: len(part)] = part

    return h5_files.make(build, rng.choice(("earliest", "latest")))
