"""How a run is carried out: where it is written, what it continues, when it ends early."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lenet_mp import files
from lenet_mp.errors import UsageError
from lenet_mp.locks import folder_lock
from lenet_mp.training import checkpoint, run_folder
from lenet_mp.training.run_folder import RunFolder

if TYPE_CHECKING:
    from contextlib import ExitStack

    from lenet_mp.training.checkpoint import Checkpoint
    from lenet_mp.training.trainer import Trainer

RUNS = Path("runs")


class Saved(NamedTuple):
    """A run that goes on: its folder and its state; if it goes on in another folder, no folder, but its best state."""

    folder: Path | None
    state: Checkpoint
    best: Checkpoint | None = None


@dataclass(frozen=True)
class Conduct:
    """The options of the train command that do not touch a run's result; they have their names on the command line."""

    out: Path | None
    resume: str | None
    progress: str
    max_time: str
    timeout: str
    check_ranks: int
    save_every: str
    profile: bool
    verify_data: bool
    tensorboard: bool
    fallback_dir: Path | None

    def take_up(self, held: ExitStack) -> Saved | None:
        """Find, lock and read the run to go on with; None to start anew.

        The lock comes first: nobody else may be writing what is read here. ``held`` keeps it.
        """
        path = self._saved_run()
        if path is None:
            return None
        goes_on_there = self.out is None or self.out.resolve() == path.parent.resolve()
        if goes_on_there:
            held.enter_context(folder_lock(path.parent))
            run_folder.refuse_links(path.parent)
        lost_last = path.name == run_folder.PREVIOUS and not (path.parent / run_folder.LAST).exists()
        newest = path.name == run_folder.LAST or lost_last
        state = run_folder.load_newest(path.parent) if newest else checkpoint.load(path)
        best = None if goes_on_there else run_folder.best_until(path.parent, state.epoch)
        return Saved(path.parent if goes_on_there else None, state, best)

    def open_folder(self, trainer: Trainer, saved: Saved | None, held: ExitStack) -> RunFolder:
        """Make and lock the run's folder, or take the one of the run that goes on."""
        if saved and saved.folder:
            folder = RunFolder(saved.folder)
            folder.sweep()
            folder.mend(saved.state)
            return folder
        out = self.out or run_folder.make_new(RUNS, f"model-{trainer.network.model.name}")
        held.enter_context(folder_lock(files.make_folder(out)))
        folder = RunFolder.create(out, reuse=self.resume == "auto")
        folder.sweep()
        if saved:
            folder.take_over(saved.state, saved.best)
        return folder

    def _saved_run(self) -> Path | None:
        if self.resume is None:
            return None
        if not self.resume:
            raise UsageError("--resume is empty: name a run folder, or leave the name out for the newest")
        if self.resume in ("newest", "auto"):
            folder = self.out or run_folder.newest(RUNS)
            if self.resume == "auto" and not (folder and run_folder.holds_run(folder)):
                return None
            if folder is None:
                raise UsageError(f"nothing to resume: {RUNS}/ has no run; name a run folder after --resume")
            return run_folder.find_checkpoint(folder, "last")
        return run_folder.find_checkpoint(Path(self.resume), "last")
