"""Make sure, before the first step, that all ranks run the same job."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import lenet_mp
from lenet_mp.errors import PeerError

if TYPE_CHECKING:
    from lenet_mp.trainer import Trainer


def fingerprint(trainer: Trainer) -> dict[str, str]:
    """Return what must be equal on all ranks, by name: versions, options, data, network, weights."""
    options = asdict(trainer.config)
    options.pop("data")  # a rank may have its own copy of the data, the same by its fingerprint
    weights = trainer.parameters.tobytes() + trainer.optimizer.velocity.tobytes()
    return {
        "version": lenet_mp.__version__,
        "byte order": sys.byteorder,
        "data": trainer.dataset.fingerprint,
        "network": str(trainer.network.layers),
        "place": f"epoch {trainer.epoch} step {trainer.step}",
        "weights": hashlib.sha256(weights).hexdigest(),
        **{f"option {name}": str(value) for name, value in options.items()},
    }


def check(trainer: Trainer) -> None:
    """Compare all ranks with rank 0; ``PeerError`` on every rank names the first rank and field that differ."""
    views = trainer.comm.gather(fingerprint(trainer))
    for rank, view in enumerate(views):
        for name, value in views[0].items():
            if view.get(name) != value:
                raise PeerError(
                    f"rank {rank} runs another job than rank 0: {name} is {view.get(name)}, not {value}; "
                    "give all ranks the same program, options and data"
                )
