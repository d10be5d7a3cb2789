"""``lenet-mp verify``: check that a data set is whole, and show what it looks like."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from lenet_mp import arguments, cli, tables
from lenet_mp.data import contact_sheet, manifest, verification
from lenet_mp.data.shards import open_dataset
from lenet_mp.errors import DataError
from lenet_mp.files import make_folder
from lenet_mp.parallel import threads
from lenet_mp.progress import Progress, duration, size
from lenet_mp.results import figures, plots

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lenet_mp.data.shards import Dataset

MOST_ROWS = 200
"""Classes of a table; more run out of any terminal, and the manifest has them all."""
_DESCRIPTION = """\
Check a data set against its manifest: SHA-256 of every file, counts, labels,
mean and deviation, strange files (without a manifest, the structure). Show how
many images each class has; draw contact_sheet.png (random training images of
every class) and class_balance.png."""
_EPILOG = """\
examples:
  lenet-mp verify data/
  lenet-mp verify data/ --no-pictures && lenet-mp train --data data/

exit code: 0 whole; 3 something is wrong (every finding is a line on stderr)"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser("verify", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("data", type=arguments.path, metavar="DATA", help="data folder")
    parser.add_argument("-o", "--out", type=arguments.path, metavar="DIR", help="where the pictures go (DATA)")
    parser.add_argument("--images", type=arguments.positive, default=10, metavar="N", help="images a class (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which images are drawn (0)")
    parser.add_argument("--no-pictures", action="store_true", help="check only")
    parser.add_argument("--workers", type=arguments.positive, metavar="N", help="threads (one a core)")
    return parser


@cli.command("verify")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    dataset = open_dataset(args.data, sealed=False)  # what is wrong is to be listed, not to end it
    counts = dataset.class_counts()
    wrong = _check(dataset, counts, args.workers or threads.cores())
    tables.print_text(_balance(dataset, counts))
    if not args.no_pictures:
        _draw(dataset, counts, make_folder(args.out or args.data), args.images, args.seed)
    for name in verification.strangers(dataset):
        print(f"verify: note: {name} does not belong to the data set and is never read", file=sys.stderr)
    for line in wrong:
        print(f"verify: {line}", file=sys.stderr)
    if wrong:
        raise DataError(f"{args.data}: {len(wrong)} findings, listed above")
    verdict = "whole" if dataset.manifest else "readable; without a manifest there is no more to check"
    print(f"{args.data}: {verdict}")
    return 0


def _check(dataset: Dataset, counts: Mapping[str, NDArray[np.int64]], workers: int) -> list[str]:
    """Read everything, twice if there is a manifest (the second time from memory, if it fits); return the findings."""
    began = time.monotonic()
    wrong = []
    stored = 0
    if dataset.manifest:
        stored = sum(entry.bytes for entry in dataset.manifest.shards)
        progress = Progress(stored, "hash", "bytes")
        wrong = verification.check_hashes(dataset, workers=workers, advance=progress.advance)
        progress.close()
    progress = Progress(sum(split.count for split in dataset.train), "count", "images")
    found = verification.measure(dataset, workers=workers, advance=progress.advance)
    progress.close()
    if dataset.manifest:
        wrong += verification.check_passport(dataset, counts, found)
        seconds = time.monotonic() - began
        print(f"checked {size(stored)} in {duration(seconds)}")
    for name, values in (("mean", found.mean), ("standard deviation", found.std)):
        channels = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name} of the training pixels: {channels} ({dataset.channel_order})")
    return wrong


def _balance(dataset: Dataset, counts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Table of images by class and split; of very many classes, those with the fewest and the most training images."""
    shown = list(range(dataset.classes))
    notes = []
    if dataset.classes > MOST_ROWS:
        order = sorted(shown, key=lambda label: (counts["train"][label], label))
        shown = sorted(order[: MOST_ROWS // 2] + order[-MOST_ROWS // 2 :])
        notes = [f"(those with the fewest and the most training images, of {dataset.classes:,} classes)\n"]
    rows = [[dataset.class_names[label], *(f"{values[label]:,}" for values in counts.values())] for label in shown]
    rows.append(["all", *(f"{int(values.sum()):,}" for values in counts.values())])
    return [tables.as_text(["class", *counts], rows), *notes]


def _draw(dataset: Dataset, counts: Mapping[str, NDArray[np.int64]], out: Path, images: int, seed: int) -> None:
    labels = contact_sheet.shown_classes(dataset.classes)
    examples = verification.examples(dataset, labels, images, seed)
    rows = [(dataset.class_names[label], examples[label]) for label in labels]
    height, width, channels = dataset.image_shape
    title = f"{figures.text(dataset.folder.name)}: training images, {height} x {width} x {channels}"
    contact_sheet.draw(rows, out / manifest.SHEET, title=title)
    plots.draw_class_balance(counts, dataset.class_names, out / manifest.BALANCE)
    print(f"pictures: {out / manifest.SHEET}, {out / manifest.BALANCE}")


if __name__ == "__main__":
    raise SystemExit(main())
