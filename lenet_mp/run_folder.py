"""The folder of one training run: what is in it, what it is called, and how to find its checkpoints.

``config.toml``, ``env.json``, ``metrics.csv``, ``log.txt``, ``curves.png``, ``features/``, ``last.ckpt``,
``best.ckpt``, ``test.json``, ``report.html``. Every file is replaced atomically; no folder of an earlier run is written
to unless that run is resumed.
"""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from lenet_mp import checkpoint, files
from lenet_mp.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

METRICS = ("epoch", "lr", "loss", "train_top1", "val_top1", "val_top5", "seconds", "images_per_second")
LAST, BEST = "last.ckpt", "best.ckpt"


class RunFolder:
    """Writes a run's files; used by rank 0 alone.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, *, reuse: bool = False) -> RunFolder:
        """Make a new folder, or take one without a checkpoint again where ``reuse`` is set.

        Raises
        ------
        UsageError
            If there is something in it already.
        OutputError
            If it cannot be written.
        """
        used = path.exists() and (not path.is_dir() or any(path.iterdir()))
        if used and not (reuse and path.is_dir() and not (path / LAST).exists()):
            raise UsageError(f"{path} exists already: choose another --out, or --resume {path} to go on with it")
        files.make_folder(path)
        return cls(path)

    def write_config(self, options: dict[str, Any]) -> None:
        """Write ``config.toml``, complete, readable by ``--config``."""
        self._write("config.toml", tomli_w.dumps(options))

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Write a small document, such as ``env.json``."""
        self._write(name, json.dumps(document, indent=2) + "\n")

    def write_metrics(self, history: Sequence[dict[str, Any]]) -> None:
        """Write ``metrics.csv`` from all finished epochs: after a resume it holds no row of lost work."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRICS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        self._write("metrics.csv", text.getvalue())

    def log(self, line: str) -> None:
        """Append ``line`` to ``log.txt``, with the time."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S%z")
        try:
            with (self.path / "log.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{stamp} {line}\n")
        except OSError as error:
            raise files.output_error(self.path / "log.txt", error) from error

    def save(self, state: checkpoint.Checkpoint, *, best: bool) -> None:
        """Write ``last.ckpt``, and ``best.ckpt`` where the state is the best so far."""
        data = checkpoint.to_bytes(state)
        if best:
            files.write_atomically(self.path / BEST, data)
        files.write_atomically(self.path / LAST, data)

    def _write(self, name: str, text: str) -> None:
        files.write_atomically(self.path / name, text.encode(errors="surrogateescape"))


def new_path(parent: Path, stem: str) -> Path:
    """Return a folder of ``parent`` that does not exist: ``stem-1``, or the next free number."""
    taken = {p.name for p in parent.iterdir()} if parent.is_dir() else set()
    return next(parent / f"{stem}-{i}" for i in range(1, len(taken) + 2) if f"{stem}-{i}" not in taken)


def newest(parent: Path) -> Path | None:
    """Return the run of ``parent`` that was saved last, or None where there is none."""
    saved = [p for p in parent.glob(f"*/{LAST}") if p.is_file()]
    return max(saved, key=lambda p: p.stat().st_mtime_ns).parent if saved else None


def find_checkpoint(run: Path, which: str = "best") -> Path:
    """Return the checkpoint file of ``run``: a run folder, where ``best`` falls back to ``last``, or a file itself.

    Raises
    ------
    CheckpointError
        If there is neither.
    """
    if run.is_file():
        return run
    for name in (BEST, LAST) if which == "best" else (LAST,):
        if (run / name).is_file():
            return run / name
    if run.is_dir():
        raise CheckpointError(f"{run} has no checkpoint: it is no run folder, or the run ended before its first epoch")
    raise CheckpointError(f"{run} does not exist: give a run folder, such as {_example()}, or a .ckpt file")


def _example() -> Path:
    return newest(Path("runs")) or Path("runs/model-1-1")


