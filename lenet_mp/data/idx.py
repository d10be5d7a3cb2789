"""Data sets in IDX files, as MNIST has them: read and checked.

A folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and, for the test split, the two ``t10k-...``
files; ``.gz`` may follow, a prefix as in ``emnist-letters-train-images-idx3-ubyte`` may precede. An IDX file is two
zero bytes, the type (8: unsigned bytes), the number of axes, their sizes as big-endian 32-bit numbers, and the values.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import files
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

LARGEST = 1 << 32
UNSIGNED_BYTES = 8
IMAGE_AXES, LABEL_AXES = 3, 1
TRAIN, TEST = "train", "t10k"

_NAME = re.compile(r"(?P<prefix>.*-)?(?P<part>train|t10k|test)-(?P<kind>images|labels)[.-]idx[13]-ubyte(?:\.gz)?")


@dataclass(frozen=True)
class Part:
    """One pair of files.

    Attributes
    ----------
    images, labels : (N, H, W) and (N,) uint8
    names, digests : of both files, and of their unpacked contents the SHA-256 (hex); images first
    """

    images: Bytes
    labels: Bytes
    names: tuple[str, str]
    digests: tuple[str, str]


def read_folder(folder: Path) -> dict[str, Part]:
    """Read the files of ``folder``: ``train``, and ``t10k`` where it is there.

    Raises
    ------
    DataError
        If files are missing, damaged, or do not fit together; the text names the file.
    """
    found: dict[tuple[str, str], Path] = {}
    prefixes = set()
    for path in sorted(folder.iterdir(), reverse=True):  # a file that was unpacked comes after its .gz, and wins
        match = _NAME.fullmatch(path.name)
        if match:
            prefixes.add(match["prefix"] or "")
            found[TRAIN if match["part"] == TRAIN else TEST, match["kind"]] = path
    if len(prefixes) > 1:
        several = ", ".join(f"'{prefix}...'" for prefix in sorted(prefixes))
        raise DataError(f"{folder}: holds several data sets ({several}); give each its own folder")
    parts = {}
    for part in (TRAIN, TEST):
        there = [kind for kind in ("images", "labels") if (part, kind) in found]
        if len(there) == 1 or (part == TRAIN and not there):
            missing = f"{part}-{'labels-idx1' if there == ['images'] else 'images-idx3'}-ubyte"
            raise DataError(f"{folder}: no {missing} or {missing}.gz in it; give the folder with the IDX files")
        if there:
            parts[part] = _read_pair(found[part, "images"], found[part, "labels"])
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise DataError(f"{folder}: training and test images have different sizes; these are not one data set's files")
    return parts


def _read_pair(image_path: Path, label_path: Path) -> Part:
    images, image_digest = _read(image_path, IMAGE_AXES)
    labels, label_digest = _read(label_path, LABEL_AXES)
    if len(images) != len(labels):
        raise DataError(f"{image_path} holds {len(images):,} images, {label_path.name} {len(labels):,} labels")
    if not images.size:
        raise DataError(f"{image_path}: holds no image")
    return Part(images, labels, (image_path.name, label_path.name), (image_digest, label_digest))


def _read(path: Path, axes: int) -> tuple[Bytes, str]:
    """Return an IDX file's values and the SHA-256 of its unpacked contents."""
    try:
        data = files.read(path, LARGEST)
        stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)
        header = stream.read(4 + 4 * axes)
        if header[:2] != b"\0\0" or len(header) < 4 + 4 * axes:
            raise DataError(f"{path}: is no IDX file")
        if header[2] != UNSIGNED_BYTES or header[3] != axes:
            raise DataError(f"{path}: has {header[3]} axes of type {header[2]}, not {axes} of unsigned bytes (8)")
        shape = [int(size) for size in np.frombuffer(header, ">u4", axes, 4)]
        count = math.prod(shape)
        if count > LARGEST:
            raise DataError(f"{path}: claims {count:,} bytes, more than the {LARGEST:,} that are read")
        values = stream.read(count + 1)  # no more than it says, whatever it unpacks to
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: is damaged ({error}); fetch it again") from error
    if len(values) != count:
        said = " x ".join(map(str, shape))
        amount = f"{len(values):,} bytes" if len(values) < count else "more"
        raise DataError(f"{path}: says {said}, which is {count:,} bytes, but holds {amount}; fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape), hashlib.sha256(header + values).hexdigest()
