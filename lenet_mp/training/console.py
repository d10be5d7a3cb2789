"""What a run shows while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lenet_mp.progress import Progress, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

MODES = ("auto", "bar", "lines", "off")
SECONDS_BETWEEN_LINES = 10.0


class Console:
    """Progress within an epoch on stderr; the epoch's figures, which are results, on stdout.

    Parameters
    ----------
    mode : str
        One of ``MODES``; ``auto`` is a bar where stderr is a terminal that no launcher sits in front of.
    launched : bool
        Whether a launcher passes the output on; it may hold it back until a line ends.
    epochs, samples : int
        Epochs of the run, and samples of each.
    """

    def __init__(self, mode: str, *, launched: bool, epochs: int, samples: int) -> None:
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() and not launched else "lines"
        self._mode = mode
        self._epochs = epochs
        self._samples = samples
        self._progress: Progress | None = None
        self._done = 0

    def say(self, line: str) -> None:
        """Print a line of results."""
        if self._progress:
            self._progress.close(keep=False)
            self._progress = None
        print(line, flush=True)

    def advance(self, epoch: int, done: int, loss: float) -> None:
        """Show that ``done`` samples of ``epoch`` (counted from 1) are worked, at mean ``loss`` so far."""
        if self._mode == "off":
            return
        if self._progress is None:
            label, bar = f"epoch {epoch}/{self._epochs}", self._mode == "bar"
            self._progress = Progress(
                self._samples, label, "images", done=done, bar=bar, every=SECONDS_BETWEEN_LINES
            )
            self._done = done
        self._progress.advance(done - self._done, f"loss {loss:.3f}")
        self._done = done

    def evaluating(self) -> None:
        """Show that the steps of an epoch are done and that its accuracies are measured."""
        if self._progress:
            self._progress.note("evaluating")

    def epoch(self, row: Mapping[str, Any], whole: float) -> None:
        """Print an epoch's figures on one line, with the time left, or at the end the ``whole`` run's seconds."""
        left = self._epochs - row["epoch"]
        time = f"eta {duration(left * row['seconds'])}" if left else f"in all {duration(whole)}"
        self.say(f"{epoch_line(row, self._epochs)}  {time}")


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """Return an epoch's figures as one line of text: each of training, and of validation where there is any."""
    parts = [f"epoch {row['epoch']}/{epochs}", _pair("loss", row["loss"], row["val_loss"], ".4f")]
    parts += [_pair(f"top-{k}", row[f"train_top{k}"], row[f"val_top{k}"], "5.1%") for k in (1, 5)]
    parts += [f"lr {row['lr']:g}", duration(row["seconds"])]
    if row["images_per_second"] is not None:  # nothing was worked where a run went on after an epoch's last step
        parts.insert(-1, f"{row['images_per_second']:,.0f} images/s")
    return "  ".join(parts)


def _pair(name: str, train: float | None, validation: float | None, form: str) -> str:
    held_out = "" if validation is None else f" val {validation:{form}}"
    return f"{name} {'-' if train is None else format(train, form)}{held_out}"
