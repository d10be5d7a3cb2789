"""Measure how fast training reads its shards: from the page cache, and from the disk.

    python scripts/bench_read.py FOLDER [--model 1] [--shards 40] [--rounds 5]

Writes shards of 500 images of 250 x 250 x 3 into FOLDER (3.8 GB; kept there for the next time) and trains on them:

- warm: steps on shards in the page cache, against steps on one batch in the process's own memory. Both take turns, a
  shard's worth of steps each. Once with all shards mapped for good, as where the data fit into half of the memory, and
  once mapped anew whenever they are read, as where they do not.
- cold: an epoch after the shards were dropped from the page cache, against dd on the same files, dropped too, and
  against a warm epoch: it can be no faster than the slower of the two. With --model 1 the engine is about as fast as
  a fast disk; --model pool, an average of the pixels and nothing else, leaves the time to the disk.

Figures are medians of ratios within a round; a round in which something else ran shows nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data import shards
from lenet_mp.data.manifest import NAME, Manifest
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.files import write_atomically
from lenet_mp.parallel.comm import Solo
from lenet_mp.plan import COUNTS
from lenet_mp.training import assembly
from lenet_mp.training.config import Config
from lenet_mp.training.stopping import StopRequest

if TYPE_CHECKING:
    from lenet_mp.training.trainer import Trainer

COUNT, SHAPE, CLASSES = 500, (250, 250, 3), 10
RATE, LIMIT = 1e-9, 1e3  # of learning, which must not go wrong on noise; of a group's gradient
POOL = '[[layer]]\nkind = "average_pool"\nkernel = 50\n[[layer]]\nkind = "dense"\n'


def write(folder: Path, count: int) -> None:
    """Write a data set of noise."""
    choose = np.random.default_rng(0)
    images = choose.integers(0, 256, (COUNT, *SHAPE), np.uint8)
    entries = []
    for number in range(count):
        labels = choose.integers(0, CLASSES, COUNT).astype(np.int32)
        blocks = [("train", np.roll(images, number, axis=0), labels)]
        entries.append(write_shard(folder / f"{number}.h5", blocks, image_shape=SHAPE, channel_order="RGB"))
    manifest = Manifest(SHAPE, "RGB", tuple(map(str, range(CLASSES))), tuple(entries))
    write_atomically(folder / NAME, manifest.encode())


def make_trainer(folder: Path, model: str, free: int) -> Trainer:
    """A trainer that takes so many bytes of memory for free."""
    real, shards.available_bytes = shards.available_bytes, lambda: free
    try:
        settings = Config(model=model, data=str(folder), epochs=1000, batch_size=COUNT, lr=str(RATE))
        return assembly.make_trainer(Solo(), settings)
    finally:
        shards.available_bytes = real


def advance(trainer: Trainer, count: int) -> float:
    """Seconds of so many steps, the trainer's next ones."""
    stop = StopRequest()
    began = time.perf_counter()
    for _ in range(count):
        trainer._work(stop)  # noqa: SLF001 - a part of the trainer's loop is measured
        if trainer.step == trainer.loader.steps:
            trainer.epoch, trainer.step = trainer.epoch + 1, 0
    return time.perf_counter() - began


class InMemory:
    """The same steps, always on one batch that was copied."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        part = trainer.loader.part(1, 0)
        splits = trainer.dataset.train
        places = list(zip(part.shards.tolist(), part.rows.tolist(), strict=True))
        self._images = np.stack([splits[shard].images[row] for shard, row in places])
        self._addresses = self._images.ctypes.data + np.arange(COUNT, dtype=np.uintp) * self._images[0].nbytes
        self._labels = np.array([splits[shard].labels[row] for shard, row in places], np.int32)
        self._starts = part.group_starts
        self._totals = np.zeros(trainer.network.parameter_count + COUNTS, np.int64)

    def advance(self, count: int) -> float:
        """Seconds of so many steps, the weights' update included."""
        trainer, totals = self._trainer, self._totals
        began = time.perf_counter()
        for _ in range(count):
            trainer.plan.step(
                trainer.parameters, self._addresses, self._labels, self._starts, limit=LIMIT, totals=totals
            )
            trainer.descent.update(trainer.parameters, totals[:-COUNTS], COUNT, RATE)
        return time.perf_counter() - began


def drop(folder: Path) -> None:
    """Drop the shards from the page cache, where nothing has them mapped."""
    for path in folder.glob("*.h5"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def dd(folder: Path) -> float:
    """Seconds that dd takes to read all shards."""
    began = time.perf_counter()
    for path in sorted(folder.glob("*.h5")):
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=4M"], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def warm(folder: Path, model: str, rounds: int) -> None:
    """Print the speed from the page cache against that on one batch in memory."""
    for free, how in ((1 << 60, "mapped for good"), (0, "mapped anew")):
        trainer = make_trainer(folder, model, free)
        batch = InMemory(trainer)
        block = trainer.loader.steps_a_shard
        advance(trainer, trainer.loader.steps)
        ratios, speeds = [], []
        for _ in range(rounds * max(1, trainer.loader.steps // block)):
            mapped, memory = advance(trainer, block), batch.advance(block)
            ratios.append(memory / mapped)
            speeds.append(block * COUNT / mapped)
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"warm, {how}: {middle:.3f} of one batch in memory (quartiles {low:.3f}, {high:.3f} of {len(ratios)}), "
            f"{statistics.median(speeds):,.0f} images/s"
        )


def cold(folder: Path, model: str, rounds: int) -> None:
    """Print the speed from the disk against dd's and a warm epoch's."""
    size = sum(path.stat().st_size for path in folder.glob("*.h5"))
    ratios = []
    for _ in range(rounds):
        drop(folder)
        disk = dd(folder)
        drop(folder)
        trainer = make_trainer(folder, model, shards.available_bytes())
        from_disk, from_memory = (advance(trainer, trainer.loader.steps) for _ in range(2))
        ratios.append(max(disk, from_memory) / from_disk)
        print(
            f"cold: dd {size / disk / 1e9:.2f} GB/s, epoch {size / from_disk / 1e9:.2f} GB/s, warm "
            f"{size / from_memory / 1e9:.2f} GB/s: {ratios[-1]:.2f} of the slower of dd and warm"
        )
    print(f"cold, median: {statistics.median(ratios):.2f}")


def main() -> None:
    """Measure as the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="1", help="1, 2, a TOML file, or pool (1)")
    parser.add_argument("--shards", type=int, default=40, help="500 images each (40)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if not (args.folder / NAME).exists():
        write(args.folder, args.shards)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write('name = "pool"\n' + POOL)
        file.flush()
        model = file.name if args.model == "pool" else args.model
        warm(args.folder, model, args.rounds)
        cold(args.folder, model, args.rounds)


if __name__ == "__main__":
    main()
