"""A run's whole state in one file: fixed header, JSON, raw little-endian arrays, SHA-256.

::

    8 bytes   b"LENETMP1"
    8 bytes   length of the JSON text, unsigned little-endian
    JSON      ASCII: format version, model table, classes, options, history, place in the epoch, list of arrays
    arrays    raw, one after the other, as the JSON lists them
    32 bytes  SHA-256 of everything before it

Nothing in it is executed on reading, and nothing is believed before the SHA-256 has been compared.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp import files
from lenet_mp.errors import CheckpointError, DivergenceError, UsageError
from lenet_mp.networks import model_files
from lenet_mp.networks.network import Network, compile_network
from lenet_mp.training import checkpoint_document

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.networks.geometry import Shape
    from lenet_mp.networks.models import Model

MAGIC = b"LENETMP1"
HEADER = struct.Struct("<8sQ")
DIGEST = 32
MAX_BYTES = 1 << 32


@dataclass(kw_only=True)
class Checkpoint:
    """State of a run after some step.

    Attributes
    ----------
    model, input_shape, class_names
        What the network is compiled from: its table, (H, W, C) of an image, one name a class.
    channel_order : str
        ``RGB``, ``BGR`` or ``L``: order of the channels in the training images.
    resampling : str
        Filter by which the training images were resized.
    normalize : str
        Name of the pixel range.
    config : dict
        Options of the run.
    data_fingerprint : str
        Identity of the data set.
    history : list of dict
        One row of figures for every finished epoch.
    epoch, step : int
        Epochs finished, and steps done in the one after.
    counts : list of int
        Summed counts of the unfinished epoch.
    arrays : dict
        ``parameters`` and ``velocity`` (P,) float32; ``class_weights`` (classes,) float32 where the run has any.
    """

    model: Model
    input_shape: Shape
    class_names: tuple[str, ...]
    channel_order: str
    resampling: str
    normalize: str
    config: dict[str, Any]
    data_fingerprint: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    counts: list[int] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """The compiled network."""
        return compile_network(self.model, self.input_shape, len(self.class_names))

    @property
    def parameters(self) -> NDArray[np.float32]:
        """The flat parameter vector (P,)."""
        return self.arrays["parameters"]


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Return the file's content; ``DivergenceError`` where a value is not finite, as no reader would take it."""
    for name, array in checkpoint.arrays.items():
        if not np.isfinite(array).all():
            raise DivergenceError(
                f"not all {name} are finite after {checkpoint.epoch} epochs and {checkpoint.step} steps: nothing "
                "is saved; resume from the last checkpoint"
            )
    arrays = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for name, a in checkpoint.arrays.items()}
    document = {
        "version": checkpoint_document.VERSION,
        "model": model_files.to_document(checkpoint.model),
        "input_shape": checkpoint.input_shape,
        "class_names": checkpoint.class_names,
        "channel_order": checkpoint.channel_order,
        "resampling": checkpoint.resampling,
        "normalize": checkpoint.normalize,
        "config": checkpoint.config,
        "data_fingerprint": checkpoint.data_fingerprint,
        "history": checkpoint.history,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "counts": checkpoint.counts,
        "arrays": [{"name": n, "dtype": a.dtype.str, "shape": a.shape} for n, a in arrays.items()],
    }
    text = json.dumps(document, allow_nan=False).encode()
    body = b"".join([HEADER.pack(MAGIC, len(text)), text, *(a.tobytes() for a in arrays.values())])
    return body + hashlib.sha256(body).digest()


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``path`` atomically; ``OutputError`` or ``DivergenceError`` leave the previous file untouched."""
    files.write_atomically(path, to_bytes(checkpoint))


def load(path: Path) -> Checkpoint:
    """Read and check a checkpoint file.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of another version, or does not describe a network that its arrays fit.
    """
    try:
        data = files.read(path, MAX_BYTES)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    return from_bytes(data, str(path))


def from_bytes(data: bytes, source: str) -> Checkpoint:
    """Check and decode a file's content; ``CheckpointError`` names ``source`` and what is wrong."""
    if len(data) < HEADER.size + DIGEST or data[: len(MAGIC)] != MAGIC:
        raise CheckpointError(f"{source} is not a checkpoint of this program")
    body, digest = data[:-DIGEST], data[-DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{source} is damaged (its SHA-256 does not fit): use another checkpoint of the run")
    try:
        return _decode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # UsageError, of a model table that cannot be, is a ValueError too.
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{source} cannot be used: {reason}") from error


def _decode(body: bytes) -> Checkpoint:
    length = HEADER.unpack_from(body)[1]
    start = HEADER.size + length
    document = checkpoint_document.read(body[HEADER.size : start])
    arrays = {}
    for entry in document.pop("arrays"):
        count = entry["shape"][0]
        array = np.frombuffer(body, entry["dtype"], count, start)
        arrays[entry["name"]] = array.astype(array.dtype.newbyteorder("="))
        start += array.nbytes
    if start != len(body):
        raise UsageError(f"its arrays end at byte {start} of {len(body)}")
    del document["version"]
    document["model"] = model_files.from_document(document["model"], "model table")
    for name in ("input_shape", "class_names"):
        document[name] = tuple(document[name])
    checkpoint = Checkpoint(**document, arrays=arrays)
    needed = (checkpoint.network.parameter_count,)
    if any(arrays[name].shape != needed for name in ("parameters", "velocity")):
        raise UsageError(f"its arrays do not fit its model, which has {needed[0]} parameters")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UsageError("not all of its weights are finite")
    weights = arrays.get("class_weights")
    if weights is not None and (weights.shape != (len(checkpoint.class_names),) or weights.min() < 0):
        raise UsageError("its class weights cannot be")
    return checkpoint
