"""When a run's state is saved, and where it goes when its folder cannot be written any more."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from lenet_mp.errors import OutputError
from lenet_mp.training import run_folder
from lenet_mp.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from lenet_mp.training.checkpoint import Checkpoint


class Saving:
    """Writes the checkpoints of one run.

    Parameters
    ----------
    folder : RunFolder
    every : float
        Seconds after which another checkpoint is due; 0 for never.
    fallback : Path, optional
        Where a folder is made for the state that ``folder`` does not take.
    """

    def __init__(self, folder: RunFolder, every: float, fallback: Path | None) -> None:
        self._folder = folder
        self._every = every or math.inf
        self._fallback = fallback
        self._saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is too old."""
        return time.monotonic() - self._saved > self._every

    def save(self, state: Checkpoint, *, best: bool) -> None:
        """Write ``state``, which is the ``best`` so far or not.

        Raises
        ------
        OutputError
            If the folder cannot be written; the text says where the state is now, if there is a fallback that took it.
        """
        try:
            self._folder.save(state, best=best)
        except OutputError as error:
            if self._fallback is None:
                raise
            raise OutputError(f"{error}; {self._rescue(self._fallback, state, best=best)}") from error
        self._saved = time.monotonic()

    def _rescue(self, fallback: Path, state: Checkpoint, *, best: bool) -> str:
        """Save to the fallback and say how to go on; or say why that failed as well."""
        best_state = state if best else run_folder.best_until(self._folder.path, state.epoch)
        try:
            path = run_folder.make_new(fallback, self._folder.path.name)
            RunFolder(path).take_over(state, best_state)
        except OutputError as error:
            return f"and not to --fallback-dir either: {error}"
        return f"all is saved in {path}: go on with --resume {path}"
