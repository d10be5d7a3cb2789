"""The folder of one training run: what is in it, what it is called, and how to find its checkpoints.

``config.toml``, ``env.json``, ``metrics.csv``, ``log.txt``, ``curves.png``, ``features/``, ``last.ckpt``,
``previous.ckpt``, ``best.ckpt``, ``profile.json``, ``test.json``, ``report.html``. Every file is replaced atomically;
no folder of an earlier run is written to unless that run is resumed.

Three generations are kept: a kill leaves ``last`` whole, damage to it costs the work since ``previous``, at most an
epoch, and damage to both that since ``best``. More of them would guard against no further kind of failure: each is a
file of its own, and no state that is not finite is ever saved.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from lenet_mp import files, locks
from lenet_mp.errors import CheckpointError, UsageError
from lenet_mp.training import checkpoint, checkpoint_document

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
FEATURES = "features"
"""Where the feature maps are, a folder an epoch."""


class RunFolder:
    """Writes a run's files; used by rank 0 alone.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wrote_last = False

    @classmethod
    def create(cls, path: Path, *, reuse: bool = False) -> RunFolder:
        """Make a new folder, or take one without any checkpoint again where ``reuse`` is set.

        Raises
        ------
        UsageError
            If there is something in it already.
        OutputError
            If it cannot be written.
        CheckpointError
            If there are links in it.
        """
        used = path.exists() and (not path.is_dir() or any(entry.name != locks.NAME for entry in path.iterdir()))
        if used and not (reuse and path.is_dir() and not holds_run(path)):
            raise UsageError(f"{path} exists already: choose another --out, or --resume {path} to go on with it")
        files.make_folder(path)
        refuse_links(path)
        return cls(path)

    def sweep(self) -> None:
        """Remove what a killed process left half-written; only under the folder's lock."""
        for folder in (self.path, *self.path.glob(f"{FEATURES}/*/")):
            files.sweep(folder)

    def feature_folder(self, epoch: int) -> Path:
        """Return where an epoch's feature maps are drawn."""
        return self.path / FEATURES / f"epoch-{epoch:02d}"

    def write_config(self, options: dict[str, Any]) -> None:
        """Write ``config.toml``, complete, readable by ``--config``."""
        self._write("config.toml", tomli_w.dumps(options))

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Write a small document, such as ``env.json``."""
        self._write(name, json.dumps(document, indent=2, allow_nan=False) + "\n")

    def write_metrics(self, history: Sequence[dict[str, Any]]) -> None:
        """Write ``metrics.csv`` from all finished epochs: after a resume it holds no row of lost work."""
        text = io.StringIO()
        writer = csv.DictWriter(text, checkpoint_document.METRICS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        self._write("metrics.csv", text.getvalue())

    def log(self, line: str) -> None:
        """Append ``line`` to ``log.txt``, with the time."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S%z")
        files.append(self.path / "log.txt", f"{stamp} {line}\n")

    def save(self, state: checkpoint.Checkpoint, *, best: bool) -> None:
        """Write ``last.ckpt``, keep the one before it, and write ``best.ckpt`` where the state is the best so far."""
        data = checkpoint.to_bytes(state)
        if best:
            files.write_atomically(self.path / BEST, data)
        # What another process wrote is looked at first: a damaged file must not take the place of a sound one.
        if self._wrote_last or _is_sound(self.path / LAST):
            with files.replaced(self.path / PREVIOUS) as temporary:
                try:
                    temporary.hardlink_to(self.path / LAST)
                except OSError:  # a file system without hard links
                    with (self.path / LAST).open("rb") as last, temporary.open("xb") as copy:
                        shutil.copyfileobj(last, copy)
        files.write_atomically(self.path / LAST, data)
        self._wrote_last = True

    def take_over(self, state: checkpoint.Checkpoint, best: checkpoint.Checkpoint | None) -> None:
        """Begin with the state and the best state of a run that goes on here."""
        if best:
            checkpoint.save(best, self.path / BEST)
        checkpoint.save(state, self.path / LAST)

    def mend(self, state: checkpoint.Checkpoint) -> None:
        """Make ``state``, which the run goes on from, its last one where that is damaged or gone.

        A finished run saves nothing more that would.
        """
        if not _is_sound(self.path / LAST):
            checkpoint.save(state, self.path / LAST)

    def best(self) -> checkpoint.Checkpoint | None:
        """Read ``best.ckpt``; None where no best epoch is known."""
        return checkpoint.load(self.path / BEST) if (self.path / BEST).exists() else None

    def _write(self, name: str, text: str) -> None:
        files.write_atomically(self.path / name, text.encode(errors="surrogateescape"))


def make_new(parent: Path, stem: str) -> Path:
    """Make a folder in ``parent`` that did not exist: ``stem-1``, or the next free number."""
    files.make_folder(parent)
    for number in itertools.count(1):
        path = parent / f"{stem}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise files.output_error(path, error) from error
        return path
    raise AssertionError  # the numbers do not end


def holds_run(path: Path) -> bool:
    """Whether there is anything in ``path`` that a run has saved."""
    return any((path / name).is_file() for name in (LAST, PREVIOUS, BEST))


def _is_sound(path: Path) -> bool:
    try:
        checkpoint.load(path)
    except CheckpointError:
        return False
    return True


def best_until(run: Path, epoch: int) -> checkpoint.Checkpoint | None:
    """Read the best state of ``run`` if it is from no later than ``epoch`` and can be read."""
    try:
        best = checkpoint.load(run / BEST)
    except CheckpointError:
        return None
    return best if best.epoch <= epoch else None


def load_newest(run: Path) -> checkpoint.Checkpoint:
    """Read ``last.ckpt``, or the one before it where that is damaged or gone, saying so on stderr.

    Raises
    ------
    CheckpointError
        If neither can be read; the text is about ``last.ckpt``, and names the best one if that is sound: how much work
        to do again is the user's choice.
    """
    try:
        return checkpoint.load(run / LAST)
    except CheckpointError as error:
        try:
            state = checkpoint.load(run / PREVIOUS)
        except CheckpointError:
            raise _without_last(run, error) from None
        place = f"epoch {state.epoch + 1}, step {state.step}"
        print(f"warning: {error}; going on from {PREVIOUS}, at {place}", file=sys.stderr, flush=True)
        return state


def _without_last(run: Path, error: CheckpointError) -> CheckpointError:
    if not _is_sound(run / BEST):
        return error
    return CheckpointError(f"{error}; {PREVIOUS} is no help either: name {run / BEST} to go on from its best epoch")


def newest(parent: Path) -> Path | None:
    """Return the run of ``parent`` that was saved last, or None where there is none."""
    saved = [p for p in parent.glob(f"*/{LAST}") if p.is_file()]
    return max(saved, key=lambda p: p.stat().st_mtime_ns).parent if saved else None


def find_checkpoint(run: Path, which: str = "best") -> Path:
    """Return the checkpoint file of ``run``: a file itself, or a run folder's ``best`` or ``last``.

    Where the best is missing the last stands in for it, for the last the one before.

    Raises
    ------
    CheckpointError
        If there is neither.
    """
    try:
        return _find_checkpoint(run, which)
    except OSError as error:
        raise CheckpointError(f"cannot look into {run}: {error.strerror}") from error


def _find_checkpoint(run: Path, which: str) -> Path:
    if run.is_file():
        return run
    if run.is_dir():
        refuse_links(run)
    for name in (BEST, LAST, PREVIOUS) if which == "best" else (LAST, PREVIOUS):
        if (run / name).is_file():
            return run / name
    if (run / BEST).is_file():
        raise CheckpointError(f"{run} has lost its {LAST}: name {run / BEST} to go on from its best epoch")
    if run.is_dir():
        raise CheckpointError(f"{run} has no checkpoint: it is no run folder, or the run ended before its first epoch")
    raise CheckpointError(f"{run} does not exist: give a run folder, such as {_example()}, or a .ckpt file")


def refuse_links(run: Path) -> None:
    """Refuse a run folder that holds links: from somebody else, they would have other files read, or written to.

    Links in its folders count too: some of these have folders that files are written into.
    """
    entries = list(os.scandir(run))
    entries += [inner for entry in entries if entry.is_dir(follow_symlinks=False) for inner in os.scandir(entry)]
    links = sorted(entry.path for entry in entries if entry.is_symlink())
    if links:
        raise _link_error(Path(links[0]))


def place_in(run: Path, *parts: str) -> Path:
    """Return the path of results in a run folder, known by one of its files alone; ``CheckpointError`` at a link."""
    path = run
    for part in parts:
        path /= part
        if path.is_symlink():
            raise _link_error(path)
    return path


def _link_error(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is a link: a run folder holds its files itself; replace it by a copy")


def _example() -> Path:
    return newest(Path("runs")) or Path("runs/model-1-1")


