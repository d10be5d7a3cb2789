"""Measure lenet-mp prepare on a folder of photographs, beside a plain Pillow loop in a process pool.

    python scripts/bench_prepare.py FOLDER [--sizes 64 250] [--repeats 5] [--mosaic 4] [--whole 63325]

For every size three ways take turns, so that a busy machine hurts them alike, and medians count:

- pillow: a pool of processes that open, convert, resize, and send the pixels back to the parent, as a loader would;
- full: prepare's own processes, which also hash every source, made to decode JPEG at full scale;
- prepare: the same as they are, decoding JPEG at the scale that suffices.

--mosaic N makes larger photographs of the given ones, N by N in each, in JPEG of quality 85: a megapixel or more, as
cameras take them, where those of well-known data sets have 0.2. --whole COUNT runs the command itself, to the shards
on the disk, on a list that repeats the photographs so many times, with one worker and with one a core.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp.data import decode_pool
from lenet_mp.data.decode_pool import DecodePool
from lenet_mp.data.folders import SUFFIXES
from lenet_mp.data.images import Decoder
from lenet_mp.parallel.threads import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Way = Callable[[Sequence[str], int, int], float]

MOST_AT_ONCE = 1000
MOSAICS = 60
MOSAIC_QUALITY = 85
TILE = (500, 375)
START = decode_pool._START  # noqa: SLF001 - the measurement needs a variant of it
START_FULL = START.replace("main()", "import lenet_mp.data.images as i; i.LEAST_REDUCED = 1e6; main()")


def plain(size: int, path: str) -> np.ndarray:
    """Decode one image as a first script would."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def pillow(files: Sequence[str], size: int, workers: int) -> float:
    """Images per second of a process pool; its start is not counted."""
    with get_context("forkserver").Pool(workers) as pool:
        pool.map(partial(plain, size), files[: 2 * workers])
        began = time.perf_counter()
        for _ in pool.imap_unordered(partial(plain, size), files, chunksize=16):
            pass
        return len(files) / (time.perf_counter() - began)


def prepare(files: Sequence[str], size: int, workers: int) -> float:
    """Images per second of prepare's processes; their start is not counted."""
    with DecodePool(Decoder((size, size)), workers=workers, slots=len(files)) as pool:
        warm = files[: 32 * workers]
        pool.submit((0, file) for file in warm)
        finish(pool, len(warm))
        began = time.perf_counter()
        pool.submit(enumerate(files))
        finish(pool, len(files))
        return len(files) / (time.perf_counter() - began)


def full(files: Sequence[str], size: int, workers: int) -> float:
    """Images per second of prepare's processes when every JPEG is decoded at full scale."""
    decode_pool._START = START_FULL  # noqa: SLF001
    try:
        return prepare(files, size, workers)
    finally:
        decode_pool._START = START  # noqa: SLF001


def finish(pool: DecodePool, count: int) -> None:
    """Wait for so many outcomes."""
    while count > 0:
        count -= len(pool.outcomes())


def mosaics(files: Sequence[str], across: int, folder: Path) -> Iterator[str]:
    """Write photographs put together of ``across`` by ``across`` others."""
    choose = np.random.default_rng(0)
    width, height = TILE
    for number in range(MOSAICS):
        whole = Image.new("RGB", (across * width, across * height))
        for place, chosen in enumerate(choose.integers(0, len(files), across**2).tolist()):
            row, column = divmod(place, across)
            with Image.open(files[chosen]) as image:
                # Cut, not resized, where it is large enough: resizing would blur what makes a photograph costly.
                tile = image.convert("RGB").crop((0, 0, *TILE)) if image.size >= TILE else image.resize(TILE)
            whole.paste(tile, (column * width, row * height))
        path = folder / f"{number}.jpg"
        whole.save(path, quality=MOSAIC_QUALITY)
        yield str(path)


def compare(files: Sequence[str], size: int, repeats: int) -> None:
    """Print median speeds of all ways, on one core and on all, and their ratios."""
    ways: tuple[Way, ...] = (prepare, full, pillow)
    most = cores()
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for workers in sorted({1, most}):
            for way in ways:
                speeds.setdefault((way.__name__, workers), []).append(way(files, size, workers))

    def median_ratio(one: tuple[str, int], other: tuple[str, int]) -> float:
        return statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))

    print(f"{len(files)} images to {size} x {size}, median of {repeats} (best)")
    for (name, workers), values in speeds.items():
        print(f"  {name:8} {workers} workers: {statistics.median(values):6.0f} images/s ({max(values):.0f})")
    print(f"  prepare, {most} workers against 1: {median_ratio(('prepare', most), ('prepare', 1)):.2f} x")
    for workers in sorted({1, most}):
        loop, all_pixels = (median_ratio(("prepare", workers), (name, workers)) for name in ("pillow", "full"))
        print(f"  {workers} workers: prepare against pillow {loop:.2f} x, against full {all_pixels:.2f} x")


def whole(files: Sequence[str], count: int, size: int, repeats: int) -> None:
    """Print the time that the command takes from a list to shards on the disk."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        lines = [f"{files[number % len(files)]} {number % len(files) % 10}\n" for number in range(count)]
        Path(folder, "train.txt").write_text("".join(lines))
        command = [sys.executable, "-m", "lenet_mp.prepare", "--lists", f"{folder}/train.txt", "--root", "/"]
        seconds: dict[int, list[float]] = {}
        for _ in range(repeats):
            for workers in sorted({1, cores()}):
                options = ["--out", f"{folder}/data", "--overwrite", "--size", str(size), "--workers", str(workers)]
                began = time.perf_counter()
                subprocess.run([*command, *options], check=True, capture_output=True)
                seconds.setdefault(workers, []).append(time.perf_counter() - began)
    print(f"{count:,} images to {size} x {size} by the whole command, median of {repeats}")
    for workers, values in seconds.items():
        middle = statistics.median(values)
        print(f"  {workers} workers: {middle:.1f} s, {count / middle:.0f} images/s")
    ratio = statistics.median(one / all_ for one, all_ in zip(seconds[1], seconds[cores()], strict=True))
    print(f"  {cores()} workers against 1: {ratio:.2f} x")


def main() -> None:
    """Measure as the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 250], help="pixels (64 250)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--mosaic", type=int, default=0, metavar="N", help="larger photographs, N by N in each")
    parser.add_argument("--whole", type=int, default=0, metavar="COUNT", help="images through the whole command")
    args = parser.parse_args()
    files = sorted(str(path.resolve()) for path in args.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with tempfile.TemporaryDirectory() as folder:
        if args.mosaic:
            files = list(mosaics(files, args.mosaic, Path(folder)))
        sides = statistics.median(min(Image.open(file).size) for file in files)
        size_in_bytes = statistics.mean(Path(file).stat().st_size for file in files)
        print(f"shorter side {sides:.0f} pixels (median), {size_in_bytes:,.0f} bytes (mean)")
        for size in args.sizes:
            if args.whole:
                whole(files, args.whole, size, args.repeats)
            else:
                compare(files[:MOST_AT_ONCE], size, args.repeats)


if __name__ == "__main__":
    main()
