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
from lenet_mp.errors import DataError, OutputError, UsageError
from lenet_mp.progress import size

if TYPE_CHECKING:
    from collections.abc import Container
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
    def share(self) -> float:
        """Bytes that are stored, about, by bytes of pixels."""
        return _JPEG_SHARE if self.store == "jpeg" else 1.0

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


def is_complete(out: Path, job: str, *, overwrite: bool) -> bool:
    """Whether the folder already holds exactly this data set, complete.

    Raises
    ------
    UsageError
        If the folder holds another data set, or shards of unknown origin, and `overwrite` is not given.
    """
    if (out / manifest.NAME).exists() and not overwrite:
        try:
            found = manifest.load(out)
        except DataError as error:
            raise UsageError(f"{error}, with --overwrite") from error
        if found is None or found.options.get("job") != job:
            raise UsageError(f"{out}: holds a data set already; choose another --out or give --overwrite")
        for entry in found.shards:
            path = out / entry.name
            if not path.is_file() or path.stat().st_size != entry.bytes:
                raise UsageError(f"{path}: is missing or has another size than it had; give --overwrite")
        return True
    shards = [path.name for path in _ours(out) if path.name[0] != "."]
    if shards and not journal.journals(out) and not overwrite:
        raise UsageError(f"{out}: holds {shards[0]}, not from here; choose another --out or give --overwrite")
    return False


def finished_files(out: Path, job: str) -> dict[str, journal.FileRecord]:
    """What an interrupted run of this job finished; nothing if the folder holds a complete data set."""
    return {} if (out / manifest.NAME).exists() else journal.read(out, job)


def claim(out: Path, job: str) -> journal.Journal:
    """Make the folder ready for a job: keep what an interrupted run of it finished, clear the rest away."""
    if (out / manifest.NAME).exists():
        # First of all, so that nobody takes what remains for a data set.
        (out / manifest.NAME).unlink()
        journal.remove(out)
    kept = journal.Journal(out, job)
    for path in _ours(out):
        if path.name not in kept.records:
            path.unlink()
    for name in (classes.NAME, manifest.SHEET, manifest.BALANCE):  # of what was there, not of what will be
        (out / name).unlink(missing_ok=True)
    return kept


def _ours(out: Path) -> list[Path]:
    """Files that are called like ours."""
    return [path for path in out.iterdir() if _OURS.fullmatch(path.name)]


def check_space(
    out: Path,
    samples: int,
    image_shape: tuple[int, int, int],
    new_files: int,
    *,
    share: float = 1.0,
    finished: Container[str] = (),
) -> None:
    """Compare what will be written with what is free; ``OutputError`` before anything is begun, or cleared away.

    Parameters
    ----------
    out : Path
    samples : images that will be written
    image_shape : (H, W, C)
    new_files : files that they go into
    share : stored bytes by bytes of pixels
    finished : names of files that stay; the others of ours make room
    """
    height, width, channels = image_shape
    needed = int((samples * height * width * channels * share + new_files * _HEADER_BYTES) * 1.02)
    status = os.statvfs(out)
    free = status.f_bavail * status.f_frsize
    free += sum(path.stat().st_size for path in _ours(out) if path.name not in finished)
    if needed > free:
        raise OutputError(
            f"{out}: needs {size(needed)} for {samples:,} images of {height} x {width} x {channels}, only "
            f"{size(free)} are free; choose another --out or a smaller --size"
        )
