"""Hashes of whole files: SHA-256 for proof, XXH3 for speed.

A mapped file has no checksum of its own: a flipped bit would be trained on. So the manifest states both hashes of
every shard. XXH3 runs at the speed of memory, 30 GB/s, and is compared when a shard is touched for the first time in
a run; SHA-256 takes fifteen times as long and is compared when somebody asks for it.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

_BLOCK = 1 << 20


class Hashes(NamedTuple):
    """A file's SHA-256 and XXH3 (128 bits), in hex; ``sha256sum`` and ``xxhsum -H2`` print the same."""

    sha256: str
    xxh3: str


def hashes(file: BinaryIO) -> Hashes:
    """Hash the rest of an open file in one pass."""
    sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
    while block := file.read(_BLOCK):
        sha256.update(block)
        xxh3.update(block)
    return Hashes(sha256.hexdigest(), xxh3.hexdigest())


class Seal:
    """The XXH3 that a file must have, compared once, however many splits and threads read the file.

    Parameters
    ----------
    path : Path
    xxh3 : str
        As the manifest states it; empty where it states none, as manifests of earlier versions: nothing is compared.
    """

    def __init__(self, path: Path, xxh3: str) -> None:
        self.path = path
        self.xxh3 = xxh3
        self._compared = np.zeros(1, np.uint8)
        self._comparing = threading.Lock()

    def share(self, compared: NDArray[np.uint8]) -> None:
        """Note in ``compared`` (1,), which others with the same file and XXH3 read too, whether it was compared."""
        with self._comparing:
            compared |= self._compared
            self._compared = compared

    def check(self, contents: np.ndarray) -> None:
        """Compare the file's bytes, mapped, unless that was done before; ``DataError`` with both hashes if they differ.

        Who comes while another thread compares waits for it.
        """
        with self._comparing:
            if self._compared[0] or not self.xxh3:
                return
            found = xxhash.xxh3_128_hexdigest(contents.data)
            if found != self.xxh3:
                raise DataError(
                    f"{self.path}: damaged, its XXH3 is {found}, but manifest.json says {self.xxh3}; "
                    "copy it again or prepare the data set again"
                )
            self._compared[0] = 1
