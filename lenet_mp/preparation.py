"""Making a data set: decode, write, keep a journal, and at the end say in the manifest what was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import classes, manifest
from lenet_mp.decode_pool import DecodePool
from lenet_mp.errors import DataError
from lenet_mp.files import make_folder, write_atomically
from lenet_mp.images import Decoder
from lenet_mp.jobs import check_space, claim, job_digest, plan
from lenet_mp.journal import FileRecord
from lenet_mp.lists import Problem
from lenet_mp.locks import folder_lock
from lenet_mp.manifest import Manifest, ShardEntry
from lenet_mp.passport import passport
from lenet_mp.progress import Progress
from lenet_mp.shard_writer import write_shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from lenet_mp.decode_worker import Outcome
    from lenet_mp.jobs import Job, Options
    from lenet_mp.journal import Journal
    from lenet_mp.lists import Collection, Sample
    from lenet_mp.shard_writer import Block

    Decoded = tuple[Sequence[Sample], list[Outcome], np.ndarray]

_ENCODED_AXES = 2  # image, byte


@dataclass
class Result:
    """What became of a preparation.

    Attributes
    ----------
    problems : everything that cannot be used, in the order of the lists, then of the shards
    manifest : None if the problems are too many to go on
    reused : files that an earlier run had finished
    images_per_second : speed of this run
    """

    problems: list[Problem]
    manifest: Manifest | None
    reused: int = 0
    images_per_second: float = 0.0


def inspect(collection: Collection, options: Options, *, workers: int) -> list[Problem]:
    """Decode all images and keep none; return the problems of those that cannot be decoded."""
    samples = [sample for images in collection.samples.values() for sample in images]
    blocks = [samples[start : start + options.shard_size] for start in range(0, len(samples), options.shard_size)]
    progress = Progress(len(samples), "check", "images")
    with _pool(options, workers) as pool:
        found = [_problems(block, outcomes) for block, outcomes, _ in _decoded(pool, blocks, progress)]
    progress.close()
    return [problem for problems in found for problem in problems]


def prepare(
    collection: Collection,
    options: Options,
    out: Path,
    *,
    workers: int,
    most_rejected: int,
    overwrite: bool = False,
) -> Result:
    """Write a data set into `out`, going on where an earlier run of the same job stopped.

    The files depend on the collection, the images and the options alone, not on the number of workers nor on
    interruptions. Without a manifest nothing of it can be trained on; it is written last, and only if at most
    `most_rejected` samples cannot be used.

    Raises
    ------
    UsageError
        If `out` is in use or holds something else.
    OutputError
        If there is not enough space, or the disk fails.
    """
    make_folder(out)
    with folder_lock(out):
        digest = job_digest(collection, options)
        journal = claim(out, digest, overwrite=overwrite)
        if journal is None:
            found = manifest.load(out)
            return Result([Problem(**entry) for entry in found.rejected] if found else [], found)
        jobs = plan(collection, options)
        todo = [job for job in jobs if not _finished(job, journal, out, keep_gaps=most_rejected > 0)]
        check_space(out, todo, options)
        speed = _write_files(todo, options, out, journal, workers=workers)
        records = [journal.records[job.name] for job in jobs]
        problems = collection.problems + [Problem(*found) for record in records for found in record.rejected]
        result = Result(problems, None, len(jobs) - len(todo), speed)
        if len(problems) <= most_rejected:
            result.manifest = _manifest(collection, options, digest, jobs, records, problems)
            names = (f"{label} {name}\n" for label, name in enumerate(collection.class_names))
            write_atomically(out / classes.NAME, "".join(names).encode("utf-8", "surrogateescape"))
            write_atomically(out / manifest.NAME, result.manifest.encode())
            journal.remove()
        return result


def _pool(options: Options, workers: int) -> DecodePool:
    decoder = Decoder(options.size, options.channels, options.channel_order, options.resampling)
    quality = options.quality if options.store == "jpeg" else None
    return DecodePool(decoder, workers=workers, slots=2 * options.shard_size, quality=quality)


def _finished(job: Job, journal: Journal, out: Path, *, keep_gaps: bool) -> bool:
    """Whether an earlier run made the file, from the same sources, and without leaving out what may be whole by now."""
    record = journal.records.get(job.name)
    path = out / job.name
    return (
        record is not None
        and path.is_file()
        and path.stat().st_size == record.entry.bytes
        and record.inputs == job.inputs
        and (keep_gaps or not record.rejected)
    )


def _write_files(jobs: list[Job], options: Options, out: Path, journal: Journal, *, workers: int) -> float:
    """Make the files of `jobs`, each noted in the journal once it is in place; return images per second."""
    if not jobs:
        return 0.0
    finished = sum(len(record.used) for record in journal.records.values())
    count = sum(len(job.placed) for job in jobs)
    progress = Progress(finished + count, "prepare", "images", done=finished)
    with _pool(options, min(workers, count)) as pool:
        blocks = _decoded(pool, [samples for job in jobs for _, samples in job.blocks], progress)
        for job in jobs:
            record = FileRecord(ShardEntry(job.name, {}, 0, ""), job.inputs)
            filled = _fill(job, record, blocks)
            shape, order = options.image_shape, options.channel_order
            record.entry = write_shard(out / job.name, filled, image_shape=shape, channel_order=order)
            journal.add(record)
    progress.close()
    return progress.rate()


def _fill(job: Job, record: FileRecord, blocks: Iterator[Decoded]) -> Iterator[Block]:
    """Yield the next blocks as `job` needs them, and note in `record` what became of their images."""
    for split, _ in job.blocks:
        samples, outcomes, images = next(blocks)
        good = [not outcome.reason for outcome in outcomes]
        record.rejected += [[problem.where, problem.reason] for problem in _problems(samples, outcomes)]
        record.digests += [outcome.digest for outcome in outcomes]
        record.used += good
        if split == "train":
            moments = [(outcome.sums, outcome.squares) for outcome in outcomes if not outcome.reason]
            for sums, squares in moments:
                record.sums = _added(record.sums, sums)
                record.squares = _added(record.squares, squares)
        labels = np.array([sample.label for sample in samples], np.int32)
        if images.ndim == _ENCODED_AXES:
            pairs = zip(images, outcomes, strict=True)
            yield split, [row[: outcome.size].tobytes() for row, outcome in pairs if not outcome.reason], labels[good]
        else:
            # All good, the ordinary case, is passed on as it lies there, without a copy.
            yield (split, images, labels) if all(good) else (split, images[good], labels[good])


def _added(total: list[int], more: Sequence[int]) -> list[int]:
    return [one + other for one, other in zip(total, more, strict=True)] if total else list(more)


def _decoded(pool: DecodePool, blocks: Iterable[Sequence[Sample]], progress: Progress) -> Iterator[Decoded]:
    """Decode block after block into the two halves of the pool's buffer, one block ahead of the caller.

    Yields samples, their outcomes, and their slots of the buffer, which are valid until the next one is asked for.
    """
    half = len(pool.buffer) // 2
    blocks = list(blocks)
    outcomes: dict[int, Outcome] = {}

    def submit(number: int) -> None:
        if number < len(blocks):
            pool.submit((half * (number % 2) + place, sample.file) for place, sample in enumerate(blocks[number]))

    submit(0)
    for number, samples in enumerate(blocks):
        submit(number + 1)
        slots = range(half * (number % 2), half * (number % 2) + len(samples))
        while not all(slot in outcomes for slot in slots):
            arrived = pool.outcomes()
            outcomes.update((outcome.slot, outcome) for outcome in arrived)
            progress.advance(len(arrived))
        yield samples, [outcomes.pop(slot) for slot in slots], pool.buffer[slots.start : slots.stop]


def _problems(samples: Sequence[Sample], outcomes: Sequence[Outcome]) -> list[Problem]:
    pairs = zip(samples, outcomes, strict=True)
    return [sample.problem(outcome.reason) for sample, outcome in pairs if outcome.reason]


def _manifest(
    collection: Collection,
    options: Options,
    digest: str,
    jobs: list[Job],
    records: list[FileRecord],
    problems: list[Problem],
) -> Manifest:
    """Describe the finished data set; ``DataError`` if a file or a split of it is empty."""
    for job, record in zip(jobs, records, strict=True):
        empty = {split for split, _ in job.blocks} - set(record.entry.counts)
        if empty:
            raise DataError(f"{job.name}: no {empty.pop()} image in it can be used; give a larger --shard-size")
    return Manifest(
        options.image_shape,
        options.channel_order,
        collection.class_names,
        tuple(record.entry for record in records),
        {**asdict(options), "job": digest},
        tuple(asdict(problem) for problem in problems),
        passport(jobs, records, options, len(collection.class_names)),
    )
