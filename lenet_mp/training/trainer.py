"""The training loop: loader, exchange of gradients, descent; after every epoch, validation and the recorder."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lenet_mp import augmentation
from lenet_mp.augmentation import Augment
from lenet_mp.errors import CheckpointError, DivergenceError
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.parallel import agreement
from lenet_mp.plan import COUNTS, SAMPLES, Plan
from lenet_mp.targets import make_targets
from lenet_mp.training.checkpoint import Checkpoint
from lenet_mp.training.evaluation import Scores, add, evaluate
from lenet_mp.training.exchange import Exchange, Sums
from lenet_mp.training.loader import Loader, default_streams
from lenet_mp.training.optimizer import Descent
from lenet_mp.training.profile import Profile
from lenet_mp.training.schedule import epochs_without_gain
from lenet_mp.training.stopping import StopRequest, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lenet_mp.data.shards import Dataset
    from lenet_mp.networks.network import Network
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.training.config import Config


MOST_AHEAD = 64
"""Steps for which images are fetched ahead, at most."""


class Recorder(Protocol):
    """Who is told of a run's progress: on rank 0 it writes and prints, on the others it does nothing."""

    def step_done(self, trainer: Trainer) -> None:
        """After every step."""

    def steps_done(self, trainer: Trainer) -> None:
        """After the last step of an epoch, before its evaluation."""

    def epoch_done(self, trainer: Trainer) -> None:
        """After every epoch; its figures are the last row of ``trainer.history``."""

    def stopped(self, trainer: Trainer) -> None:
        """After the last step of a run that was asked to stop."""

    def timed(self, trainer: Trainer, *, show: bool) -> None:
        """After the last step of this session; ``show`` where the user wants to see where the time went."""

    def best_weights(self) -> NDArray[np.float32] | None:
        """Return the best weights so far (P,), on rank 0."""

    def tested(self, trainer: Trainer, results: dict[str, Scores]) -> None:
        """At the end, with the test scores of the ``last`` and the ``best`` weights."""


class Trainer:
    """One network in training on one data set, alone or as one rank of several.

    Every rank holds the same weights: a step's gradients are added up as integers over all ranks, exactly, and each
    rank makes the same update. So the weights do not depend on how many ranks or threads there are.

    Attributes
    ----------
    parameters, velocity : (P,) float32
    epoch, step : int
        Epochs finished, and steps done in the one after.
    history : list of dict
        Figures of the finished epochs, as in ``metrics.csv``.
    class_weights : (classes,) float32 or None
    notes : list of str
        What the user should be told about the start.
    profile : Profile
        Where this rank's time went.
    augmentation : Augmentation
        What may happen to the images of a step; an evaluation sees them as they are.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        dataset: Dataset,
        comm: Comm,
        threads: int,
        *,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        self.config = config
        self.network = network
        self.dataset = dataset
        self.comm = comm
        self.class_weights = class_weights
        comm.enter("the sharing of what is known of the data set", waiting=True)
        dataset.share_seals(comm.shared_bytes)
        comm.enter("the making of the trainer")
        self.augmentation = augmentation.parse(config.augment)
        self.augmentation.padding(network.input_shape)  # refuses what leaves nothing of an image
        scale, offset = scale_and_offset(config.normalize)
        self.plan = Plan(network.layers, scale=scale, offset=offset, threads=threads)
        self.loader = Loader(
            [split.count for split in dataset.train],
            batch_size=config.batch_size,
            streams=config.streams or default_streams(config.batch_size),
            seed=config.seed,
        )
        self.parameters = network.initialise(config.seed, config.init)
        self.notes: list[str] = []
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self._counts = [0] * COUNTS
        self.profile = Profile()
        targets = make_targets(network.classes, smoothing=config.label_smoothing, weights=class_weights)
        self.exchange = Exchange(self.plan, dataset.train, comm, config.batch_size, self.profile, targets=targets)
        self.descent = Descent(config, network.parameter_count, self.loader.steps, threads)
        # The streams come to the ends of their shards at about the same time: the next ones are fetched while these
        # are worked, if there is room for both.
        both = 2 * self.loader.streams
        self._ahead = min(self.loader.steps_a_shard, MOST_AHEAD) if dataset.has_room_for(both) else 1
        self._fetched = 0
        self._part = functools.lru_cache(maxsize=self._ahead + 2)(
            lambda epoch, step: self.loader.part(epoch, step, comm.rank, comm.size)
        )

    @property
    def velocity(self) -> NDArray[np.float32]:
        """The optimizer's state (P,)."""
        return self.descent.optimizer.velocity

    @property
    def running(self) -> Scores:
        """Scores of the unfinished epoch so far, of the weights at each step."""
        return Scores.from_counts(self._counts)

    def fit(self, recorder: Recorder, *, stop: StopRequest | None = None, check_ranks: int = 0) -> int:
        """Train until ``config.epochs`` are finished or ``stop`` asks to end.

        Parameters
        ----------
        recorder : Recorder
        stop : StopRequest, optional
            Any rank's; all stop after the same step.
        check_ranks : int
            Compare the weights of all ranks every so many steps, and before an epoch's end is saved; 0 for never.

        Returns
        -------
        int
            0, or the exit code that the signal stands for.

        Raises
        ------
        DivergenceError
            On all ranks at the same step, before anything of that step is saved.
        PeerError
            On all ranks, if they are found to be at different steps or to hold different weights.
        """
        stop = stop or StopRequest()
        self.profile.lap("other")
        requested = 0
        with self.comm.settled(self.plan.threads):
            while self.epoch < self.config.epochs and not self._stale and not requested:
                requested = self._finish_epoch(stop, recorder, check_ranks)
        self.exchange.release()
        return exit_code(requested)

    def evaluate(self, split_name: str, parameters: NDArray[np.float32] | None = None) -> Scores | None:
        """Return scores on ``train``, ``validation`` or ``test``; None without such a split.

        Of the present weights, unless other ``parameters`` (P,) are given.
        """
        split = getattr(self.dataset, split_name)
        if split is None:
            return None
        weights = self.parameters if parameters is None else parameters
        return evaluate(self.plan, weights, split if split_name == "train" else [split], self.comm)

    def checkpoint(self) -> Checkpoint:
        """Return the whole state; :meth:`restore` on any number of ranks continues from it to the same bits."""
        return Checkpoint(
            model=self.network.model,
            input_shape=self.network.input_shape,
            class_names=self.dataset.class_names,
            channel_order=self.dataset.channel_order,
            resampling=self.dataset.resampling,
            normalize=self.config.normalize,
            config=asdict(self.config),
            data_fingerprint=self.dataset.fingerprint,
            history=list(self.history),
            epoch=self.epoch,
            step=self.step,
            counts=list(self._counts),
            arrays={
                "parameters": self.parameters.copy(),
                "velocity": self.velocity.copy(),
                **({} if self.class_weights is None else {"class_weights": self.class_weights}),
            },
        )

    def restore(self, saved: Checkpoint) -> None:
        """Take over a saved state; ``CheckpointError`` if it belongs to other data or another network."""
        if saved.data_fingerprint != self.dataset.fingerprint:
            raise CheckpointError(f"the saved run was on other data than {self.dataset.folder}: resume it with --data")
        if saved.step > self.loader.steps:
            raise CheckpointError(f"the saved run is at step {saved.step} of {self.loader.steps}: start a new run")
        if saved.network.layers != self.network.layers:
            raise CheckpointError("the saved run has another network: start a new run")
        self.parameters[...] = saved.parameters
        self.velocity[...] = saved.arrays["velocity"]
        self._counts = list(saved.counts)
        self.epoch, self.step, self.history = saved.epoch, saved.step, list(saved.history)

    @property
    def _number(self) -> int:
        """Steps since the beginning of the run."""
        return self.epoch * self.loader.steps + self.step

    @property
    def _stale(self) -> bool:
        """Whether early stopping ends the run here."""
        return bool(self.config.patience) and epochs_without_gain(self.history) >= self.config.patience

    def fingerprint(self) -> dict[str, str]:
        """Return what must be equal on all ranks that have the same options, by name: data, network, place, weights.

        Causes come before what follows from them: the first difference is the one that is told.
        """
        weights = self.parameters.tobytes() + self.velocity.tobytes()
        return {
            "data": self.dataset.fingerprint,
            "network": str(self.network.layers),
            "place": f"epoch {self.epoch} step {self.step}",
            "class weights": "none" if self.class_weights is None else str(self.class_weights.tolist()),
            "weights": hashlib.sha256(weights).hexdigest(),
        }

    def _finish_epoch(self, stop: StopRequest, recorder: Recorder, check_ranks: int) -> int:
        """Work the epoch's remaining steps and close it; return the summed stop requests, 0 to go on."""
        self.dataset.check_unchanged()
        start = time.monotonic()
        samples_before = self.running.samples
        while self.step < self.loader.steps:
            requested = self._work(stop)
            if check_ranks and (self._number % check_ranks == 0 or self.step == self.loader.steps):
                agreement.check_weights(self.comm, self._state())
            recorder.step_done(self)
            self.profile.lap("records")
            if requested:
                self.dataset.check_unchanged()
                self._record("the records of a stop", recorder.stopped)
                return requested
        self.dataset.check_unchanged()
        worked = self.running.samples - samples_before
        rate = round(worked / (time.monotonic() - start), 1) if worked else None
        recorder.steps_done(self)
        self._close_epoch(start, rate)
        self.profile.lap("evaluation")
        self._record(f"the records of epoch {self.epoch}", recorder.epoch_done)
        self.profile.lap("records")
        return 0

    def _record(self, what: str, record: Callable[[Trainer], None]) -> None:
        """Let rank 0 write; the others wait for it, since many a launcher ends a job with the first rank that exits."""
        self.comm.enter(what)
        record(self)
        self.comm.enter(what, waiting=True)
        self.comm.rest()

    def _work(self, stop: StopRequest) -> int:
        """One step: gradients of all ranks, then the same update on each; return the summed stop requests."""
        epoch = self.epoch + 1
        where = f"epoch {epoch}, step {self.step + 1} of {self.loader.steps}"
        number = self._number
        self._fetch_ahead(number)
        part = self._part(epoch, self.step)
        augment = Augment(self.augmentation, self.config.seed, epoch, part.samples)
        try:
            sums = self.exchange.step(
                self.parameters, part, number=number, request=lambda: stop.value, where=where, augment=augment
            )
            self._update(sums, where)
        except DivergenceError as error:
            batch = self.loader.part(epoch, self.step).describe()
            raise DivergenceError(f"{error}: set a lower --lr, or look at its images: {batch}") from error
        self._counts = add(self._counts, sums.counts)
        self.step += 1
        self.profile.lap("update")
        return sums.requests

    def _update(self, sums: Sums, where: str) -> None:
        """Make the step's update; ``DivergenceError`` if it leads to infinity."""
        rate = self.descent.rate(self.epoch, self.step, self.history)
        self.descent.update(self.parameters, sums.gradient, int(sums.counts[SAMPLES]), rate)
        if not np.isfinite(self.parameters).all():
            raise DivergenceError(f"the weights are not finite after {where}")

    def _state(self) -> dict[str, NDArray[np.generic]]:
        """Return what must be the same on all ranks after every step, by name."""
        momentum = self.network.views(self.velocity)
        return self.network.views(self.parameters) | {f"the momentum of {name}": v for name, v in momentum.items()}

    def _fetch_ahead(self, number: int) -> None:
        """Begin to fetch, in the background, what the next steps after the run's step ``number`` need."""
        last = min(number + self._ahead, self.config.epochs * self.loader.steps - 1)
        for later in range(max(number, self._fetched) + 1, last + 1):
            epoch, step = divmod(later, self.loader.steps)
            self.exchange.prefetch(self._part(epoch + 1, step))
            self._fetched = later

    def _close_epoch(self, start: float, images_per_second: float | None) -> None:
        """Validate, add the epoch's row to the history, and turn to the next epoch."""
        running = self.running
        full = self.config.train_accuracy == "full"
        train = (self.evaluate("train") if full else None) or running
        validation = self.evaluate("validation")
        self.history.append({
            "epoch": self.epoch + 1,
            "lr": self.descent.rate(self.epoch, self.loader.steps - 1, self.history),
            "loss": running.loss,
            "train_top1": train.top1,
            "train_top5": train.top5,
            "val_loss": validation.as_dict()["loss"] if validation else None,
            "val_top1": validation.top1 if validation else None,
            "val_top5": validation.top5 if validation else None,
            "seconds": round(time.monotonic() - start, 3),
            "images_per_second": images_per_second,
        })  # fmt: skip
        self.epoch += 1
        self.step = 0
        self._counts = [0] * COUNTS
