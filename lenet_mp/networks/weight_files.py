"""Weights in .npz and .safetensors files, from ``lenet-mp export`` or from elsewhere: arrays by name, and facts.

Nothing is allocated on a file's word: its bytes are read once, and must be those that its headers promise. A flipped
bit is found by the checksums of .npz, and by the SHA-256 that ``export`` puts into .safetensors, which has none.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lenet_mp import documents, files
from lenet_mp.errors import CheckpointError
from lenet_mp.results import exporters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

MAX_BYTES = 1 << 32
HARMLESS_BYTES = 64 << 20
LARGEST_EXPANSION = 100
"""Weights hardly shrink: what unpacks to so many times its size, and to much at that, is a bomb."""
FACTS = ("scale", "offset")


class Contents(NamedTuple):
    """Arrays ``C1.weight``, ``C1.bias``, ... of floating-point numbers, and ``scale`` and ``offset`` where stated."""

    arrays: Arrays
    facts: Mapping[str, float]


def read_npz(path: Path) -> Contents:
    """Read an .npz file; ``CheckpointError`` if it is missing, damaged, too large or holds anything but numbers."""
    try:
        data = files.read(path, MAX_BYTES)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > max(HARMLESS_BYTES, LARGEST_EXPANSION * len(data)) or unpacked > MAX_BYTES:
                raise CheckpointError(f"{path} unpacks to {unpacked:,} bytes: is it another file?")
            if len(entries) < len(archive.infolist()):
                raise CheckpointError(f"{path} holds an array twice: use another file")
            # NumPy writes no comments: where one is, its damaged length has swallowed the entries behind it.
            if any(entry.comment for entry in entries.values()):
                raise CheckpointError(f"{path} is damaged (a comment in its directory): export it again")
            # All are read, and so checked: a flipped bit in a name would make another thing of a weight.
            members = {name: archive.read(entry) for name, entry in entries.items()}
            found = {name: _array(data) for name, data in members.items() if _is_weight(name) or name in FACTS}
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _unreadable(path, error) from error
    facts = {name: found.pop(name) for name in FACTS if name in found}
    if any(value.size != 1 for value in facts.values()):
        raise CheckpointError(f"{path}: its scale and offset are no numbers: use another file")
    return _checked(path, found, {name: float(value.item()) for name, value in facts.items()})


def read_safetensors(path: Path) -> Contents:
    """Read a .safetensors file.

    Raises
    ------
    CheckpointError
        If it is missing or damaged, or holds anything but floating-point numbers.
    UsageError
        If the library is not installed.
    """
    library, error_of_library = exporters.require("safetensors.numpy"), exporters.require("safetensors").SafetensorError
    try:
        data = files.read(path, MAX_BYTES)
        found = library.load(data)  # checks the header, and that it accounts for every byte
        header = documents.parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        texts = header.get("__metadata__", {})
        facts = {name: float(texts[name]) for name in FACTS if name in texts}
    except (OSError, ValueError, TypeError, KeyError, RecursionError, error_of_library) as error:
        raise _unreadable(path, error) from error
    stated = texts.get(exporters.DIGEST)
    if stated is not None and stated != exporters.digest(found, texts):
        raise CheckpointError(f"{path} is damaged (its SHA-256 does not fit): export it again")
    return _checked(path, {name: array for name, array in found.items() if _is_weight(name)}, facts)


def _array(data: bytes) -> NDArray[Any]:
    """Return the array in the bytes of a .npy file, of which not one may be missing or left over."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array of format {version}")
    try:
        shape, fortran, dtype = readers[version](stream)
    except Exception as error:
        # NumPy takes the header for Python's own text, and raises what its parts raise (TokenError, SyntaxError, ...).
        raise ValueError(f"no header of an array ({type(error).__name__})") from error
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of {dtype} {shape} in {len(data):,} bytes")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


def _is_weight(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


def _checked(path: Path, arrays: Arrays, facts: Mapping[str, float]) -> Contents:
    """Refuse arrays that hold no numbers, and facts that are not finite."""
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise CheckpointError(f"{path}: {name} holds {array.dtype}, not floating-point numbers: use another file")
    if not all(map(math.isfinite, facts.values())):
        raise CheckpointError(f"{path}: its scale and offset are not finite: use another file")
    return Contents(arrays, facts)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(f"cannot read weights from {path}: {reason}")
