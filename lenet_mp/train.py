"""``lenet-mp train``: train a model, in one process or under ``mpirun -n N``."""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_mp.parallel import guardian

if __name__ == "__main__":
    guardian.start()  # before the imports that may fail

from lenet_mp.arguments import path, positive
from lenet_mp.cli import Parser, command
from lenet_mp.errors import CheckpointError, DataError, UsageError
from lenet_mp.files import make_folder
from lenet_mp.parallel import agreement, comm, threads
from lenet_mp.parallel.last_words import ending_together
from lenet_mp.parallel.watchdog import watching
from lenet_mp.training import assembly, config, config_options, event_log
from lenet_mp.training.conduct import Conduct
from lenet_mp.training.config import Config
from lenet_mp.training.console import MODES, Console
from lenet_mp.training.saving import Saving
from lenet_mp.training.stopping import StopRequest, exit_code, seconds

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from lenet_mp.data.images import ImagePixels
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.training.checkpoint import Checkpoint
    from lenet_mp.training.conduct import Saved
    from lenet_mp.training.evaluation import Scores
    from lenet_mp.training.trainer import Recorder, Trainer

EPILOG = """examples:
  lenet-mp train                                a sample of real images, model 1
  mpirun -n 4 lenet-mp train --model 2 --data data/
  lenet-mp train --resume runs/model-1-1 --epochs 20
"""


def build_parser() -> argparse.ArgumentParser:
    """Make the parser: one option for each field of :class:`Config`, and where to read and write."""
    parser = Parser(
        "train", usage="lenet-mp train [OPTION...]", description="Train a model on shards of images.", epilog=EPILOG
    )
    others = {option.name for option in fields(Config)} - config.LEARNING
    config_options.add(parser.add_argument_group("what is trained, on what"), left_out=config.LEARNING)
    config_options.add(parser.add_argument_group("how it learns"), left_out=others)
    _add_conduct(parser.add_argument_group("how the run is carried out"))
    return parser


def _add_conduct(group: argparse._ArgumentGroup) -> None:
    """Add the options that do not touch the result: the fields of :class:`Conduct`, and ``--config``."""
    group.add_argument("--out", type=path, metavar="FOLDER", help="run folder (a new one in runs/)")
    group.add_argument("--config", type=Path, metavar="FILE", help="TOML file with options; the command line wins")
    group.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="RUN",
        help="go on with RUN (the newest); auto: if there is one",
    )
    group.add_argument("--progress", choices=MODES, default="auto", metavar="MODE", help=f"{', '.join(MODES)} (auto)")
    group.add_argument("--max-time", default="", metavar="TIME", help="save and stop after e.g. 55m (exit code 143)")
    group.add_argument("--save-every", default="10m", metavar="TIME", help="save within an epoch too (10m; 0: never)")
    group.add_argument("--fallback-dir", type=Path, metavar="FOLDER", help="save here if the run folder fails, and end")
    group.add_argument("--timeout", default="5m", metavar="TIME", help="end all ranks if one hangs (5m; 0: never)")
    group.add_argument("--verify-data", action="store_true", help="compare all shards with their SHA-256 first")
    group.add_argument("--tensorboard", action="store_true", help="write event files too (needs tensorboardX)")
    group.add_argument("--profile", action="store_true", help="print where the time went, at the end")
    group.add_argument("--check-ranks", type=positive, default=0, metavar="N", help="compare weights every N steps (0)")


@command("train")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; all ranks end together whatever happens to one of them."""
    stop = StopRequest()
    with stop.listening():  # from before MPI starts, which takes its time; once more after it, for it may listen too
        world = comm.connect()
    with stop.listening(), ending_together(world, "lenet-mp train"), _only_rank_0_prints(world):
        arguments = vars(build_parser().parse_args(argv))
        conduct = Conduct(**{option.name: arguments.pop(option.name) for option in fields(Conduct)})
        file = arguments.pop("config")
        file_options = config.read_options(file) if file else {}
        return run(world, config.with_recipe(file_options, arguments), conduct, stop)


def run(world: Comm, options: dict[str, Any], conduct: Conduct, stop: StopRequest | None = None) -> int:
    """Train as ``options`` say; every rank calls this. Returns the exit code."""
    stop = stop or StopRequest()
    stop.limit(seconds(conduct.max_time) if conduct.max_time else math.inf)
    with watching(world, seconds(conduct.timeout)), contextlib.ExitStack() as held:
        code = _run(world, options, conduct, stop, held)
        # A signal during the test or the report: they were finished first.
        return code or exit_code(stop.signalled)


def _run(world: Comm, options: dict[str, Any], conduct: Conduct, stop: StopRequest, held: contextlib.ExitStack) -> int:
    world.enter("the search for what to resume", waiting=world.rank > 0)
    saved = world.broadcast(conduct.take_up(held) if world.rank == 0 else None)
    state = saved.state if saved else None
    settings = config.resumed(_saved_settings(state), options) if state else Config(**options)
    if world.size > 1:  # alone, hashing the program's sources would compare them with nothing
        world.enter("the comparison of options", waiting=True)
        agreement.check_options(world, _told(settings) | {"check_ranks": conduct.check_ranks})
    trainer = assembly.make_trainer(world, settings, saved=state)
    if conduct.verify_data:
        _verify(trainer)
    world.enter("the comparison of jobs", waiting=True)
    agreement.check_job(world, trainer.fingerprint())
    agreement.note_instruction_sets(world, trainer.plan.isa)
    world.enter("the opening of the run folder")
    recorder = _make_recorder(trainer, conduct, saved, held)
    world.rest()
    trainer.plan.profile(on=conduct.profile)
    stop.tells = world.rank == 0 and conduct.progress != "off"
    code = trainer.fit(recorder, stop=stop, check_ranks=conduct.check_ranks)
    recorder.timed(trainer, show=conduct.profile)
    if code == 0:
        recorder.tested(trainer, _test(trainer, recorder))
        world.enter("the report", waiting=True)
        world.rest()
    return code


def _saved_settings(saved: Checkpoint) -> Config:
    try:
        return Config(**saved.config)
    except TypeError as error:
        raise CheckpointError(f"the saved run has other options than this version: {error}") from error


def _told(settings: Config) -> dict[str, object]:
    """Return the options that the other ranks must have, too; each may have its own copy of the data."""
    return asdict(settings) | {"data": "a folder" if settings.data else "the sample"}


def _verify(trainer: Trainer) -> None:
    """Compare every shard with the manifest's SHA-256, on every machine; ``DataError`` names what differs."""
    from lenet_mp.data import verification  # noqa: PLC0415 - only where it was asked for

    if trainer.dataset.manifest is None:
        raise UsageError(f"--verify-data: {trainer.dataset.folder} has no manifest.json to compare with; leave it out")
    trainer.comm.enter("the verification of the data")
    start = time.monotonic()
    wrong = verification.check_hashes(
        trainer.dataset, workers=threads.cores(), advance=lambda _: trainer.comm.enter("the verification of the data")
    )
    if wrong:
        raise DataError("; ".join(wrong))
    count = len(trainer.dataset.manifest.shards)
    print(f"{count} files have the SHA-256 of the manifest ({time.monotonic() - start:.1f} s)")


def _make_recorder(trainer: Trainer, conduct: Conduct, saved: Saved | None, held: contextlib.ExitStack) -> Recorder:
    from lenet_mp.training import recorder  # noqa: PLC0415 - draws with the engine, see above

    if trainer.comm.rank:
        return recorder.Silent()
    if conduct.tensorboard:
        event_log.require()
    image = _feature_image(trainer)
    folder = conduct.open_folder(trainer, saved, held)
    launched = trainer.comm.size > 1
    samples, epochs = trainer.loader.samples, trainer.config.epochs
    console = Console(conduct.progress, launched=launched, epochs=epochs, samples=samples)
    events = event_log.EventLog(folder.path, trainer.epoch) if conduct.tensorboard else None
    if conduct.fallback_dir:
        make_folder(conduct.fallback_dir)  # now, while there is nothing to lose
    saving = Saving(folder, seconds(conduct.save_every), conduct.fallback_dir)
    return recorder.RunRecorder.start(trainer, folder, console, image, saving, events)


def _feature_image(trainer: Trainer) -> ImagePixels:
    """Load the image whose feature maps are saved: the chosen file, or the first of the validation split."""
    dataset = trainer.dataset
    if trainer.config.feature_image:
        from lenet_mp.data.images import load_image  # noqa: PLC0415 - Pillow, only where a file was named

        height, width, channels = dataset.image_shape
        path, order = Path(trainer.config.feature_image), dataset.channel_order
        return load_image(
            path, size=(height, width), channels=channels, channel_order=order, resampling=dataset.resampling
        )
    first: ImagePixels = (dataset.validation or dataset.train[0]).images[0].copy()
    return first


def _test(trainer: Trainer, recorder: Recorder) -> dict[str, Scores]:
    """Score the last and the best weights on the test split, where there is one."""
    results = {}
    for which, weights in (("last", trainer.parameters), ("best", recorder.best_weights())):
        weights = trainer.comm.broadcast(weights)  # noqa: PLW2901 - rank 0's, for all
        scores = trainer.evaluate("test", weights)
        if scores:
            results[which] = scores
    return results


@contextlib.contextmanager
def _only_rank_0_prints(world: Comm) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if world.rank:
            null = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(null))
        yield


if __name__ == "__main__":
    raise SystemExit(main())
