"""``lenet-mp predict``: what a trained network takes images for."""

from __future__ import annotations

import itertools
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lenet_mp import arguments, cli, tables
from lenet_mp.data import folders
from lenet_mp.data.classes import natural_key
from lenet_mp.errors import DataError, printable
from lenet_mp.parallel import threads
from lenet_mp.results import metrics

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from lenet_mp.data.images import ImagePixels
    from lenet_mp.results.classifier import Classifier

BATCH = 64
"""Images that are read side by side and then classified at once."""

EPILOG = """\
examples:
  lenet-mp predict runs/model-1-1 cat.jpg photos/
  find photos -name '*.png' | lenet-mp predict runs/model-1-1 - --format csv
"""


class Prediction(NamedTuple):
    """An image and its most likely classes with their probabilities, best first."""

    path: str
    labels: list[int]
    probabilities: list[float]


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "predict",
        description="Classify images. Size, colours, pixel range and class names are those of the\n"
        "training. Images that cannot be read are reported; the exit code is then 3.",
        epilog=EPILOG,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder (its best weights) or .ckpt file")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image file; folder of images; - for paths from stdin, one a line"
    )
    parser.add_argument("--topk", type=arguments.positive, default=5, metavar="K", help="classes an image (default: 5)")
    parser.add_argument("--format", choices=tuple(WRITERS), default="text", help="(default: text)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write there instead of to stdout")
    return parser


@cli.command("predict")
def main(argv: Sequence[str] | None = None) -> int:
    """Classify and print; return 0, or 3 if an image could not be used."""
    options = build_parser().parse_args(argv)
    from lenet_mp.results.classifier import Classifier  # noqa: PLC0415 - loads the C core, which --help can do without

    classifier = Classifier.load(options.run)
    problems = Problems()
    paths = find_images(options.images, problems)
    predictions = classify(classifier, paths, options.topk, problems)
    lines = WRITERS[options.format](predictions, classifier.class_names)
    if options.out:
        tables.write_text(options.out, "".join(lines))
        print(f"wrote {options.out}", file=sys.stderr)
    else:
        tables.print_text(lines)
    return problems.exit_code


class Problems:
    """Reports what cannot be used, line by line, and remembers that there was something."""

    exit_code = 0

    def add(self, error: DataError) -> None:
        """Print one line."""
        print(f"lenet-mp predict: error: {error}".encode(errors="replace").decode(), file=sys.stderr)
        self.exit_code = error.exit_code


def find_images(arguments: Iterable[str], problems: Problems) -> Iterator[str]:
    """Yield the files that the arguments stand for; folders give their images at any depth, in natural order."""
    for argument in arguments:
        if argument == "-":
            names = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
            yield from (name for name in names if name)
        elif Path(argument).is_dir():
            found = sorted(_images_below(Path(argument)), key=natural_key)
            yield from found
            if not found:
                problems.add(DataError(f"{argument}: holds no image; give image files or a folder of them"))
        else:
            yield argument


def _images_below(top: Path) -> Iterator[str]:
    """Yield files with an image's suffix at any depth; hidden files and folders are passed over."""
    for place, inner, names in os.walk(top):
        inner[:] = [name for name in inner if name[0] != "."]
        yield from (
            str(Path(place) / name)
            for name in names
            if name[0] != "." and Path(name).suffix.lower() in folders.SUFFIXES
        )


def classify(classifier: Classifier, paths: Iterable[str], topk: int, problems: Problems) -> Iterator[Prediction]:
    """Yield the predictions of all images that can be read, in order; the others go to ``problems``."""
    paths = iter(paths)
    with ThreadPoolExecutor(threads.cores()) as pool:
        while batch := list(itertools.islice(paths, BATCH)):
            read = list(pool.map(lambda path: _read(classifier, path), batch))
            for result in read:
                if isinstance(result, DataError):
                    problems.add(result)
            good = [
                (path, pixels) for path, pixels in zip(batch, read, strict=True) if not isinstance(pixels, DataError)
            ]
            if good:
                yield from _predict(classifier, good, topk)


def _read(classifier: Classifier, path: str) -> ImagePixels | DataError:
    try:
        return classifier.read_image(Path(path))
    except DataError as error:
        return error


def _predict(classifier: Classifier, images: Sequence[tuple[str, ImagePixels]], topk: int) -> Iterator[Prediction]:
    logits = classifier.logits(np.stack([pixels for _, pixels in images]))
    best = metrics.ranking(logits, topk)
    likely = np.take_along_axis(metrics.softmax(logits), best, axis=1)
    for (path, _), labels, probabilities in zip(images, best, likely, strict=True):
        yield Prediction(path, labels.tolist(), probabilities.tolist())


def _as_text(predictions: Iterable[Prediction], class_names: Sequence[str]) -> Iterator[str]:
    for path, labels, probabilities in predictions:
        answers = (f"{class_names[n]} {share:.1%}" for n, share in zip(labels, probabilities, strict=True))
        yield printable(f"{path}: {', '.join(answers)}") + "\n"


def _as_csv(predictions: Iterable[Prediction], class_names: Sequence[str]) -> Iterator[str]:
    yield tables.as_csv(("path", "rank", "label", "class", "probability"), ())
    for path, labels, probabilities in predictions:
        ranked = zip(itertools.count(1), labels, probabilities, strict=False)
        yield tables.rows_as_csv([path, rank, n, class_names[n], f"{share:.6f}"] for rank, n, share in ranked)


def _as_json(predictions: Iterable[Prediction], class_names: Sequence[str]) -> Iterator[str]:
    """One JSON array with an object a line."""
    before = "[\n"
    for path, labels, probabilities in predictions:
        answers = [
            {"label": n, "class": class_names[n], "probability": round(share, 6)}
            for n, share in zip(labels, probabilities, strict=True)
        ]
        yield before + json.dumps({"path": path, "predictions": answers})
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


WRITERS = {"text": _as_text, "csv": _as_csv, "json": _as_json}


if __name__ == "__main__":
    raise SystemExit(main())
