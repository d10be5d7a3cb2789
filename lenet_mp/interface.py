"""Training and its results from Python: the functions that ``lenet_mp`` itself offers.

They call what the commands call, so a run that is made here is a run like any other.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from lenet_mp import tables, train
from lenet_mp.data.arrays import save_dataset
from lenet_mp.networks import model_files
from lenet_mp.parallel import comm
from lenet_mp.training.conduct import Conduct
from lenet_mp.training.config import check_options, with_recipe
from lenet_mp.training.stopping import TERMINATE, StopRequest, exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.data.arrays import Samples
    from lenet_mp.networks.models import Model
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.results.classifier import Classifier

TERMINATED = exit_code(TERMINATE)
_TEMPORARY: list[tempfile.TemporaryDirectory[str]] = []
"""Folders of runs that nobody wanted to keep; they go when the process ends."""


def fit(
    data: str | os.PathLike[str] | Samples | None = None,
    *,
    validation: Samples | None = None,
    test: Samples | None = None,
    class_names: Sequence[str] = (),
    model: str | Model = "1",
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **options: Any,
) -> Classifier:
    """Train a model and return it with its best weights.

    Under ``mpirun`` every rank calls this with the same arguments and shares the work.

    Parameters
    ----------
    data : path or (images, labels)
        A data set's folder, or arrays: uint8 (N, H, W, C) and integers (N,); the sample that comes with the package
        if left out.
    validation, test, class_names
        Beside arrays, as for :func:`save_dataset`.
    model : str or Model
        ``"1"``, ``"2"``, ``"lenet5"``, a .toml file, or a table.
    out : path, optional
        New run folder; arrays are written beside it, to ``OUT-data``. Without it nothing is kept.
    quiet : bool
        Print nothing.
    **options
        Those of the train command: ``epochs=5``, ``batch_size=50``, ``recipe="modern"``, ``lr="0.01"``, ...

    Returns
    -------
    Classifier
        Stopped by Ctrl-C, it has what was reached; ``lenet-mp train --resume OUT`` goes on.

    Raises
    ------
    SystemExit
        With 143 after SIGTERM or SIGUSR1, once everything is saved.
    LenetError
        As the train command, with the same text.
    """
    check_options(options, "fit")
    world = comm.connect()
    folder = Path(out) if out else _temporary(world)
    if isinstance(data, tuple):
        data = _written(world, Path(f"{folder}-data"), data, validation, test, class_names)
    if data is not None:
        options["data"] = os.fspath(data)
    options["model"] = _model_name(world, model, folder)
    with contextlib.ExitStack() as stack:
        if quiet or world.rank:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        code = _run(world, with_recipe(options), conduct(out=folder, progress="off" if quiet else "auto"))
    if code == TERMINATED:
        raise SystemExit(code)  # whoever told the process to end does not want the rest of its work
    world.rest()
    return load_run(folder)


def _run(world: Comm, options: dict[str, Any], how: Conduct) -> int:
    """Train, and on a signal finish the step and save; only a main thread may catch signals."""
    stop = StopRequest()
    in_main = threading.current_thread() is threading.main_thread()
    with stop.listening() if in_main else contextlib.nullcontext():
        return train.run(world, options, how, stop)


def load_run(run: str | os.PathLike[str]) -> Classifier:
    """Return the network of a run folder with its best weights, or of a .ckpt file.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged.
    """
    from lenet_mp.results.classifier import Classifier  # noqa: PLC0415 - loads the engine, which fit does in its own time

    return Classifier.load(Path(run))


def conduct(**chosen: Any) -> Conduct:
    """Return how a run is carried out: the train command's defaults, but for what is ``chosen``."""
    defaults = vars(train.build_parser().parse_args([]))
    return Conduct(**{option.name: chosen.get(option.name, defaults[option.name]) for option in fields(Conduct)})


def _temporary(world: Comm) -> Path:
    """Return the same new folder on all ranks; rank 0 removes it at its end."""
    if world.rank == 0:
        _TEMPORARY.append(tempfile.TemporaryDirectory(prefix="lenet_mp-", ignore_cleanup_errors=True))
    return Path(world.broadcast(_TEMPORARY[-1].name if world.rank == 0 else None)) / "run"


def _written(
    world: Comm,
    folder: Path,
    train_samples: Samples,
    validation: Samples | None,
    test: Samples | None,
    class_names: Sequence[str],
) -> Path:
    """Let rank 0 write arrays as a data set."""
    if world.rank == 0:
        save_dataset(folder, train_samples, validation=validation, test=test, class_names=class_names)
    world.rest()
    return folder


def _model_name(world: Comm, model: str | Model, folder: Path) -> str:
    """Return what the option ``model`` takes: a table goes to a file beside the run folder."""
    if isinstance(model, str):
        return model
    path = Path(f"{folder}-model.toml")
    if world.rank == 0:
        tables.write_text(path, tomli_w.dumps(model_files.to_document(model)))
    world.rest()
    return str(path)
