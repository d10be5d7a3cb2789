"""Event files for TensorBoard: figures by epoch, histograms of the weights, pictures of feature maps."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lenet_mp import files
from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.training.evaluation import Scores

FOLDER = "tensorboard"
"""Where the event files lie in a run folder."""
TAGS = {
    "loss": "loss/train",
    "val_loss": "loss/validation",
    "train_top1": "accuracy/train_top1",
    "train_top5": "accuracy/train_top5",
    "val_top1": "accuracy/validation_top1",
    "val_top5": "accuracy/validation_top5",
    "lr": "learning_rate",
    "images_per_second": "images_per_second",
}
"""Columns of ``metrics.csv`` by what TensorBoard calls them; a step is an epoch."""


class EventLog:
    """Writes one run's events; used by rank 0 alone.

    Parameters
    ----------
    run : Path
        The run folder.
    epoch : int
        Epochs finished so far: what an earlier process wrote about later ones is hidden.

    Raises
    ------
    UsageError
        If tensorboardX is not installed.
    OutputError
        If the folder cannot be made.
    """

    def __init__(self, run: Path, epoch: int) -> None:
        folder = files.make_folder(run / FOLDER)
        # A first start has nothing to hide, and old versions of TensorBoard stumble over a purge at nothing.
        # The library names files by the second alone; two starts within one would write over each other.
        self._writer = _library().SummaryWriter(
            str(folder), purge_step=epoch + 1 if epoch else None, filename_suffix=f".{epoch:06d}"
        )

    def epoch_done(
        self, row: Mapping[str, Any], weights: Mapping[str, NDArray[np.generic]], pictures: Path | None = None
    ) -> None:
        """Write the figures, weights and pictures of one epoch to the disk.

        Parameters
        ----------
        row : mapping
            The epoch's row of ``metrics.csv``.
        weights : mapping of str to array
            Weights and biases by name, as ``network.views`` gives them.
        pictures : Path, optional
            Folder of PNG files, such as ``features/epoch-01``.
        """
        epoch = int(row["epoch"])
        for column, tag in TAGS.items():
            if row.get(column) is not None:
                self._writer.add_scalar(tag, float(row[column]), epoch)
        for name, array in weights.items():
            self._writer.add_histogram(name.replace(".", "/"), np.asarray(array, np.float32).ravel(), epoch)
        for path in sorted(pictures.glob("*.png")) if pictures else ():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"features/{path.stem}", pixels, epoch, dataformats="HWC")
        self._writer.flush()

    def tested(self, results: Mapping[str, Scores], epoch: int) -> None:
        """Write the test scores of the ``last`` and the ``best`` weights, and close the file."""
        for which, scores in results.items():
            self._writer.add_scalar(f"accuracy/test_top1_{which}", scores.top1, epoch)
            self._writer.add_scalar(f"loss/test_{which}", scores.loss, epoch)
        self.close()

    def close(self) -> None:
        """Write what is left, and end the thread that writes."""
        self._writer.close()


def require() -> None:
    """Refuse with a ``UsageError`` where tensorboardX is not installed."""
    _library()


def _library() -> Any:
    try:
        return importlib.import_module("tensorboardX")
    except ImportError as error:
        raise UsageError(
            "--tensorboard needs tensorboardX, which is not installed: pip install 'lenet-mp[tensorboard]'"
        ) from error
