"""The command line of ``lenet-mp prepare``."""

from __future__ import annotations

import argparse

from lenet_mp import cli
from lenet_mp.arguments import path, positive, size
from lenet_mp.data.idx_preparation import HOLD_OUT
from lenet_mp.data.images import DEFAULT_FILTER, FILTERS
from lenet_mp.data.jpeg_store import DEFAULT_QUALITY
from lenet_mp.errors import UsageError

DEFAULT_SKIP_PERCENT = 5.0
DEFAULT_SPLIT = (80.0, 10.0, 10.0)

_ONLY_WITH = {
    "root": ("lists",),
    "allow_outside": ("lists", "folder"),
    "classes": ("lists", "idx"),
    "split": ("folder",),
    "hold_out": ("idx",),
    "skip_bad": ("lists", "folder"),
    "report": ("lists", "folder"),
}
"""Options, and the sources of images for which they mean something."""

_DESCRIPTION = """\
Decode images, resize them to one size and store them as H5 shards of pixels,
with a manifest that says what is in them. Interrupted, it goes on where it was
when it is called again.

A list holds 'PATH CLASS' on every line; the class is a number or a name. A
file classes.txt beside the training list names the classes. A folder of
folders has one class a folder; if they are called train, val and test, the
class folders are those inside. What becomes of odd images: docs/data.md."""
_EPILOG = """\
examples:
  lenet-mp prepare --lists train.txt val.txt test.txt --root images/ --out data/
  lenet-mp prepare --folder photos/ --split 80,10,10 --out data/
  lenet-mp prepare --idx mnist/ --out data/

exit code: 0 done; 2 wrong options, or --out holds something else; 3 images or
lines cannot be used (all are listed); 74 cannot write"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "prepare",
        usage="lenet-mp prepare (--lists LIST... | --folder DIR | --idx DIR) -o DIR ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    source = parser.add_argument_group("images")
    one = source.add_mutually_exclusive_group(required=True)
    one.add_argument("--lists", type=path, nargs="+", metavar="LIST", help="training, validation and test list")
    one.add_argument("--folder", type=path, metavar="DIR", help="folder with one folder a class")
    one.add_argument("--idx", type=path, metavar="DIR", help="folder of IDX files, as MNIST's")
    source.add_argument("--root", type=path, metavar="DIR", help="where the lists' paths begin (their folder)")
    source.add_argument("--allow-outside", action="store_true", help="accept images outside --root")
    source.add_argument("--classes", type=path, metavar="FILE", help="names of classes (classes.txt by the list)")
    source.add_argument(
        "--split", type=shares, metavar="A,B,C",
        help="per cent to train, validate, test (80,10,10)",
    )  # fmt: skip
    source.add_argument(
        "--hold-out", type=int, metavar="N",
        help=f"training images to validate with --idx ({HOLD_OUT})",
    )  # fmt: skip
    _add_storage(parser.add_argument_group("data set"))
    run = parser.add_argument_group("run")
    run.add_argument(
        "--skip-bad", type=percent, nargs="?", const=DEFAULT_SKIP_PERCENT, metavar="PERCENT",
        help="leave out what cannot be used, up to this share of all samples (5; or ten)",
    )  # fmt: skip
    run.add_argument("--report", type=path, metavar="FILE", help="write what was rejected and why (CSV)")
    run.add_argument("--overwrite", action="store_true", help="replace the data set in --out")
    run.add_argument("--workers", type=positive, metavar="N", help="decoding processes (one a core)")
    return parser


def settled(args: argparse.Namespace) -> argparse.Namespace:
    """Return the options with their defaults; ``UsageError`` for one that means nothing for the images named."""
    source = next(name for name in ("lists", "folder", "idx") if getattr(args, name))
    for name, sources in _ONLY_WITH.items():
        given = getattr(args, name)
        if given is not None and given is not False and source not in sources:
            where = " or ".join(f"--{one}" for one in sources)
            raise UsageError(f"--{name.replace('_', '-')} belongs to {where}, not to --{source}; leave it out")
    if args.quality and args.store != "jpeg":
        raise UsageError("--quality belongs to --store jpeg; leave it out, or give both")
    args.split = args.split or DEFAULT_SPLIT
    args.hold_out = HOLD_OUT if args.hold_out is None else args.hold_out
    args.quality = args.quality or DEFAULT_QUALITY
    return args


def _add_storage(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-o", "--out", type=path, required=True, metavar="DIR", help="where the data set goes")
    group.add_argument("--size", type=size, metavar="N|HxW", help="pixels (250; those of IDX files)")
    group.add_argument("--channels", type=int, choices=(1, 3), metavar="N", help="3: RGB, 1: greyscale (3)")
    group.add_argument(
        "--filter", choices=tuple(FILTERS), default=DEFAULT_FILTER, metavar="NAME",
        help=f"for resizing: {', '.join(FILTERS)} ({DEFAULT_FILTER})",
    )  # fmt: skip
    group.add_argument("--shard-size", type=positive, default=500, metavar="N", help="images a file (500)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="order of the training images (0)")
    group.add_argument(
        "--store", choices=("raw", "jpeg"), default="raw", metavar="KIND",
        help="raw: pixels; jpeg: a tenth of the space, but decoding takes longer than training (raw)",
    )  # fmt: skip
    group.add_argument("--quality", type=quality, metavar="N", help="of --store jpeg (90)")


def shares(text: str) -> tuple[float, float, float]:
    """Read up to three percentages that add up to 100."""
    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or min(parts) < 0 or parts[0] <= 0 or abs(sum(parts) - 100) > 1e-6:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"'{text}' is not like 80,10,10: per cent, together 100, some for training")
    train, validation, test = [*parts, 0.0, 0.0][:3]
    return train, validation, test


def percent(text: str) -> float:
    """Read a number from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"'{text}' is not a percentage")
    return value


def quality(text: str) -> int:
    """Read a JPEG quality, 1 to 95 (above that the files grow and nothing else)."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 95):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"'{text}' is no JPEG quality from 1 to 95")
    return int(text)
