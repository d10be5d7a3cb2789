"""What rank 0 does beside training: print, write the run folder, draw curves and feature maps."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lenet_mp.errors import OutputError
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.results import feature_maps, plots
from lenet_mp.training import class_weights, environment, profile
from lenet_mp.training.console import epoch_line
from lenet_mp.training.schedule import epochs_without_gain

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from lenet_mp.data.images import ImagePixels
    from lenet_mp.data.shards import Dataset, Split
    from lenet_mp.training.config import Config
    from lenet_mp.training.console import Console
    from lenet_mp.training.evaluation import Scores
    from lenet_mp.training.event_log import EventLog
    from lenet_mp.training.run_folder import RunFolder
    from lenet_mp.training.saving import Saving
    from lenet_mp.training.trainer import Trainer

FEATURE_EPOCHS = (1, 6)
"""Epochs after which feature maps are saved, beside the last one."""


class Silent:
    """The recorder of the other ranks: rank 0 alone prints and writes."""

    def step_done(self, trainer: Trainer) -> None:
        """Do nothing."""

    def steps_done(self, trainer: Trainer) -> None:
        """Do nothing."""

    def epoch_done(self, trainer: Trainer) -> None:
        """Do nothing."""

    def stopped(self, trainer: Trainer) -> None:
        """Do nothing."""

    def timed(self, trainer: Trainer, *, show: bool) -> None:
        """Do nothing."""

    def best_weights(self) -> None:
        """Leave it to rank 0."""

    def tested(self, trainer: Trainer, results: dict[str, Scores]) -> None:
        """Do nothing."""


class RunRecorder:
    """Rank 0's recorder.

    Parameters
    ----------
    folder : RunFolder
    console : Console
    image : (H, W, C) uint8
        Whose feature maps are saved.
    saving : Saving
        Which writes the checkpoints into ``folder``.
    events : EventLog, optional
        For TensorBoard.
    """

    def __init__(
        self, folder: RunFolder, console: Console, image: ImagePixels, saving: Saving, events: EventLog | None
    ) -> None:
        self._events = events
        self._folder = folder
        self._console = console
        self._image = image
        self._saving = saving
        self._not_drawn = 0

    @classmethod
    def start(
        cls,
        trainer: Trainer,
        folder: RunFolder,
        console: Console,
        image: ImagePixels,
        saving: Saving,
        events: EventLog | None = None,
    ) -> RunRecorder:
        """Print a run's first lines, write its options and environment, and make good what a killed run left undone."""
        surroundings = environment.describe(trainer.comm, trainer.plan)
        folder.write_config(asdict(trainer.config))
        folder.write_json("env.json", surroundings)
        for line in first_lines(trainer, surroundings, folder):
            console.say(line)
            folder.log(line)
        recorder = cls(folder, console, image, saving, events)
        recorder.catch_up(trainer)
        return recorder

    def catch_up(self, trainer: Trainer) -> None:
        """Write what belongs to the last finished epoch: after a kill it may be missing, or tell of lost work."""
        if not trainer.epoch:
            return
        self._folder.write_metrics(trainer.history)
        if trainer.step == 0:
            self.draw_curves(trainer)
            self._save_due_feature_maps(trainer)
        self._optional("TensorBoard events", lambda: self._write_events(trainer))

    def step_done(self, trainer: Trainer) -> None:
        """Move the progress display; save, if the last checkpoint is too old."""
        running = trainer.running
        self._console.advance(trainer.epoch + 1, running.samples, running.loss)
        if self._saving.is_due:
            trainer.dataset.check_unchanged()  # no weights that come of half-written images
            self._saving.save(trainer.checkpoint(), best=False)

    def steps_done(self, trainer: Trainer) -> None:
        """Save: evaluating may take longer than a batch system waits."""
        self._saving.save(trainer.checkpoint(), best=False)
        self._console.evaluating()

    def epoch_done(self, trainer: Trainer) -> None:
        """Print the epoch's line; write metrics, checkpoints, curves and, after some epochs, feature maps."""
        row = trainer.history[-1]
        # First of all: what follows may fail, on a full disk or a closed pipe.
        self._saving.save(trainer.checkpoint(), best=is_best(trainer.history))
        self._folder.write_metrics(trainer.history)
        self._folder.log(epoch_line(row, trainer.config.epochs))
        self._console.epoch(row, sum(past["seconds"] for past in trainer.history))
        self.draw_curves(trainer)
        self._save_due_feature_maps(trainer)
        self._optional("TensorBoard events", lambda: self._write_events(trainer))

    def stopped(self, trainer: Trainer) -> None:
        """Save the unfinished epoch and say how to go on."""
        self._saving.save(trainer.checkpoint(), best=False)
        line = (
            f"stopped in epoch {trainer.epoch + 1} after step {trainer.step} of {trainer.loader.steps}; "
            f"go on with: --resume {self._folder.path}"
        )
        self._console.say(line)
        self._folder.log(line)

    def timed(self, trainer: Trainer, *, show: bool) -> None:
        """Write the share of each phase to ``profile.json``, and print it where it is wanted."""
        seconds = trainer.profile.seconds
        parts = profile.shares(seconds, trainer.plan.profile(on=False))
        self._folder.write_json("profile.json", {"seconds": seconds, "shares": parts})
        if show:
            self._console.say("\n".join(["time on this rank:", *profile.table(parts)]))

    def best_weights(self) -> NDArray[np.float32] | None:
        """Read the best weights back."""
        best = self._folder.best()
        return best.parameters if best else None

    def draw_curves(self, trainer: Trainer, test: Scores | None = None) -> None:
        """Draw loss and accuracies by epoch, with the test accuracy once it is known."""
        title = f"model {trainer.network.model.name}, {trainer.loader.samples:,} images"
        path = self._folder.path / "curves.png"
        top1 = test.top1 if test else None
        self._optional("curves", lambda: plots.draw_curves(trainer.history, path, title=title, test_top1=top1))

    def tested(self, trainer: Trainer, results: dict[str, Scores]) -> None:
        """Print and write the test scores, and say where everything is."""
        for which, scores in results.items():
            line = f"test ({which} weights): top-1 {scores.top1:.2%}  top-5 {scores.top5:.2%}  loss {scores.loss:.4f}"
            self._console.say(line)
            self._folder.log(line)
        if results:
            self._folder.write_json("test.json", {which: scores.as_dict() for which, scores in results.items()})
            self.draw_curves(trainer, results["last"])
        self._optional("TensorBoard events", lambda: self._write_tested(results, trainer.epoch))
        self._save_feature_maps(trainer)  # there are none yet where the run ended early
        self._optional("report", self._write_report)
        if self._not_drawn:
            self._console.say(f"{plural(self._not_drawn, 'drawing')} failed: see the warnings in log.txt")
        self._console.say(f"results: {self._folder.path} (report.html, curves.png, metrics.csv, features/, best.ckpt)")

    def _write_events(self, trainer: Trainer) -> None:
        """Write the events of all finished epochs of which there are none; the weights are known of the last alone."""
        if self._events is None:
            return
        for row in [row for row in trainer.history if self._events.lacks(row["epoch"])]:
            ends_here = trainer.step == 0 and row["epoch"] == trainer.epoch
            arrays = trainer.network.views(trainer.parameters) if ends_here else {}
            pictures = self._folder.feature_folder(row["epoch"])
            self._events.epoch_done(row, arrays, pictures if pictures.exists() else None)

    def _write_tested(self, results: dict[str, Scores], epoch: int) -> None:
        if self._events:
            self._events.tested(results, epoch)
            self._events.close()

    def _write_report(self) -> None:
        from lenet_mp import tables  # noqa: PLC0415 - a template engine, needed only at the end
        from lenet_mp.results import report_page  # noqa: PLC0415 - a template engine, needed only at the end

        path = self._folder.path
        tables.write_text(path / "report.html", report_page.render([report_page.describe(path)]))

    def _save_due_feature_maps(self, trainer: Trainer) -> None:
        if trainer.epoch in (*FEATURE_EPOCHS, trainer.config.epochs):
            self._save_feature_maps(trainer)

    def _save_feature_maps(self, trainer: Trainer) -> None:
        """Draw the maps of the present weights, unless they are there: an epoch's weights are always the same."""
        folder = self._folder.feature_folder(trainer.epoch)
        if feature_maps.are_complete(trainer.network, folder):
            return

        def draw() -> None:
            scale, offset = scale_and_offset(trainer.config.normalize)
            maps = feature_maps.compute(trainer.network, trainer.parameters, self._image, scale, offset)
            order = trainer.dataset.channel_order
            title = f"epoch {trainer.epoch}"
            feature_maps.save(maps, self._image, folder, channel_order=order, title=title)

        self._optional("feature maps", draw)

    def _optional(self, what: str, draw: Callable[[], object]) -> None:
        """Draw a picture; a picture that fails never ends a training run."""
        try:
            draw()
        except Exception as error:  # noqa: BLE001 - whatever a plotting library raises
            line = f"warning: no {what} this time ({type(error).__name__}: {error}); training goes on"
            print(line, file=sys.stderr, flush=True)
            with contextlib.suppress(OutputError):  # the disk that had no room for the picture may have none for this
                self._folder.log(line)
            self._not_drawn += 1


def first_lines(trainer: Trainer, surroundings: dict[str, Any], folder: RunFolder) -> list[str]:
    """Say what is trained, on what, with what, and where the results go."""
    network, data, loader, config = trainer.network, trainer.dataset, trainer.loader, trainer.config
    height, width, channels = network.input_shape
    held_out = [f"{split.count:,} {name}" for name, split in _held_out(data) if split]
    size, threads, cores = trainer.comm.size, trainer.plan.threads, surroundings["cores"]
    counts = ", ".join([f"{loader.samples:,} training images", *held_out])
    library = f", {trainer.comm.library}" if trainer.comm.library else ""
    steps = f"{loader.steps} steps an epoch, {loader.streams} streams"
    lines = [
        f"model {network.model.name}: {network.parameter_count:,} parameters, {network.classes} classes",
        f"data {data.folder}: {counts}, {height} x {width} x {channels}",
        f"{plural(size, 'rank')} x {plural(threads, 'thread')} on {plural(cores, 'core')}, {trainer.plan.isa}{library}",
        f"batch size {config.batch_size} over all ranks, {steps}, seed {config.seed}",
        recipe_line(config),
        *loss_lines(trainer),
        *([f"augmentation: {changes}"] if (changes := trainer.augmentation.describe(network.input_shape)) else []),
        f"run folder {folder.path}",
    ]
    if trainer.comm.local_size * threads > cores:
        lines.append(f"note: {plural(trainer.comm.local_size, 'rank')} x {threads} share {plural(cores, 'core')}")
    if size > loader.streams:
        lines.append(f"note: {size - loader.streams} ranks have no work: there are only {loader.streams} --streams")
    lines += trainer.notes
    if trainer.epoch or trainer.step:
        lines.append(f"resumed after epoch {trainer.epoch}, step {trainer.step}")
    return lines


def recipe_line(config: Config) -> str:
    """Say how the weights are moved: all options that decide it."""
    rate = f"{config.schedule} learning rate {config.lr} for the {config.lr_scale} of gradients"
    parts = [f"{config.recipe} recipe: {rate}"]
    parts += [f"warm-up {config.warmup:g} epochs"] if config.warmup else []
    parts += [f"{'Nesterov ' if config.nesterov else ''}momentum {config.momentum:g}"]
    parts += [f"weight decay {config.weight_decay:g}"] if config.weight_decay else []
    parts += [f"gradient norm at most {config.clip_norm:g}"] if config.clip_norm else []
    return ", ".join(parts)


def loss_lines(trainer: Trainer) -> list[str]:
    """Say what the loss is where it is not plain cross-entropy."""
    config, lines = trainer.config, []
    if config.label_smoothing:
        lines.append(f"label smoothing {config.label_smoothing:g}")
    if trainer.class_weights is not None:
        names = trainer.dataset.class_names
        lines.append(class_weights.describe(config.class_weights, trainer.class_weights, names))
    return [*lines, "the training loss is with them; evaluations report plain cross-entropy"] if lines else []


def plural(number: int, noun: str) -> str:
    """Return ``1 rank``, ``2 ranks``, ..."""
    return f"{number} {noun}" + "s" * (number != 1)


def _held_out(data: Dataset) -> list[tuple[str, Split | None]]:
    return [("validation", data.validation), ("test", data.test)]


def is_best(history: list[dict[str, Any]]) -> bool:
    """Whether the last epoch is the best so far, by validation accuracy or else training loss; ties go to the first."""
    return epochs_without_gain(history) == 0
