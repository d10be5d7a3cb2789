"""``lenet-mp prepare``: turn lists of images, or folders of them, into a data set for training."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NoReturn

from lenet_mp import cli, tables
from lenet_mp.data import checks, idx_preparation
from lenet_mp.data.classes import read_classes
from lenet_mp.data.folders import read_folders
from lenet_mp.data.jobs import Options
from lenet_mp.data.lists import read_lists
from lenet_mp.data.preparation import Result, prepare
from lenet_mp.data.prepare_options import build_parser, settled
from lenet_mp.data.shard_making import inspect
from lenet_mp.errors import DataError, UsageError, printable
from lenet_mp.parallel import comm, threads
from lenet_mp.parallel.last_words import ending_together
from lenet_mp.progress import duration, size

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from lenet_mp.data.manifest import Manifest
    from lenet_mp.data.samples import Collection, Problem
    from lenet_mp.parallel.comm import Comm

FREE_REJECTIONS = 10
"""So many images are skipped whatever their share; a small set reaches any share with them."""


@cli.command("prepare")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    world = comm.connect()
    with ending_together(world, "lenet-mp prepare"):
        return _run(settled(build_parser().parse_args(argv)), world)


def _run(args: argparse.Namespace, world: Comm) -> int:
    began = time.monotonic()
    if args.idx:
        return _from_idx(args, world, began)
    size, channels = args.size or Options.size, args.channels or Options.channels
    options = Options(size, channels, args.shard_size, args.seed, args.filter, args.store, args.quality)
    workers = args.workers or max(1, threads.cores() // world.local_size)
    gathered = _gather(args, options, workers) if world.rank == 0 else None
    world.rest()
    collection, most_rejected = world.broadcast(gathered)
    result = prepare(
        collection,
        options,
        args.out,
        workers=workers,
        most_rejected=most_rejected,
        overwrite=args.overwrite,
        world=world,
    )
    if result is None:
        return 0
    _show(result.problems[len(collection.problems) :], [])
    if result.manifest is None:
        _give_up(args, result.problems, _total(collection))
    _report(args.report, result.problems)
    _summarise(args.out, result, result.manifest, time.monotonic() - began)
    return 0


def _from_idx(args: argparse.Namespace, world: Comm, began: float) -> int:
    """Prepare IDX files, on rank 0: it takes a second."""
    if world.rank:
        world.rest()
        return 0
    if args.store != "raw" or args.channels not in (None, 1):
        raise UsageError("--idx: the images have one channel and are stored raw; leave --store and --channels out")
    if not args.idx.is_dir():
        raise UsageError(f"{args.idx}: no such folder; give the one with the IDX files")
    made, new = idx_preparation.prepare(
        args.idx,
        args.out,
        hold_out=args.hold_out,
        size=args.size,
        resampling=args.filter,
        shard_size=args.shard_size,
        seed=args.seed,
        class_names=read_classes(args.classes) if args.classes else (),
        overwrite=args.overwrite,
    )
    seconds = time.monotonic() - began
    images = sum(sum(shard.counts.values()) for shard in made.shards)
    _summarise(args.out, Result([], made, 0, images / seconds if new else 0.0), made, seconds)
    world.rest()
    return 0


def _total(collection: Collection) -> int:
    """Samples that the lists or folders name, good or bad."""
    return sum(map(len, collection.samples.values())) + len(collection.problems)


def _gather(args: argparse.Namespace, options: Options, workers: int) -> tuple[Collection, int]:
    """Return all samples that may be usable, and how many may turn out not to be; stop here if too many are not."""
    if args.report and not args.report.parent.is_dir():
        raise UsageError(f"--report {args.report}: there is no folder {args.report.parent}; name a file in one")
    collection = _collect(args)
    total = _total(collection)
    most_rejected = 0 if args.skip_bad is None else max(FREE_REJECTIONS, int(args.skip_bad / 100 * total))
    broken = checks.faults(collection)
    _show(collection.problems + broken, collection.notices)
    if broken:
        _report(args.report, collection.problems + broken)
        raise DataError(f"nothing was prepared: {broken[0]}")
    if len(collection.problems) > most_rejected:
        # The lists must change anyhow; look at the images too, so that one pass shows everything.
        print("prepare: looking at the images as well, writing nothing", file=sys.stderr)
        problems = inspect(collection, options, workers=workers)
        _show(problems, [])
        _give_up(args, collection.problems + problems, total)
    return collection, most_rejected


def _collect(args: argparse.Namespace) -> Collection:
    """Samples from the lists or folders, with everything that can be checked without decoding."""
    if args.lists:
        if len(args.lists) > 3:  # noqa: PLR2004
            raise UsageError(f"--lists takes a training, a validation and a test list, not {len(args.lists)} lists")
        splits = dict(zip(("train", "validation", "test"), args.lists, strict=False))
        collection = read_lists(splits, classes_file=args.classes)
        root = args.root or args.lists[0].parent
    else:
        collection = read_folders(args.folder, args.split, args.seed)
        root = args.folder
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; give the one where the images are with --root")
    checks.resolve(collection, root, allow_outside=args.allow_outside)
    checks.check_conflicts(collection)
    return collection


def _show(problems: Sequence[Problem], notices: Sequence[str]) -> None:
    for notice in notices:
        print(f"prepare: note: {printable(notice)}", file=sys.stderr)
    for problem in problems:
        print(f"prepare: {printable(str(problem))}", file=sys.stderr)


def _give_up(args: argparse.Namespace, problems: Sequence[Problem], total: int) -> NoReturn:
    """Report all problems and stop with exit code 3."""
    _report(args.report, problems)
    counted = f"{len(problems):,} of {total:,} samples cannot be used (all are listed above)"
    if args.skip_bad is None:
        raise DataError(f"{counted}; repair them or their lines, or leave them out with --skip-bad")
    raise DataError(f"{counted}, more than {args.skip_bad:g} %; is --root right? '--skip-bad PERCENT' allows more")


def _report(path: Path | None, problems: Sequence[Problem]) -> None:
    if path is None:
        return
    rows = [(problem.where, problem.reason) for problem in problems]
    tables.write_text(path, tables.as_csv(["where", "reason"], rows))


def _summarise(out: Path, result: Result, found: Manifest, seconds: float) -> None:
    """Tell on stdout what there is now."""
    counts = {split: sum(counts) for split, counts in found.extra["class_counts"].items()}
    height, width, channels = found.image_shape
    stored = size(sum(shard.bytes for shard in found.shards))
    print(
        f"{out}: {', '.join(f'{count:,} {split}' for split, count in counts.items())} images of "
        f"{height} x {width} x {channels} in {len(found.class_names)} classes, {len(found.shards)} files, "
        f"{stored}"
    )
    repeated = found.extra["duplicates"]
    if repeated["groups"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in repeated["kinds"].items())
        print(f"the same image more than once: {kinds} (see duplicates in manifest.json)")
    if found.rejected:
        print(f"left out: {len(found.rejected):,} (see rejected in manifest.json)")
    if result.images_per_second:
        reused = f", {result.reused} files were there already" if result.reused else ""
        print(f"{duration(seconds)}, {result.images_per_second:,.0f} images/s{reused}")
    elif result.reused:
        print(f"all {result.reused} files were there already, of a run that was interrupted; the manifest is new")
    else:
        print("it was complete already; nothing was done (if images were changed since then: --overwrite)")


if __name__ == "__main__":
    raise SystemExit(main())
