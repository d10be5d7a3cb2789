"""``lenet-mp prepare``: turn lists of images, or folders of them, into a data set for training."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lenet_mp import checks, cli
from lenet_mp.decode_pool import default_workers
from lenet_mp.errors import DataError, UsageError
from lenet_mp.files import write_atomically
from lenet_mp.folders import read_folders
from lenet_mp.images import DEFAULT_FILTER, FILTERS
from lenet_mp.jobs import Options
from lenet_mp.lists import read_lists
from lenet_mp.preparation import inspect, prepare
from lenet_mp.progress import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.lists import Collection, Problem
    from lenet_mp.manifest import Manifest
    from lenet_mp.preparation import Result

FREE_REJECTIONS = 10
"""So many images are skipped whatever their share; a small set reaches any share with them."""
DEFAULT_SKIP_PERCENT = 5.0

_LARGEST_SIDE = 10_000
_DESCRIPTION = """\
Decode images, resize them to one size and store them as H5 shards of uint8 pixels (0.h5, 1.h5, ...; validation and
test in data.h5), with a manifest.json that says what is in them. Interrupted, it goes on where it was when it is
called again.

  lenet-mp prepare --lists train.txt val.txt test.txt --root images/ --out data/
  lenet-mp prepare --folder photos/ --split 80,10,10 --out data/

A list holds 'PATH CLASS' on every line; the class is a number or a name. A file classes.txt beside the training list
names the classes ('NUMBER NAME' or one name a line). A folder of folders has one class a folder.

Exit code 0: done; 2: wrong options; 3: some images or lines cannot be used (all are listed); 74: cannot write."""


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = cli.Parser("prepare", description=_DESCRIPTION)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--lists", type=Path, nargs="+", metavar="LIST", help="training, validation and test list")
    source.add_argument("--folder", type=Path, metavar="DIR", help="folder with one folder a class")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="where the lists' paths begin (default: the list's folder)"
    )
    parser.add_argument("--allow-outside", action="store_true", help="accept images outside --root")
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="names of the classes (default: classes.txt there)"
    )
    parser.add_argument(
        "--split",
        type=_shares,
        default=(80.0, 10.0, 10.0),
        metavar="A,B,C",
        help="per cent for training, validation, test with --folder (default 80,10,10)",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="where the data set goes")
    parser.add_argument("--size", type=_size, default=(250, 250), metavar="N|HxW", help="pixels (default 250)")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="3: RGB (default), 1: greyscale")
    parser.add_argument("--filter", choices=sorted(FILTERS), default=DEFAULT_FILTER, help="how to resize (bilinear)")
    parser.add_argument("--shard-size", type=_positive, default=500, metavar="N", help="images a file (default 500)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="order of the training images (default 0)")
    parser.add_argument(
        "--skip-bad",
        type=_percent,
        nargs="?",
        const=DEFAULT_SKIP_PERCENT,
        metavar="PERCENT",
        help="leave out what cannot be used, up to this share of all samples (5, and ten images in any case)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was rejected and why (CSV)")
    parser.add_argument("--overwrite", action="store_true", help="replace the data set in --out")
    parser.add_argument("--workers", type=_positive, metavar="N", help="decoding processes (default: one a core)")
    return parser


@cli.command("prepare")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    began = time.monotonic()
    collection = _collect(args)
    total = sum(map(len, collection.samples.values())) + len(collection.problems)
    most_rejected = 0 if args.skip_bad is None else max(FREE_REJECTIONS, int(args.skip_bad / 100 * total))
    broken = checks.faults(collection)
    _show(collection.problems + broken, collection.notices)
    if broken:
        _report(args.report, collection.problems + broken)
        raise DataError(f"nothing was prepared: {broken[0]}")
    options = Options(args.size, args.channels, args.shard_size, args.seed, args.filter)
    workers = args.workers or default_workers()
    if len(collection.problems) > most_rejected:
        # The lists must change anyhow; look at the images too, so that one pass shows everything.
        print("prepare: looking at the images as well, writing nothing", file=sys.stderr)
        problems = inspect(collection, options, workers=workers)
        _show(problems, [])
        _give_up(args, collection.problems + problems, total)
    result = prepare(
        collection, options, args.out, workers=workers, most_rejected=most_rejected, overwrite=args.overwrite
    )
    _show(result.problems[len(collection.problems) :], [])
    if result.manifest is None:
        _give_up(args, result.problems, total)
    _report(args.report, result.problems)
    _summarise(args.out, result, result.manifest, time.monotonic() - began)
    return 0


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
        print(f"prepare: note: {_printable(notice)}", file=sys.stderr)
    for problem in problems:
        print(f"prepare: {_printable(str(problem))}", file=sys.stderr)


def _printable(text: str) -> str:
    """Text that any terminal and log can take: what is not UTF-8 or not printable is escaped."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return shown.encode("utf-8", "backslashreplace").decode()


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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "reason"])
    writer.writerows((problem.where, problem.reason) for problem in problems)
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _summarise(out: Path, result: Result, found: Manifest, seconds: float) -> None:
    """Tell on stdout what there is now."""
    counts = {split: sum(counts) for split, counts in found.extra["class_counts"].items()}
    height, width, channels = found.image_shape
    size = sum(shard.bytes for shard in found.shards)
    print(
        f"{out}: {', '.join(f'{count:,} {split}' for split, count in counts.items())} images of "
        f"{height} x {width} x {channels} in {len(found.class_names)} classes, {len(found.shards)} files, "
        f"{size / 1e9:.2f} GB"
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
    else:
        print("it was complete already; nothing was done")


def _shares(text: str) -> tuple[float, float, float]:
    """Three percentages (the last ones may be left out) that add up to 100."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not 1 <= len(shares) <= 3 or min(shares) < 0 or shares[0] <= 0 or abs(sum(shares) - 100) > 1e-6:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not like 80,10,10: per cent, together 100, some for training")
    train, validation, test = [*shares, 0.0, 0.0][:3]
    return train, validation, test


def _size(text: str) -> tuple[int, int]:
    """``250`` or ``HEIGHTxWIDTH``."""
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdigit() for part in parts) or len(parts) > 2:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not like 250 or 240x320 (height x width)")
    height, width = int(parts[0]), int(parts[-1])
    if not (1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE):
        raise argparse.ArgumentTypeError(f"{text!r} is not within 1 to {_LARGEST_SIDE} pixels")
    return height, width


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
