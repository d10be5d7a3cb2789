"""One flipped bit in a shard, manifest, checkpoint or export is found before anything of it is used.

Found means: the reader that training, prediction or --init-from takes raises an error. A bit that says nothing (the
date in a zip archive) may flip if what is read stays the same to the last bit; those are counted as accepted. Formats
with nothing to compare: shards in a folder without a manifest, which HDF5 stores without checksums, and exports to
ONNX and C, which nothing here reads again.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np
import small_run
from campaigns import fuzz_checkpoints
from campaigns.fuzzing import fuzz
from PIL import Image

from lenet_mp.data import jpeg_store, manifest
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.data.shards import open_dataset
from lenet_mp.files import write_atomically
from lenet_mp.networks import warm_start
from lenet_mp.results import exporters
from lenet_mp.training import checkpoint

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from campaigns.tally import Tally

SMALL, FULL = 150, 20_000


def run(size: int, seed: int, folder: Path) -> Tally:
    """Flip bits and read."""
    return fuzz("flips", size, seed, folder)


def make(folder: Path) -> Target:
    """Return the target of one process."""
    return Target(folder)


class Target:
    """Files with what reads them; a mutant is the number of a file and of a bit."""

    def __init__(self, folder: Path) -> None:
        raw, encoded = folder / "raw", folder / "jpeg"
        if not raw.exists():
            small_run.write_data(raw)
            _write_encoded(encoded)
            for number, data in enumerate(fuzz_checkpoints.originals()):
                (folder / f"{number}.ckpt").write_bytes(data)
            kinds = ("npz", "safetensors") if importlib.util.find_spec("safetensors") else ("npz",)
            for kind in kinds:
                exporters.EXPORTERS[kind](checkpoint.load(folder / "1.ckpt"), folder / f"weights.{kind}")
        readers: dict[Path, Callable[[Path], str]] = {
            path: _read_dataset for data in (raw, encoded) for path in (*data.glob("*.h5"), data / manifest.NAME)
        }
        readers |= dict.fromkeys(folder.glob("*.ckpt"), _read_checkpoint)
        readers |= dict.fromkeys(folder.glob("weights.*"), _read_weights)
        self._readers = sorted(readers.items())
        self._contents = {path: path.read_bytes() for path in readers}
        self._expected = {path: reader(path) for path, reader in readers.items()}

    def mutant(self, rng: random.Random) -> bytes:
        """Choose a file, and one of its bits."""
        number = rng.randrange(len(self._readers))
        bit = rng.randrange(8 * len(self._contents[self._readers[number][0]]))
        return bytes([number]) + bit.to_bytes(8, "little")

    def read(self, mutant: bytes) -> None:
        """Flip the bit, read, and put the file right again."""
        path, reader = self._readers[mutant[0]]
        bit = int.from_bytes(mutant[1:], "little")
        changed = bytearray(self._contents[path])
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            if reader(path) != self._expected[path]:
                raise AssertionError(f"not found: bit {bit} of {path.parent.name}/{path.name}")
        finally:
            path.write_bytes(self._contents[path])


def _write_encoded(folder: Path) -> None:
    """Write a data set of JPEG images."""
    folder.mkdir()
    images, labels = small_run.pictures(12, 5)
    stored = [jpeg_store.encode(Image.fromarray(image), 90) for image in images]
    entry = write_shard(
        folder / "0.h5", [("train", stored, labels)], image_shape=small_run.SHAPE, channel_order="RGB"
    )
    document = manifest.Manifest(small_run.SHAPE, "RGB", small_run.NAMES, (entry,))
    write_atomically(folder / manifest.NAME, document.encode())


def _read_dataset(path: Path) -> str:
    """Open the data set that the file belongs to, and touch all images, as training does."""
    dataset = open_dataset(path.parent)
    found = hashlib.sha256(repr((dataset.manifest, dataset.class_names, dataset.channel_order)).encode())
    for split in (*dataset.train, dataset.validation, dataset.test):
        if split is not None:
            found.update(split.labels.tobytes() + np.ascontiguousarray(split.images).tobytes())
            split.release()
    return found.hexdigest()


def _read_checkpoint(path: Path) -> str:
    return repr(astuple(checkpoint.load(path)))


def _read_weights(path: Path) -> str:
    source = warm_start.read(path)
    facts = repr((sorted(source.arrays), source.scale, source.offset))
    return facts + hashlib.sha256(b"".join(array.tobytes() for _, array in sorted(source.arrays.items()))).hexdigest()
