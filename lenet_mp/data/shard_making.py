"""From image files to shards: decode block after block, write file after file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data.decode_pool import DecodePool
from lenet_mp.data.images import Decoder
from lenet_mp.data.journal import FileRecord
from lenet_mp.data.manifest import ShardEntry
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lenet_mp.data.decode_worker import Outcome
    from lenet_mp.data.jobs import Job, Options
    from lenet_mp.data.journal import Journal
    from lenet_mp.data.samples import Collection, Problem, Sample
    from lenet_mp.data.shard_writer import Block

    Decoded = tuple[Sequence[Sample], list[Outcome], np.ndarray]

_ENCODED_AXES = 2  # image, byte


def inspect(collection: Collection, options: Options, *, workers: int) -> list[Problem]:
    """Decode all images and keep none; return the problems of those that cannot be decoded."""
    samples = [sample for images in collection.samples.values() for sample in images]
    blocks = [samples[start : start + options.shard_size] for start in range(0, len(samples), options.shard_size)]
    progress = Progress(len(samples), "check", "images")
    with open_pool(options, workers) as pool:
        found = [_problems(block, outcomes) for block, outcomes, _ in _decoded(pool, blocks, progress)]
    progress.close()
    return [problem for problems in found for problem in problems]


def make_files(jobs: list[Job], options: Options, journal: Journal, *, workers: int, progress: Progress) -> float:
    """Make the files of `jobs`, each noted in the journal once it is in place; return images per second."""
    if not jobs:
        return 0.0
    with open_pool(options, min(workers, sum(len(job.placed) for job in jobs))) as pool:
        blocks = _decoded(pool, [samples for job in jobs for _, samples in job.blocks], progress)
        for job in jobs:
            record = FileRecord(ShardEntry(job.name, {}, 0, "", ""), job.inputs)
            filled = _fill(job, record, blocks)
            shape, order = options.image_shape, options.channel_order
            record.entry = write_shard(journal.folder / job.name, filled, image_shape=shape, channel_order=order)
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


def open_pool(options: Options, workers: int) -> DecodePool:
    """Processes that decode to what `options` say, with room for two shards."""
    decoder = Decoder(options.size, options.channels, options.channel_order, options.resampling)
    quality = options.quality if options.store == "jpeg" else None
    return DecodePool(decoder, workers=workers, slots=2 * options.shard_size, quality=quality)
