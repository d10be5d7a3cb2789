"""From options to a trainer: model, data set and network found and put together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp.data.shards import open_dataset
from lenet_mp.networks import warm_start
from lenet_mp.networks.model_files import find_model
from lenet_mp.networks.network import compile_network
from lenet_mp.parallel import threads
from lenet_mp.training import class_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet_mp.data.shards import Dataset
    from lenet_mp.networks.models import Model
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.training.checkpoint import Checkpoint
    from lenet_mp.training.config import Config
    from lenet_mp.training.trainer import Trainer


def make_trainer(
    world: Comm, settings: Config, *, saved: Checkpoint | None = None, dataset: Dataset | None = None
) -> Trainer:
    """Return the trainer that ``settings`` describe; every rank calls this.

    Parameters
    ----------
    world : Comm
    settings : Config
        Without ``data`` the sample that comes with the package is used.
    saved : Checkpoint, optional
        A state to take over.
    dataset : Dataset, optional
        Used instead of the one that ``settings`` name.
    """
    thread_count = threads.choose(world)
    # Only now: OpenMP reads its environment when the engine is loaded.
    from lenet_mp.training.trainer import Trainer  # noqa: PLC0415

    model = saved.model if saved else find_model(settings.model)
    if dataset is None:
        if not settings.data:
            world.enter("the preparation of the sample data set", waiting=world.rank > 0)
            sample_folder = _prepare_sample(model) if world.rank == 0 else None
            world.rest()  # the others wait asleep
            sample_folder = world.broadcast(sample_folder)
            settings = replace(settings, data=str(sample_folder))
        world.enter("the opening of the data set")
        dataset = open_dataset(settings.data)
    network = compile_network(model, dataset.image_shape, dataset.classes)
    weights = _class_weights(world, settings, dataset, saved)
    trainer = Trainer(settings, network, dataset, world, thread_count, class_weights=weights)
    if saved:
        trainer.restore(saved)
    elif settings.init_from:
        source = Path(settings.init_from)
        trainer.notes += warm_start.begin(world, network, trainer.parameters, source, settings.normalize)
    return trainer


def _class_weights(
    world: Comm, settings: Config, dataset: Dataset, saved: Checkpoint | None
) -> NDArray[np.float32] | None:
    """Return the weight of every class, on every rank; rank 0 reads the file, where there is one.

    A run that goes on keeps its weights, whatever has become of the file.
    """
    found = None
    if settings.class_weights and world.rank == 0:
        kept = saved.arrays.get("class_weights") if saved else None
        found = class_weights.resolve(settings.class_weights, dataset) if kept is None else kept
    world.enter("the class weights", waiting=world.rank > 0)
    weights: NDArray[np.float32] | None = world.broadcast(found)
    return weights


def _prepare_sample(model: Model) -> Path:
    from lenet_mp.data import sample  # noqa: PLC0415 - rank 0 alone, and only without --data

    return sample.prepare(size=model.input_shape[0])
