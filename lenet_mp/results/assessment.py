"""What a trained network makes of every sample of a split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.data.shards import Dataset, Split, open_dataset
from lenet_mp.errors import DataError
from lenet_mp.results import metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.results.classifier import Classifier
    from lenet_mp.training.evaluation import Scores

SPLITS = {"test": "test", "val": "validation", "train": "train"}
"""Names on the command line, and in a data set."""


@dataclass(frozen=True)
class Assessment:
    """Scores and predictions over one split.

    Attributes
    ----------
    split : str
        One of ``SPLITS``.
    parts : tuple of Split
        The files that the samples lie in, in the order of ``labels`` and ``logits``.
    labels : (N,) int32
    logits : (N, K) float32
    """

    dataset: Dataset
    split: str
    parts: tuple[Split, ...]
    scores: Scores
    labels: NDArray[np.int32]
    logits: NDArray[np.float32]

    @cached_property
    def predictions(self) -> NDArray[np.intp]:
        """The most likely class of each sample, (N,)."""
        best: NDArray[np.intp] = self.logits.argmax(axis=1)
        return best

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """How likely that class seemed, (N,)."""
        chosen = np.take_along_axis(metrics.softmax(self.logits), self.predictions[:, np.newaxis], axis=1)
        return chosen[:, 0]

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Samples by label (row) and prediction (column), (K, K)."""
        return metrics.confusion_matrix(self.labels, self.predictions, self.logits.shape[1])

    @cached_property
    def places(self) -> list[tuple[Split, int]]:
        """Where each sample lies: file and row."""
        return [(part, row) for part in self.parts for row in range(part.count)]


def assess(classifier: Classifier, dataset: Dataset, split: str) -> Assessment:
    """Run every sample of ``split`` through the network; ``DataError`` if the data set has no such split."""
    parts = _parts(dataset, split)
    labels = np.concatenate([part.labels for part in parts])
    return Assessment(dataset, split, parts, classifier.scores(parts), labels, classifier.split_logits(parts))


def open_data(classifier: Classifier, chosen: Path | None = None) -> Dataset:
    """Open the data set ``chosen``, or the one of the training.

    Raises
    ------
    DataError
        If it is not there or damaged.
    CheckpointError
        If its images or classes are not those of the network.
    """
    name = classifier.checkpoint.config.get("data")
    if chosen is None and not (name and Path(name).is_dir()):
        raise DataError(f"{classifier.path} was trained on '{name}', which is not here: name its folder with --data")
    dataset = open_dataset(chosen or Path(str(name)))
    classifier.require_fit(dataset)
    return dataset


def _parts(dataset: Dataset, split: str) -> tuple[Split, ...]:
    if split == "train":
        return dataset.train
    part = dataset.test if split == "test" else dataset.validation
    if part is None:
        raise DataError(f"{dataset.folder} has no {SPLITS[split]} split: choose another --split")
    return (part,)
