"""How a run is carried out: where it is written, what it continues, when it ends early."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import run_folder
from lenet_mp.errors import UsageError
from lenet_mp.run_folder import RunFolder

if TYPE_CHECKING:
    from lenet_mp.trainer import Trainer

RUNS = Path("runs")


@dataclass(frozen=True)
class Conduct:
    """The options of the train command that do not touch a run's result; they have their names on the command line."""

    out: Path | None
    resume: str | None
    progress: str
    max_time: str
    timeout: str
    check_ranks: int

    def saved_run(self) -> Path | None:
        """Find the checkpoint to go on from; None to start anew."""
        if self.resume is None:
            return None
        if self.resume in ("newest", "auto"):
            folder = self.out or run_folder.newest(RUNS)
            if self.resume == "auto" and not (folder and (folder / run_folder.LAST).is_file()):
                return None
            if folder is None:
                raise UsageError(f"nothing to resume: {RUNS}/ has no run; name a run folder after --resume")
            return run_folder.find_checkpoint(folder, "last")
        return run_folder.find_checkpoint(Path(self.resume), "last")

    def open_folder(self, trainer: Trainer, saved_in: Path | None) -> RunFolder:
        """Make the run's folder, or take the one of the run that goes on."""
        if saved_in and self.out in (None, saved_in.parent):
            return RunFolder(saved_in.parent)
        out = self.out or run_folder.new_path(RUNS, f"model-{trainer.network.model.name}")
        return RunFolder.create(out, reuse=self.resume == "auto")
