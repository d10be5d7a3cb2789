"""Make sure that all ranks run the same job, before the first step, and hold the same weights, later on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lenet_mp.errors import PeerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet_mp.parallel.comm import Comm


def check_job(comm: Comm, fingerprint: dict[str, str]) -> None:
    """Compare what must be equal, by name; ``PeerError`` on every rank names the first rank and field that differ."""
    views = comm.gather(fingerprint)
    difference = first_difference(views)
    if difference:
        rank, name = difference
        raise PeerError(
            f"rank {rank} runs another job than rank 0: {name} is {views[rank].get(name)}, not {views[0][name]}; "
            "give all ranks the same program, options and data"
        )


def note_instruction_sets(comm: Comm, isa: str) -> None:
    """Say on rank 0 which rank runs on another kind of processor: the result is the same, the pace the slowest's."""
    sets = comm.gather(isa)
    for rank, other in enumerate(sets):
        if other != sets[0]:
            print(f"note: rank {rank} uses {other}, rank 0 {sets[0]}: the same result, at the pace of the slowest")
            return


def check_weights(comm: Comm, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Compare the hash of every array with rank 0's; ``PeerError`` on every rank names rank and array."""
    comm.enter("the comparison of weights", waiting=True)
    views = comm.gather({name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()})
    difference = first_difference(views)
    if difference:
        raise PeerError(
            f"rank {difference[0]} holds other weights than rank 0, in {difference[1]}: a machine computes or "
            "remembers wrongly; resume from the checkpoint on other machines"
        )


def first_difference(views: list[dict[str, str]]) -> tuple[int, str] | None:
    """Return the first rank, and the first name there, whose value is not rank 0's."""
    for rank, view in enumerate(views):
        for name, value in views[0].items():
            if view.get(name) != value:
                return rank, name
    return None
