"""Weights to start from: taken over from another training, layer by layer, where they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.errors import CheckpointError
from lenet_mp.networks import weight_files
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.results import exporters
from lenet_mp.training import checkpoint, run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.networks.network import Network
    from lenet_mp.parallel.comm import Comm

    Arrays = Mapping[str, NDArray[Any]]
    Flat = NDArray[np.float32]

NEAR = 1e-6
READERS = {".npz": weight_files.read_npz, ".safetensors": weight_files.read_safetensors}


@dataclass(frozen=True)
class Source:
    """Weights and biases from elsewhere, and how images went into them.

    Attributes
    ----------
    name : str
        Of the file, for messages.
    arrays : mapping of str to array
        ``C1.weight`` (KH, KW, C_in, C_out), ``C1.bias`` (C_out,), ...
    scale, offset : float or None
        A pixel entered as ``pixel * scale + offset``; None where the file does not say.
    """

    name: str
    arrays: Arrays
    scale: float | None = None
    offset: float | None = None


@dataclass(frozen=True)
class WarmStart:
    """The weights to start with, and where they come from.

    Attributes
    ----------
    parameters : (P,) float32
    taken : tuple of str
        Layers whose weights were taken over.
    drawn : tuple of str
        Layers that start anew, each with the reason.
    """

    parameters: Flat
    taken: tuple[str, ...]
    drawn: tuple[str, ...]

    def text(self, name: str) -> str:
        """Say in one line what came from the file ``name`` and what did not."""
        anew = f"; drawn anew: {', '.join(self.drawn)}" if self.drawn else ""
        return f"weights of {', '.join(self.taken)} from {name}{anew}"


def take_over(network: Network, initial: Flat, source: Source) -> WarmStart:
    """Lay the weights of ``source`` over ``initial`` (P,), which stays as it is.

    A layer is taken over if the source has its weight and its bias in the shapes of the network; a bias without its
    weight would mean nothing. So a network goes on to another number of classes: all but its last layer are kept.

    Raises
    ------
    CheckpointError
        If no layer fits, or values are not finite.
    """
    parameters = initial.copy()
    views = network.views(parameters)
    taken, drawn = [], []
    for layer in network.layers:
        if not layer.parameter_count:
            continue
        reason = _place(layer.name, views, source)
        if reason:
            drawn.append(f"{layer.name} ({reason})")
        else:
            taken.append(layer.name)
    if not taken:
        raise CheckpointError(
            f"{source.name} fits no layer of model {network.model.name}: {', '.join(drawn)}; choose its own model"
        )
    return WarmStart(parameters, tuple(taken), tuple(drawn))


def begin(world: Comm, network: Network, parameters: Flat, path: Path, normalize: str) -> list[str]:
    """Lay the weights of the file ``path`` over ``parameters`` (P,), in place, on every rank; rank 0 reads.

    Returns
    -------
    list of str
        What to tell: where the weights come from, and a note where the pixel range ``normalize`` is not theirs.
    """
    start = lines = None
    if world.rank == 0:
        source = read(path)
        start = take_over(network, parameters, source)
        lines = [start.text(source.name)]
        if other_range(source, normalize):
            lines.append(f"note: {source.name} was trained on pixels in another range than --normalize {normalize}")
    parameters[...] = world.broadcast(start.parameters if start else None)
    told: list[str] = world.broadcast(lines)
    return told


def other_range(source: Source, normalize: str) -> bool:
    """Whether pixels went into the source's network in another range than ``normalize`` names."""
    if source.scale is None or source.offset is None:
        return False
    scale, offset = scale_and_offset(normalize)
    return abs(source.scale - scale) > NEAR or abs(source.offset - offset) > NEAR


def read(path: Path) -> Source:
    """Read a run folder (its best weights), a .ckpt file, or an .npz or .safetensors file from ``lenet-mp export``.

    Raises
    ------
    CheckpointError
        If it is missing, damaged or something else.
    UsageError
        If the library for .safetensors is not installed.
    """
    if path.suffix in READERS:
        arrays, facts = READERS[path.suffix](path)
        return Source(str(path), arrays, facts.get("scale"), facts.get("offset"))
    saved = checkpoint.load(run_folder.find_checkpoint(path))
    scale, offset = scale_and_offset(saved.normalize)
    return Source(str(path), exporters.arrays(saved), scale, offset)


def _place(layer: str, views: Mapping[str, NDArray[Any]], source: Source) -> str:
    """Copy a layer's arrays into ``views``, or return why not."""
    names = [f"{layer}.weight", f"{layer}.bias"]
    missing = [name for name in names if name not in source.arrays]
    if missing:
        return "not in the file" if len(missing) == len(names) else f"{missing[0]} is not in the file"
    for name in names:
        if source.arrays[name].shape != views[name].shape:
            return f"{name} is {_times(source.arrays[name])} there, {_times(views[name])} here"
    for name in names:
        views[name][...] = source.arrays[name]
        if not np.isfinite(views[name]).all():
            raise CheckpointError(f"{source.name}: {name} holds values that are not finite: use another file")
    return ""


def _times(array: NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape))
