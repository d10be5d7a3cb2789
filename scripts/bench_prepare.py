"""Compare the decoding of lenet-mp prepare with a plain Pillow loop in a process pool, on a folder of photographs.

    python scripts/bench_prepare.py FOLDER [--size 250] [--repeats 5]

Both decode and resize the same files, taking turns, so that a busy machine hurts them alike; the median speed of
each counts. The Pillow loop sends its pixels back to the parent, as a loader would; prepare's also hashes every source.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp.data.decode_pool import DecodePool
from lenet_mp.data.folders import SUFFIXES
from lenet_mp.data.images import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_AT_ONCE = 1000


def plain(size: int, path: str) -> np.ndarray:
    """Decode one image as a first script would."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def pillow(files: list[str], size: int, workers: int) -> float:
    """Images per second of a process pool; its start is not counted."""
    with get_context("forkserver").Pool(workers) as pool:
        pool.map(partial(plain, size), files[: 2 * workers])
        began = time.perf_counter()
        for _ in pool.imap_unordered(partial(plain, size), files, chunksize=16):
            pass
        return len(files) / (time.perf_counter() - began)


def prepare(files: list[str], size: int, workers: int) -> float:
    """Images per second of prepare's processes; their start is not counted."""
    with DecodePool(Decoder((size, size)), workers=workers, slots=len(files)) as pool:
        pool.submit((0, file) for file in files[: 32 * workers])
        finish(pool, 32 * workers)
        began = time.perf_counter()
        pool.submit(enumerate(files))
        finish(pool, len(files))
        return len(files) / (time.perf_counter() - began)


def finish(pool: DecodePool, count: int) -> None:
    """Wait for so many outcomes."""
    while count > 0:
        count -= len(pool.outcomes())


def main() -> None:
    """Print the median speeds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=250, help="pixels (250)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (5)")
    args = parser.parse_args()
    files = sorted(str(path) for path in args.folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:MOST_AT_ONCE]
    cores = len(os.sched_getaffinity(0))
    speeds: dict[tuple[Callable[[list[str], int, int], float], int], list[float]] = {}
    for _ in range(args.repeats):
        for workers in sorted({1, cores}):
            for way in (prepare, pillow):
                speeds.setdefault((way, workers), []).append(way(files, args.size, workers))
    median = {key: statistics.median(values) for key, values in speeds.items()}
    print(f"{len(files)} images to {args.size} x {args.size}, median of {args.repeats} (best)")
    for (way, workers), value in median.items():
        best = max(speeds[way, workers])
        print(f"{way.__name__:8} {workers} workers: {value:6.0f} images/s ({best:.0f})")
    print(f"prepare, {cores} workers against 1: {median[prepare, cores] / median[prepare, 1]:.2f} x")
    print(f"prepare against pillow, {cores} workers: {median[prepare, cores] / median[pillow, cores]:.2f} x")
    print(f"63,325 images at that speed: {63_325 / median[prepare, cores]:.0f} s")


if __name__ == "__main__":
    main()
