"""Make sure that all ranks run the same job, before the first step, and hold the same weights, later on."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL

import lenet_mp
from lenet_mp.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lenet_mp.parallel.comm import Comm


LIBRARIES = {"NumPy": np.__version__, "Pillow": PIL.__version__}
"""Versions that decide numbers: the order of the shards, the pixels of a JPEG."""


def check_options(comm: Comm, options: Mapping[str, object]) -> None:
    """Compare program and options, before the first call between ranks that depends on them.

    Ranks that make other calls than rank 0 would wait for each other for ever. ``PeerError`` as of :func:`check_job`.
    """
    program = {"version": lenet_mp.__version__, "code": _code(), "byte order": sys.byteorder}
    told = {f"option {name}": str(value) for name, value in options.items()}
    check_job(comm, program | {f"version of {name}": number for name, number in LIBRARIES.items()} | told)


def _code() -> str:
    """Return a hash of the package's sources: versions of a program that is worked on have the same number."""
    folder = Path(lenet_mp.__file__).parent
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def check_job(comm: Comm, fingerprint: dict[str, str]) -> None:
    """Compare what must be equal, by name; ``PeerError`` on every rank names the first rank and field that differ."""
    views = comm.gather(fingerprint)
    difference = first_difference(views)
    if difference:
        rank, name = difference
        theirs, ours = (view.get(name, "missing") for view in (views[rank], views[0]))
        raise PeerError(
            f"rank {rank} runs another job than rank 0: {name} is {theirs}, not {ours}; "
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
    """Return the first rank, and the first name there, whose value is not rank 0's, or that only one of them has."""
    for rank, view in enumerate(views):
        for name in views[0] | view:
            if view.get(name) != views[0].get(name):
                return rank, name
    return None
