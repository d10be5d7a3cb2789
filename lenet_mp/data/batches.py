"""From places (shard, row) to what the engine takes: addresses of images, and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lenet_mp.data.shards import Split


class Batch(NamedTuple):
    """Addresses (n,) uintp of H x W x C bytes each, and labels (n,) int32.

    The addresses hold until the next call of the :class:`Batches` that made them.
    """

    images: NDArray[np.uintp]
    labels: NDArray[np.int32]


class Batches:
    """Gathers samples of several splits without copying a pixel.

    A split is opened at its first sample and released as soon as a call does not ask for it: streams read their
    shards from front to back, so it is not wanted again in that epoch, unless the end of one stream and the beginning
    of another lie in it. What was read of it is known to be good only then, when its file is found unchanged:
    ``DataError`` if not.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        self._splits = splits
        self._images: dict[int, NDArray[np.uint8]] = {}
        self._fetched: set[int] = set()

    def gather(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> Batch:
        """Return the samples at ``rows`` (n,) of the splits numbered ``shards`` (n,)."""
        addresses = np.empty(len(rows), np.uintp)
        labels = np.empty(len(rows), np.int32)
        wanted = np.unique(shards).tolist()
        self._release_all_but(wanted)
        for shard in wanted:
            here = shards == shard
            images = self._open(shard)
            addresses[here] = images.ctypes.data + rows[here] * images.strides[0]
            labels[here] = self._splits[shard].labels[rows[here]]
        return Batch(addresses, labels)

    def prefetch(self, shards: NDArray[np.int64]) -> None:
        """Begin to fetch those of ``shards`` that are not open, in the background."""
        for shard in set(np.unique(shards).tolist()) - set(self._images):
            self._splits[shard].prefetch()
            self._fetched.add(shard)

    def release(self) -> None:
        """Let go of all splits, those too that were only fetched; the next call opens what it needs."""
        self._release_all_but([])
        for shard in self._fetched:
            self._splits[shard].release()
        self._fetched.clear()

    def _open(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._images:
            self._images[shard] = self._splits[shard].images
            self._fetched.discard(shard)
        return self._images[shard]

    def _release_all_but(self, wanted: list[int]) -> None:
        for shard in set(self._images) - set(wanted):
            del self._images[shard]
            self._splits[shard].release()
            self._splits[shard].check_unchanged()
