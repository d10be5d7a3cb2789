"""Event files for TensorBoard: figures by epoch, histograms of the weights, pictures of feature maps."""

from __future__ import annotations

import importlib
import time
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
HISTOGRAM_BINS = 64
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
        self._library = _library()
        folder = files.make_folder(run / FOLDER)
        # SummaryWriter would hand events to a thread, which its flush does not wait for: a run that is killed after an
        # epoch might lose it. The writer below writes at once. It names files by the second alone, hence the suffix.
        self._writer = self._library.event_file_writer.EventsWriter(str(folder / "events"), f".{epoch:06d}")
        if epoch:  # a first start has nothing to hide, and old versions of TensorBoard stumble over a purge at nothing
            event_pb2 = self._library.proto.event_pb2
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(epoch + 1, file_version="brain.Event:2")
            self._write(epoch + 1, session_log=start)
            self._writer.flush()

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
        epoch, summary = int(row["epoch"]), self._library.summary
        for column, tag in TAGS.items():
            if row.get(column) is not None:
                self._write(epoch, summary=summary.scalar(tag, float(row[column])))
        for name, array in weights.items():
            values = np.asarray(array, np.float64).ravel()
            self._write(epoch, summary=summary.histogram(name.replace(".", "/"), values, bins=HISTOGRAM_BINS))
        for path in sorted(pictures.glob("*.png")) if pictures else ():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._write(epoch, summary=summary.image(f"features/{path.stem}", pixels, dataformats="HWC"))
        self._writer.flush()

    def tested(self, results: Mapping[str, Scores], epoch: int) -> None:
        """Write the test scores of the ``last`` and the ``best`` weights to the disk."""
        summary = self._library.summary
        for which, scores in results.items():
            self._write(epoch, summary=summary.scalar(f"accuracy/test_top1_{which}", scores.top1))
            self._write(epoch, summary=summary.scalar(f"loss/test_{which}", scores.loss))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, epoch: int, **what: Any) -> None:
        self._writer.write_event(self._library.proto.event_pb2.Event(wall_time=time.time(), step=epoch, **what))


def require() -> None:
    """Refuse with a ``UsageError`` where tensorboardX is not installed."""
    _library()


def _library() -> Any:
    try:
        return importlib.import_module("tensorboardX")  # with its modules event_file_writer, proto and summary
    except ImportError as error:
        raise UsageError(
            "--tensorboard needs tensorboardX, which is not installed: pip install 'lenet-mp[tensorboard]'"
        ) from error
