"""What a run shows while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lenet_mp.progress import duration

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
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line of results."""
        self._close_bar()
        print(line, flush=True)

    def advance(self, epoch: int, done: int, loss: float) -> None:
        """Show that ``done`` samples of ``epoch`` (counted from 1) are worked, at mean ``loss`` so far."""
        if self._mode == "bar":
            self._advance_bar(epoch, done, loss)
        elif self._mode == "lines" and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            share = done / self._samples
            print(f"epoch {epoch}/{self._epochs} {share:4.0%} loss {loss:.3f}", file=sys.stderr, flush=True)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print an epoch's figures on one line."""
        left = self._epochs - row["epoch"]
        self.say(f"{epoch_line(row, self._epochs)}  eta {duration(left * row['seconds'])}")
        self._last_line = time.monotonic()

    def _advance_bar(self, epoch: int, done: int, loss: float) -> None:
        if self._bar is None:
            label = f"epoch {epoch}/{self._epochs}"
            self._bar = tqdm(total=self._samples, initial=done, desc=label, unit="img", leave=False, file=sys.stderr)
        self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self._bar.update(done - self._bar.n)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """Return an epoch's figures as one line of text."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.4f}", f"train {row['train_top1']:.2%}"]
    if row["val_top1"] is not None:
        parts += [f"val {row['val_top1']:.2%}", f"top-5 {row['val_top5']:.2%}"]
    parts += [f"lr {row['lr']:g}", duration(row["seconds"])]
    if row["images_per_second"] is not None:  # nothing was worked where a run went on after an epoch's last step
        parts.insert(-1, f"{row['images_per_second']:,.0f} images/s")
    return "  ".join(parts)
