"""A trained network as a file for other programs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import files, model_files
from lenet_mp.normalization import scale_and_offset

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from lenet_mp.checkpoint import Checkpoint


def write_npz(checkpoint: Checkpoint, path: Path) -> None:
    """Write every array by layer name, and what is needed to use them, for ``numpy.load`` without pickle.

    Beside ``C1.weight`` (KH, KW, C_in, C_out) float32, ``C1.bias`` (C_out,) and so on: ``class_names`` (K,) text,
    ``input_shape`` (3,) H, W, C, ``channel_order``, ``scale`` and ``offset`` (a pixel enters as
    ``pixel * scale + offset``), and ``model``, the table of layers as JSON.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays(checkpoint), **description(checkpoint))
    files.write_atomically(path, buffer.getbuffer())


def arrays(checkpoint: Checkpoint) -> dict[str, NDArray[np.generic]]:
    """Weights and biases by name, ``C1.weight``, ``C1.bias``, ..., in the network's order."""
    return checkpoint.network.views(checkpoint.parameters)


def description(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything beside the weights that is needed to run the network, as small arrays."""
    scale, offset = scale_and_offset(checkpoint.normalize)
    return {
        "class_names": np.array(checkpoint.class_names),
        "input_shape": np.array(checkpoint.input_shape, np.int64),
        "channel_order": np.array(checkpoint.channel_order),
        "scale": np.float32(scale),
        "offset": np.float32(offset),
        "model": np.array(json.dumps(model_files.to_document(checkpoint.model))),
    }


EXPORTERS = {"npz": write_npz}
"""Formats by name; a writer takes the checkpoint and the path."""
