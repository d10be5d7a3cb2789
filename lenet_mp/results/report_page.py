"""The page of ``lenet-mp report``: gathers what is known about a run, and fills in the template."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lenet_mp import documents, files
from lenet_mp.errors import CheckpointError, DataError
from lenet_mp.networks.costs import Cost, layer_costs, total_cost
from lenet_mp.results import metrics, pages, report_pictures
from lenet_mp.results.assessment import Assessment, assess, open_data
from lenet_mp.results.classifier import Classifier
from lenet_mp.training import checkpoint, config_options, run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lenet_mp.data.shards import Dataset

MISTAKES = 18


@dataclass(frozen=True)
class Chapter:
    """Everything that the page tells about one run.

    Attributes
    ----------
    name : str
        What the run is called on the page.
    folder : Path
    classifier : Classifier
        With the run's best weights.
    history : list of dict
        Rows of ``metrics.csv``, to the last finished epoch.
    dataset : Dataset or None
        None where it is not here any more; ``problem`` says so.
    """

    name: str
    folder: Path
    classifier: Classifier
    history: list[dict[str, Any]]
    dataset: Dataset | None
    problem: str

    @cached_property
    def assessment(self) -> Assessment | None:
        """Scores on the test split, or on validation where there is no test split."""
        if self.dataset is None:
            return None
        split = "test" if self.dataset.test else "val" if self.dataset.validation else "train"
        return assess(self.classifier, self.dataset, split)

    @property
    def costs(self) -> list[Cost]:
        """The model's table, with its totals."""
        rows = layer_costs(self.classifier.network)
        return [*rows, total_cost(rows)]

    @property
    def by_class(self) -> list[tuple[Any, ...]]:
        """Name, samples, right, precision, recall and F1 of every class; None for a share of nothing."""
        if self.assessment is None:
            return []
        found = metrics.class_figures(self.assessment.confusion)
        columns = (found.samples, found.right, found.precision, found.recall, found.f1)
        # NaN alone differs from itself.
        values = ([None if value != value else value for value in column.tolist()] for column in columns)  # noqa: PLR0124
        return list(zip(self.classifier.class_names, *values, strict=True))

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on, from ``env.json``; empty where there is none."""
        return self._noted("env.json")

    @property
    def shares(self) -> dict[str, float]:
        """Share of the time that each phase took, 0..1, from ``profile.json``; empty where there is none."""
        shares = self._noted("profile.json").get("shares")
        found = shares.items() if isinstance(shares, dict) else ()
        return {str(phase): float(share) for phase, share in found if isinstance(share, (int, float))}

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return sum(float(row.get("seconds") or 0) for row in self.history)

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        words = config_options.words(self.classifier.checkpoint.config)
        return shlex.join(["python", "-m", "lenet_mp.train", *words])

    @cached_property
    def pictures(self) -> dict[str, Any]:
        """All pictures, by what they show."""
        layers = [row.layer for row in layer_costs(self.classifier.network)]
        found: dict[str, Any] = {
            "curves": report_pictures.curves(self.history, self._test_top1()),
            "filters": report_pictures.filters(self.classifier),
            "features": report_pictures.feature_maps(self.folder, layers),
        }
        if self.dataset is not None and self.assessment is not None:
            found["confusion"] = report_pictures.confusion(self.assessment)
            found["mistakes"] = report_pictures.mistakes(self.assessment, MISTAKES)
            found["balance"] = report_pictures.class_balance(self.dataset)
        return found

    def _noted(self, name: str) -> dict[str, Any]:
        try:
            found = documents.parse_json(files.read(self.folder / name, documents.LARGEST_TEXT))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _test_top1(self) -> float | None:
        return self.assessment.scores.top1 if self.assessment and self.assessment.split == "test" else None


def describe(folder: Path, data: Path | None = None, *, name: str = "") -> Chapter:
    """Gather what is known about the run in ``folder``; ``name`` is the folder's own unless given.

    Raises
    ------
    CheckpointError
        If it is no run folder, or ``data`` does not fit it.
    DataError
        If ``data`` is given and cannot be used.
    """
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file: a report is about a run folder, such as {folder.parent}")
    classifier = Classifier.load(folder)
    last = checkpoint.load(run_folder.find_checkpoint(folder, "last"))
    try:
        dataset, problem = open_data(classifier, data), ""
    except DataError as error:
        if data is not None:
            raise
        dataset, problem = None, str(error)
    return Chapter(name or folder.resolve().name, folder, classifier, last.history, dataset, problem)


def render(chapters: Sequence[Chapter]) -> str:
    """Fill in the page about one run, or about several and how they compare."""
    comparison = None
    if len(chapters) > 1:
        comparison = report_pictures.comparison({chapter.name: chapter.history for chapter in chapters})
    return pages.render("report.html", chapters=chapters, comparison=comparison)
