"""``lenet-mp evaluate``: how good a trained network is on a split, in all and by class."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import cli, files, tables
from lenet_mp.errors import printable
from lenet_mp.results import metrics, plots
from lenet_mp.results.assessment import SPLITS, assess, open_data
from lenet_mp.training import run_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lenet_mp.results.assessment import Assessment
    from lenet_mp.results.classifier import Classifier

EPILOG = """\
It prints loss, accuracies and a table of the classes, and writes scores.json,
per_class.csv, predictions.csv, confusion.csv, confusion.png and confusion.svg.

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
    from lenet_mp.results.classifier import Classifier  # noqa: PLC0415 - loads the C core, which --help can do without

    classifier = Classifier.load(options.run)
    dataset = open_data(classifier, options.data)
    if dataset.fingerprint != classifier.checkpoint.data_fingerprint:
        print(f"note: {dataset.folder} is not the data set that {classifier.path} was trained on", file=sys.stderr)
    assessment = assess(classifier, dataset, options.split)
    by_class = class_table(metrics.class_figures(assessment.confusion), classifier.class_names)
    tables.print_text([f"{headline(classifier, assessment)}\n", by_class])
    out = options.out or run_folder.place_in(classifier.path.parent, "evaluation", options.split)
    write(out, classifier, assessment)
    print(f"wrote {out}", file=sys.stderr)
    return 0


def headline(classifier: Classifier, assessment: Assessment) -> str:
    """Describe the whole split in one line."""
    scores = assessment.scores
    return (
        f"{classifier.path}, {assessment.split}, {scores.samples:,} samples: "
        f"top-1 {scores.top1:.2%}  top-5 {scores.top5:.2%}  loss {scores.loss:.4f}"
    )


def class_table(figures: metrics.ClassFigures, class_names: Sequence[str]) -> str:
    """Lay out every class's figures as text; ``-`` for a share of nothing."""
    names = map(printable, class_names)
    rows = [
        [name, f"{row[0]:,}", f"{row[1]:,}", *("-" if np.isnan(value) else f"{value:.1%}" for value in row[2:])]
        for name, row in zip(names, _by_class(figures), strict=True)
    ]
    return tables.as_text(("class", "samples", "right", "precision", "recall", "F1"), rows)


def write(out: Path, classifier: Classifier, assessment: Assessment) -> None:
    """Write scores, figures by class, the confusion matrix and all predictions into the folder ``out``."""
    files.make_folder(out)
    names = classifier.class_names
    origin = {"checkpoint": str(classifier.path), "epoch": classifier.checkpoint.epoch, "split": assessment.split}
    tables.write_text(out / "scores.json", json.dumps(origin | asdict(assessment.scores), indent=2) + "\n")
    figures = metrics.class_figures(assessment.confusion)
    rows = [
        [number, name, *("" if np.isnan(value) else value for value in row)]
        for number, (name, row) in enumerate(zip(names, _by_class(figures), strict=True))
    ]
    header = ("label", "class", "samples", "right", "precision", "recall", "f1")
    tables.write_text(out / "per_class.csv", tables.as_csv(header, rows))
    matrix = [[name, *row] for name, row in zip(names, assessment.confusion.tolist(), strict=True)]
    tables.write_text(out / "confusion.csv", tables.as_csv(["true class", *names], matrix))
    tables.write_text(out / "predictions.csv", predictions_csv(assessment, names))
    for kind in ("png", "svg"):
        plots.draw_confusion(assessment.confusion, names, out / f"confusion.{kind}")


def predictions_csv(assessment: Assessment, names: Sequence[str]) -> str:
    """Return one line a sample: its place, its class, what the network took it for and how likely that seemed."""
    columns = (assessment.places, assessment.labels, assessment.predictions, assessment.probabilities)
    rows = [
        [part.path.name, row, int(label), names[label], int(guess), names[guess], f"{chance:.6f}"]
        for (part, row), label, guess, chance in zip(*columns, strict=True)
    ]
    header = ("file", "row", "label", "class", "prediction", "predicted_class", "probability")
    return tables.as_csv(header, rows)


def _by_class(figures: metrics.ClassFigures) -> list[tuple[int, int, float, float, float]]:
    columns = (figures.samples, figures.right, figures.precision, figures.recall, figures.f1)
    return list(zip(*(column.tolist() for column in columns), strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
