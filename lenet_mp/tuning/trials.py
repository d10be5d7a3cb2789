"""Trials of a search: each is an ordinary training run in a folder of its own, made once and read back afterwards."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lenet_mp import train
from lenet_mp.errors import DivergenceError, UsageError
from lenet_mp.interface import conduct
from lenet_mp.training import config, run_folder
from lenet_mp.training.config import Config
from lenet_mp.training.schedule import epochs_without_gain, merit

if TYPE_CHECKING:
    from pathlib import Path

    from lenet_mp.parallel.comm import Comm
    from lenet_mp.tuning.search import Options

DONE, DIVERGED, OPEN = "done", "diverged", "open"


@dataclass(frozen=True)
class Trial:
    """One combination of options and what came of it.

    Attributes
    ----------
    tried : dict
        The options that the search varies.
    folder : Path
        Its run folder.
    state : str
        ``DONE``, ``DIVERGED`` or ``OPEN``, which is not begun or not finished.
    best : dict
        Row of ``metrics.csv`` of its best epoch; empty without one.
    config : dict
        All its options; empty before its first checkpoint.
    """

    tried: Options
    folder: Path
    state: str
    best: dict[str, Any]
    config: dict[str, Any]

    @property
    def accuracy(self) -> float | None:
        """Best validation accuracy as a share 0..1, None without one."""
        share = self.best.get("val_top1")
        return None if share is None else float(share)


def look(tried: Options, folder: Path, epochs: int) -> Trial:
    """Read what there is of a trial that is to have ``epochs`` epochs."""
    if not (folder / run_folder.LAST).is_file():
        return Trial(tried, folder, OPEN, {}, {})
    saved = run_folder.load_newest(folder)
    patience = saved.config.get("patience", 0)
    finished = saved.epoch >= epochs or (patience and epochs_without_gain(saved.history) >= patience)
    best = max(saved.history, key=merit) if saved.history else {}
    return Trial(tried, folder, DONE if finished else OPEN, best, saved.config)


def require_same(trial: Trial, options: dict[str, Any]) -> None:
    """Refuse a trial that was begun with other options than ``options``, with a ``UsageError``."""
    wanted = asdict(Config(**config.with_recipe(options, trial.tried)))
    for name, value in wanted.items():
        if name not in config.FREE_ON_RESUME and trial.config.get(name, value) != value:
            raise UsageError(
                f"{trial.folder} was tried with {config.flag(name)} {trial.config[name]}, not {value}: choose another "
                "--out, or the options as they were"
            )


def work(world: Comm, trial: Trial, options: dict[str, Any], epochs: int) -> tuple[Trial, int]:
    """Begin or go on with a trial; return it as it is then, and the exit code of its run."""
    state = ""
    code = 0
    # Results are the search's table; what a run says on its way is progress.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            code = train.run(world, config.with_recipe(options, trial.tried), conduct(out=trial.folder, resume="auto"))
        except DivergenceError as error:
            print(f"{trial.folder.name}: {error}", file=sys.stderr)
            state = DIVERGED
    after = look(trial.tried, trial.folder, epochs)
    return (Trial(after.tried, after.folder, state, after.best, after.config) if state else after), code
