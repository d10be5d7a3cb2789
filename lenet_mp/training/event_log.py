"""Event files for TensorBoard: figures by epoch, histograms of the weights, pictures of feature maps.

Every process adds a file of its own, and all that belongs to an epoch is one event: after a kill it is there or not,
and a resumed run, which reads what earlier processes wrote, adds what is not. So no epoch is missing, none there twice.
"""

from __future__ import annotations

import contextlib
import importlib
import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lenet_mp import files
from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
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
_LENGTH = struct.Struct("<Q4x")
_CHECKSUM_BYTES = 4


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
        If the folder or the file cannot be made.
    """

    def __init__(self, run: Path, epoch: int) -> None:
        self._library = _library()
        folder = files.make_folder(run / FOLDER)
        earlier = sorted(folder.iterdir())
        self._there = {(step, tag) for step, tag in self._shown(earlier) if step <= epoch}
        # SummaryWriter would hand events to a thread, which its flush does not wait for: a run that is killed after an
        # epoch might lose it. The writer below writes at once. TensorBoard reads the files in the order of their names,
        # in which the library puts the time: a number before it keeps the order where the clock was put back.
        try:
            prefix = folder / f"events.part-{len(earlier) + 1:04}"
            self._writer = self._library.event_file_writer.EventsWriter(str(prefix))
            if epoch:  # a first start has nothing to hide; old versions of TensorBoard stumble over a purge at nothing
                event_pb2 = self._library.proto.event_pb2
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._write(epoch + 1, file_version="brain.Event:2")
                self._write(epoch + 1, session_log=start)
            self._writer.flush()
        except OSError as error:
            raise files.output_error(folder, error) from error

    def lacks(self, epoch: int) -> bool:
        """Whether nothing is written of that finished epoch yet."""
        return (epoch, TAGS["loss"]) not in self._there

    def epoch_done(
        self, row: Mapping[str, Any], weights: Mapping[str, NDArray[np.generic]], pictures: Path | None = None
    ) -> None:
        """Write the figures, weights and pictures of one epoch to the disk, as one event.

        Parameters
        ----------
        row : mapping
            The epoch's row of ``metrics.csv``.
        weights : mapping of str to array
            Weights and biases by name, as ``network.views`` gives them; none where they are not known any more.
        pictures : Path, optional
            Folder of PNG files, such as ``features/epoch-01``.
        """
        summary = self._library.summary
        parts = [
            summary.scalar(tag, float(row[column])) for column, tag in TAGS.items() if row.get(column) is not None
        ]
        for name, array in weights.items():
            values = np.asarray(array, np.float64).ravel()
            parts.append(summary.histogram(name.replace(".", "/"), values, bins=HISTOGRAM_BINS))
        for path in sorted(pictures.glob("*.png")) if pictures else ():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            parts.append(summary.image(f"features/{path.stem}", pixels, dataformats="HWC"))
        self._write_summary(int(row["epoch"]), parts)
        self._there.add((int(row["epoch"]), TAGS["loss"]))

    def tested(self, results: Mapping[str, Scores], epoch: int) -> None:
        """Write the test scores of the ``last`` and the ``best`` weights to the disk, unless they are there."""
        summary = self._library.summary
        figures = {f"accuracy/test_top1_{which}": scores.top1 for which, scores in results.items()}
        figures |= {f"loss/test_{which}": scores.loss for which, scores in results.items()}
        missing = [(tag, value) for tag, value in figures.items() if (epoch, tag) not in self._there]
        if missing:
            self._write_summary(epoch, [summary.scalar(tag, value) for tag, value in missing])

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write_summary(self, epoch: int, parts: Iterable[Any]) -> None:
        whole = self._library.proto.summary_pb2.Summary()
        for part in parts:
            whole.MergeFrom(part)
        self._write(epoch, summary=whole)
        self._writer.flush()

    def _write(self, epoch: int, **what: Any) -> None:
        self._writer.write_event(self._library.proto.event_pb2.Event(wall_time=time.time(), step=epoch, **what))

    def _shown(self, paths: Iterable[Path]) -> set[tuple[int, str]]:
        """(epoch, tag) of all that TensorBoard shows of event files, in that order; of a damaged one, what it can."""
        event_pb2 = self._library.proto.event_pb2
        damage = importlib.import_module("google.protobuf.message").DecodeError  # tensorboardX brings protobuf
        shown: set[tuple[int, str]] = set()
        for path in paths:
            for data in _records(path):
                try:
                    event = event_pb2.Event.FromString(data)
                except damage:
                    break
                if event.session_log.status == event_pb2.SessionLog.START:
                    shown = {(step, tag) for step, tag in shown if step < event.step}
                shown |= {(event.step, value.tag) for value in event.summary.value}
        return shown


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file, each between its length with a checksum and another checksum, up to a torn one."""
    with contextlib.suppress(OSError):  # no file to read is none that TensorBoard shows
        data, start = files.read(path), 0
        while start + _LENGTH.size <= len(data):
            start, end = start + _LENGTH.size, start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
            if end + _CHECKSUM_BYTES > len(data):
                return
            yield data[start:end]
            start = end + _CHECKSUM_BYTES


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
