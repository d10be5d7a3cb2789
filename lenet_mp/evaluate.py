"""``lenet-mp evaluate``: how good a trained network is on a split, in all and by class."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import cli, files, metrics, plots, tables
from lenet_mp.errors import DataError
from lenet_mp.shards import Dataset, Split, open_dataset

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lenet_mp.classifier import Classifier
    from lenet_mp.evaluation import Scores

SPLITS = {"test": "test", "val": "validation", "train": "train"}
"""Names on the command line, and in a data set."""

EPILOG = """\
It prints loss, accuracies and a table of the classes, and writes scores.json,
per_class.csv, confusion.csv, confusion.png and predictions.csv.

examples:
  lenet-mp evaluate runs/model-1-1
  lenet-mp evaluate runs/model-1-1 --split val --data other-data/ -o results/
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser("evaluate", description="Measure a trained network on one split of a data set.", epilog=EPILOG)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder (its best weights) or .ckpt file")
    parser.add_argument("--split", choices=tuple(SPLITS), default="test", help="which samples (default: test)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data set (default: the one it was trained on)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FOLDER", help="where to write (default: evaluation/SPLIT in the run folder)"
    )
    return parser


@cli.command("evaluate")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 0."""
    options = build_parser().parse_args(argv)
    from lenet_mp.classifier import Classifier  # noqa: PLC0415 - loads the C core, which --help can do without

    classifier = Classifier.load(options.run)
    dataset = _open(classifier, options.data)
    splits = _splits(dataset, options.split)
    scores = classifier.scores(splits)
    logits = classifier.split_logits(splits)
    labels = np.concatenate([split.labels for split in splits])
    confusion = metrics.confusion_matrix(labels, logits.argmax(axis=1), dataset.classes)
    by_class = class_table(metrics.class_figures(confusion), dataset.class_names)
    tables.print_text([f"{headline(classifier, options.split, scores)}\n", by_class])
    out = options.out or classifier.path.parent / "evaluation" / options.split
    write(out, classifier, scores, confusion)
    tables.write_text(out / "predictions.csv", predictions_csv(splits, labels, logits, dataset.class_names))
    print(f"wrote {out}", file=sys.stderr)
    return 0


def headline(classifier: Classifier, split: str, scores: Scores) -> str:
    """Describe the whole split in one line."""
    return (
        f"{classifier.path}, {split}, {scores.samples:,} samples: "
        f"top-1 {scores.top1:.2%}  top-5 {scores.top5:.2%}  loss {scores.loss:.4f}"
    )


def class_table(figures: metrics.ClassFigures, class_names: Sequence[str]) -> str:
    """Lay out every class's figures as text; ``-`` for a share of nothing."""
    rows = [
        [name, f"{row[0]:,}", f"{row[1]:,}", *("-" if np.isnan(value) else f"{value:.1%}" for value in row[2:])]
        for name, row in zip(class_names, _by_class(figures), strict=True)
    ]
    return tables.as_text(("class", "samples", "right", "precision", "recall", "F1"), rows)


def write(out: Path, classifier: Classifier, scores: Scores, confusion: NDArray[np.int64]) -> None:
    """Write scores, figures by class and the confusion matrix into the folder ``out``."""
    files.make_folder(out)
    names = classifier.class_names
    document = {"checkpoint": str(classifier.path), "epoch": classifier.checkpoint.epoch, **asdict(scores)}
    tables.write_text(out / "scores.json", json.dumps(document, indent=2) + "\n")
    rows = [
        [number, name, *("" if np.isnan(value) else value for value in row)]
        for number, (name, row) in enumerate(zip(names, _by_class(metrics.class_figures(confusion)), strict=True))
    ]
    header = ("label", "class", "samples", "right", "precision", "recall", "f1")
    tables.write_text(out / "per_class.csv", tables.as_csv(header, rows))
    matrix = [[name, *row] for name, row in zip(names, confusion.tolist(), strict=True)]
    tables.write_text(out / "confusion.csv", tables.as_csv(["true class", *names], matrix))
    plots.draw_confusion(confusion, names, out / "confusion.png")


def predictions_csv(
    splits: Sequence[Split], labels: NDArray[np.int32], logits: NDArray[np.float32], class_names: Sequence[str]
) -> str:
    """Return one line a sample: its place, its class, what the network took it for and how likely that seemed."""
    places = [(split.path.name, row) for split in splits for row in range(split.count)]
    best = logits.argmax(axis=1)
    likely = metrics.softmax(logits)[np.arange(len(best)), best]
    rows = [
        [*place, int(label), class_names[label], int(guess), class_names[guess], f"{chance:.6f}"]
        for place, label, guess, chance in zip(places, labels, best, likely, strict=True)
    ]
    header = ("file", "row", "label", "class", "prediction", "predicted_class", "probability")
    return tables.as_csv(header, rows)


def _by_class(figures: metrics.ClassFigures) -> list[tuple[int, int, float, float, float]]:
    columns = (figures.samples, figures.right, figures.precision, figures.recall, figures.f1)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _open(classifier: Classifier, chosen: Path | None) -> Dataset:
    """Open the data set that was chosen, or the one of the training."""
    folder = chosen or Path(classifier.checkpoint.config.get("data") or "")
    if chosen is None and (folder == Path() or not folder.is_dir()):
        raise DataError(f"{classifier.path} was trained on '{folder}', which is not here: name its folder with --data")
    dataset = open_dataset(folder)
    classifier.require_fit(dataset)
    if dataset.fingerprint != classifier.checkpoint.data_fingerprint:
        print(f"note: {folder} is not the data set that {classifier.path} was trained on", file=sys.stderr)
    return dataset


def _splits(dataset: Dataset, name: str) -> tuple[Split, ...]:
    if name == "train":
        return dataset.train
    split = dataset.test if name == "test" else dataset.validation
    if split is None:
        raise DataError(f"{dataset.folder} has no {SPLITS[name]} split: choose another --split")
    return (split,)


if __name__ == "__main__":
    raise SystemExit(main())
