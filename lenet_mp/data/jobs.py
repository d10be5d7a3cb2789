"""A preparation as a plan: which samples go into which file, in which order, and what may stand in its way."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import h5py
import PIL

from lenet_mp.data import classes, journal, manifest
from lenet_mp.data.folders import shuffled
from lenet_mp.data.images import DEFAULT_FILTER
from lenet_mp.data.jpeg_store import DEFAULT_QUALITY
from lenet_mp.data.shard_file import FORMAT
from lenet_mp.errors import OutputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from lenet_mp.data.samples import Collection, Sample

_OURS = re.compile(r"(0|[1-9][0-9]*|data)\.h5|\.[^/]*\.tmp[^/]*")
_HEADER_BYTES = 65_536
_JPEG_SHARE = 0.2
"""Bytes of a JPEG image by bytes of its pixels: 0.1 to 0.2 for photographs at quality 90, more for smaller ones."""


@dataclass(frozen=True)
class Options:
    """How the images are stored.

    Attributes
    ----------
    size : (H, W) in pixels
    channels : 1 or 3
    shard_size : training images a file
    seed : order of the training images
    resampling : Pillow's filter
    store : "raw" for pixels, "jpeg" for JPEG images of `quality`
    quality : 1 to 95
    """

    size: tuple[int, int] = (250, 250)
    channels: int = 3
    shard_size: int = 500
    seed: int = 0
    resampling: str = DEFAULT_FILTER
    store: str = "raw"
    quality: int = DEFAULT_QUALITY

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a stored image."""
        return (*self.size, self.channels)

    @property
    def channel_order(self) -> str:
        """Order of the stored channels."""
        return "L" if self.channels == 1 else "RGB"


@dataclass(frozen=True)
class Job:
    """One file to be: its name and its samples in blocks of at most ``shard_size``, each of one split."""

    name: str
    blocks: tuple[tuple[str, tuple[Sample, ...]], ...]

    @property
    def placed(self) -> list[tuple[str, Sample]]:
        """(split, sample) of all samples, in order."""
        return [(split, sample) for split, samples in self.blocks for sample in samples]

    @property
    def inputs(self) -> str:
        """Digest of the source files' sizes and times."""
        text = repr([sample.stamp for _, sample in self.placed])
        return hashlib.sha256(text.encode()).hexdigest()


def plan(collection: Collection, options: Options) -> list[Job]:
    """Shuffle the training samples, cut them into shards, and put validation and test into one more file."""
    order = shuffled(collection.samples["train"], options.seed, "train")
    jobs = [Job(f"{number}.h5", (("train", part),)) for number, part in enumerate(_cut(order, options.shard_size))]
    blocks = [
        (split, part)
        for split in ("validation", "test")
        for part in _cut(collection.samples.get(split, []), options.shard_size)
    ]
    return [*jobs, Job(manifest.HELD_OUT, tuple(blocks))] if blocks else jobs


def _cut(samples: list[Sample], size: int) -> list[tuple[Sample, ...]]:
    return [tuple(samples[start : start + size]) for start in range(0, len(samples), size)]


def job_digest(collection: Collection, options: Options) -> str:
    """Digest of everything that decides the files' bytes, but the images: samples, options, library versions."""
    document = {
        "format": FORMAT,
        "versions": [PIL.__version__, h5py.version.hdf5_version],
        "options": asdict(options),
        "class_names": collection.class_names,
        "samples": {
            split: [(sample.path, sample.label) for sample in images] for split, images in collection.samples.items()
        },
    }
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def claim(out: Path, job: str, *, overwrite: bool) -> journal.Journal | None:
    """Make the folder ready for a job: go on with what is there, or clear it away if that is allowed.

    Returns
    -------
    Journal or None
        None if the folder already holds exactly this data set, complete.

    Raises
    ------
    UsageError
        If the folder holds another data set, or shards of unknown origin, and `overwrite` is not given.
    """
    complete = (out / manifest.NAME).exists()
    started = bool(journal.journals(out))
    if complete and not overwrite:
        found = manifest.load(out)
        if found is not None and found.options.get("job") == job:
            return None
        raise UsageError(f"{out}: holds a data set already; choose another --out or give --overwrite")
    ours = [path for path in out.iterdir() if _OURS.fullmatch(path.name)]
    shards = [path.name for path in ours if path.name[0] != "."]
    if shards and not started and not overwrite:
        raise UsageError(f"{out}: holds {shards[0]}, not from here; choose another --out or give --overwrite")
    if complete:
        # First of all, so that nobody takes what remains for a data set.
        (out / manifest.NAME).unlink()
        journal.remove(out)
    kept = journal.Journal(out, job)
    for path in ours:
        if path.name not in kept.records:
            path.unlink()
    (out / classes.NAME).unlink(missing_ok=True)
    return kept


def check_space(out: Path, jobs: list[Job], options: Options) -> None:
    """Compare what will be written with what is free; ``OutputError`` before anything is begun."""
    height, width, channels = options.image_shape
    samples = sum(len(job.placed) for job in jobs)
    share = _JPEG_SHARE if options.store == "jpeg" else 1.0
    needed = int((samples * height * width * channels * share + len(jobs) * _HEADER_BYTES) * 1.02)
    status = os.statvfs(out)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise OutputError(
            f"{out}: needs {needed / 1e9:.1f} GB for {samples:,} images of {height} x {width} x {channels}, only "
            f"{free / 1e9:.1f} GB are free; choose another --out or a smaller --size"
        )
