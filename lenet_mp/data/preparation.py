"""Making a data set: decode, write, keep a journal, and at the end say in the manifest what was made."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lenet_mp.data import classes, manifest
from lenet_mp.data import journal as journals
from lenet_mp.data.jobs import check_space, claim, finished_files, is_complete, job_digest, plan
from lenet_mp.data.journal import FileRecord, Journal
from lenet_mp.data.manifest import Manifest
from lenet_mp.data.passport import passport
from lenet_mp.data.samples import Problem
from lenet_mp.data.shard_making import make_files
from lenet_mp.errors import DataError, OutputError
from lenet_mp.files import make_folder, output_error, write_atomically
from lenet_mp.locks import folder_lock
from lenet_mp.parallel.comm import Solo
from lenet_mp.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lenet_mp.data.jobs import Job, Options
    from lenet_mp.data.samples import Collection
    from lenet_mp.parallel.comm import Comm

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


def prepare(
    collection: Collection,
    options: Options,
    out: Path,
    *,
    workers: int,
    most_rejected: int,
    overwrite: bool = False,
    world: Comm | None = None,
) -> Result | None:
    """Write a data set into `out`, going on where an earlier run of the same job stopped.

    The files depend on the collection, the images and the options alone, not on the number of workers and ranks nor
    on interruptions. Without a manifest nothing of it can be trained on; it is written last, and only if at most
    `most_rejected` samples cannot be used. Under MPI every rank calls this and makes its share of the files; rank 0
    does the rest and alone returns a result.

    Raises
    ------
    UsageError
        If `out` is in use or holds something else.
    OutputError
        If there is not enough space, or the disk fails.
    """
    world = world or Solo()
    digest = job_digest(collection, options)
    jobs = plan(collection, options)
    with ExitStack() as held:
        todo = None
        if world.rank == 0:
            held.enter_context(folder_lock(make_folder(out)))
            held.enter_context(_writing(out))
            if not is_complete(out, digest, overwrite=overwrite):
                records = finished_files(out, digest)
                keep_gaps = most_rejected > 0
                missing = [job for job in jobs if not _finished(job, records, out, keep_gaps=keep_gaps)]
                todo = [job.name for job in missing]
                check_space(
                    out,
                    sum(len(job.placed) for job in missing),
                    options.image_shape,
                    len(missing),
                    share=options.share,
                    finished={job.name for job in jobs} - set(todo),
                )
                claim(out, digest)
        todo = world.broadcast(todo)
        if todo is None:
            return _complete(out) if world.rank == 0 else None
        speeds, made = _make(jobs, todo, options, Journal(out, digest, world.rank), world, workers=workers)
        if world.rank:
            return None
        problems = collection.problems + [Problem(*found) for record in made for found in record.rejected]
        result = Result(problems, None, len(jobs) - len(todo), speeds)
        if len(problems) <= most_rejected:
            result.manifest = _manifest(collection, options, digest, jobs, made, problems)
            names = (f"{label} {name}\n" for label, name in enumerate(collection.class_names))
            write_atomically(out / classes.NAME, "".join(names).encode("utf-8", "surrogateescape"))
            write_atomically(out / manifest.NAME, result.manifest.encode())
            journals.remove(out)
        return result


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn what the system says of the output folder into an ``OutputError``."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise output_error(out, error) from error


def _complete(out: Path) -> Result:
    """The result of a job that an earlier run completed, perhaps dying before it took its journals away."""
    journals.remove(out)
    found = manifest.load(out)
    return Result([Problem(**entry) for entry in found.rejected] if found else [], found)


def _make(
    jobs: list[Job], todo: list[str], options: Options, journal: Journal, world: Comm, *, workers: int
) -> tuple[float, list[FileRecord]]:
    """Make this rank's share of the files named in `todo`; return all ranks' images per second, and all records."""
    mine = set(todo[world.rank :: world.size])
    world.enter("the decoding of images")
    share = [job for job in jobs if job.name in mine]
    label = "prepare" if world.size == 1 else f"prepare, rank 0 of {world.size}"
    count = sum(len(job.placed) for job in share)
    progress = Progress(count, label, "images", shown=world.rank == 0)
    speed = make_files(share, options, journal, workers=workers, progress=progress)
    world.rest()
    made = world.gather((speed, {name: journal.records[name] for name in mine}))
    records = journal.records
    for _, others in made:
        records |= others
    return sum(speed for speed, _ in made), [records[job.name] for job in jobs]


def _finished(job: Job, records: dict[str, FileRecord], out: Path, *, keep_gaps: bool) -> bool:
    """Whether an earlier run made the file, from the same sources, and without leaving out what may be whole by now."""
    record = records.get(job.name)
    path = out / job.name
    return (
        record is not None
        and path.is_file()
        and path.stat().st_size == record.entry.bytes
        and record.inputs == job.inputs
        and (keep_gaps or not record.rejected)
    )


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
