"""A trained network as a file for other programs.

Every writer takes a checkpoint and a path, writes and returns the paths of its files. Images go in as they are stored,
uint8 and in the checkpoint's channel order; the normalisation is inside or stated. What comes out are logits.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp import files
from lenet_mp.errors import UsageError
from lenet_mp.networks import model_files
from lenet_mp.networks.normalization import scale_and_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import ModuleType

    from numpy.typing import NDArray

    from lenet_mp.training.checkpoint import Checkpoint


def write_npz(checkpoint: Checkpoint, path: Path) -> list[Path]:
    """Write every array by layer name, and what is needed to use them, for ``numpy.load`` without pickle.

    Beside ``C1.weight`` (KH, KW, C_in, C_out) float32, ``C1.bias`` (C_out,) and so on: ``class_names`` (K,) text,
    ``input_shape`` (3,) H, W, C, ``channel_order``, ``scale`` and ``offset`` (a pixel enters as
    ``pixel * scale + offset``), and ``model``, the table of layers as JSON.
    """
    scale, offset = scale_and_offset(checkpoint.normalize)
    facts = {
        "class_names": np.array(checkpoint.class_names),
        "input_shape": np.array(checkpoint.input_shape, np.int64),
        "channel_order": np.array(checkpoint.channel_order),
        "scale": np.float32(scale),
        "offset": np.float32(offset),
        "model": np.array(model_text(checkpoint)),
    }
    contents: dict[str, Any] = arrays(checkpoint) | facts
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **contents)
    files.write_atomically(path, buffer.getbuffer())
    return [path]


def write_safetensors(checkpoint: Checkpoint, path: Path) -> list[Path]:
    """Write the arrays by layer name; the facts of :func:`write_npz` are texts in the file's metadata.

    The format has no checksum: the text ``sha256`` is one of everything else, which ``--init-from`` compares.
    """
    library = require("safetensors.numpy")
    contents = {name: np.ascontiguousarray(array) for name, array in arrays(checkpoint).items()}
    facts = texts(checkpoint)
    facts |= {DIGEST: digest(contents, facts)}
    files.write_atomically(path, library.save(contents, metadata=facts))
    return [path]


DIGEST = "sha256"
"""Name of the text that holds the digest."""


def digest(contents: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) over names, types, shapes and bytes of all arrays, and all texts but itself."""
    found = hashlib.sha256()
    for name, array in sorted(contents.items()):
        found.update(repr((name, array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    found.update(repr(sorted((name, text) for name, text in facts.items() if name != DIGEST)).encode())
    return found.hexdigest()


def arrays(checkpoint: Checkpoint) -> dict[str, NDArray[np.generic]]:
    """Weights and biases by name, ``C1.weight``, ``C1.bias``, ..., in the network's order."""
    return checkpoint.network.views(checkpoint.parameters)


def texts(checkpoint: Checkpoint) -> dict[str, str]:
    """Everything beside the weights that is needed to run the network, as texts; lists are JSON."""
    scale, offset = scale_and_offset(checkpoint.normalize)
    return {
        "class_names": json.dumps(checkpoint.class_names),
        "input_shape": json.dumps(checkpoint.input_shape),
        "channel_order": checkpoint.channel_order,
        "scale": repr(scale),
        "offset": repr(offset),
        "model": model_text(checkpoint),
    }


def model_text(checkpoint: Checkpoint) -> str:
    """Return the model's table as JSON."""
    return json.dumps(model_files.to_document(checkpoint.model))


def require(module: str) -> ModuleType:
    """Import a library that only some formats need; ``UsageError`` says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UsageError(
            f"this format needs {package}, which is not installed: pip install 'lenet-mp[export]'"
        ) from error


def _write_onnx(checkpoint: Checkpoint, path: Path) -> list[Path]:
    from lenet_mp.results import export_onnx  # noqa: PLC0415 - needs a library that may not be there

    return export_onnx.write(checkpoint, path)


def _write_c(checkpoint: Checkpoint, path: Path) -> list[Path]:
    from lenet_mp.results import export_c  # noqa: PLC0415 - loads the C core, for the answers that the self-test expects

    return export_c.write(checkpoint, path)


EXPORTERS: dict[str, Callable[[Checkpoint, Path], list[Path]]] = {
    "npz": write_npz,
    "safetensors": write_safetensors,
    "onnx": _write_onnx,
    "c": _write_c,
}
"""Writers by the name of their format."""
