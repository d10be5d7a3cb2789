"""A small real data set that comes with the package: 6,300 images of Fashion-MNIST (Zalando, MIT licence).

:func:`prepare` enlarges them to the size that the models take and keeps the result in a cache folder, so that a first
training run needs nothing but the package.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.data import manifest, shards
from lenet_mp.data.array_writer import SEED, SHARD_SIZE, write_arrays
from lenet_mp.data.images import DEFAULT_FILTER
from lenet_mp.errors import DataError
from lenet_mp.files import make_folder
from lenet_mp.locks import folder_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

    Arrays = Mapping[str, tuple[np.ndarray, np.ndarray]]  # split -> images (n, 28, 28), labels (n,), both uint8

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILE = "fashion-mnist.npz"


def cache_root() -> Path:
    """Folder for this package's caches: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification tells to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "lenet_mp"


def prepare(cache_folder: Path | None = None, size: int = 250) -> Path:
    """Make sure that the sample is there at `size` x `size` x 1, and return its data folder.

    A complete one is used again; of several processes that want it at once, one makes it and the others wait.
    With 250 pixels it takes 0.39 GB.

    Parameters
    ----------
    cache_folder : Path, optional
        Where the data folder ``fashion-mnist-SIZE`` goes; default :func:`cache_root`.
    size : int
        Height and width in pixels.

    Raises
    ------
    OutputError
        If the cache folder cannot be written.
    """
    folder = make_folder((cache_folder or cache_root()) / f"fashion-mnist-{size}")
    data = resources.files(__name__).joinpath(_FILE).read_bytes()
    options = {
        "sample": "Fashion-MNIST",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": [size, size],
        "shard_size": SHARD_SIZE,
        "seed": SEED,
        "resampling": DEFAULT_FILTER,
    }
    arrays = load()
    with folder_lock(folder, wait=True):
        if _is_complete(folder, options):
            _tell("using the prepared", folder, size, arrays)
        else:
            _tell("preparing the built-in", folder, size, arrays)
            (folder / manifest.NAME).unlink(missing_ok=True)
            samples = {split: (images[..., np.newaxis], labels) for split, (images, labels) in arrays.items()}
            write_arrays(folder, samples, CLASS_NAMES, options, size=(size, size))
    return folder


def load() -> Arrays:
    """Images (n, 28, 28) uint8 and labels (n,) uint8 of the splits "train", "validation" and "test"."""
    with resources.files(__name__).joinpath(_FILE).open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        return {split: (archive[f"{split}_images"], archive[f"{split}_labels"]) for split in manifest.SPLITS}


def _is_complete(folder: Path, options: dict[str, Any]) -> bool:
    try:
        found = shards.open_dataset(folder).manifest
    except DataError:
        return False
    return found is not None and found.options == options


def _tell(what: str, folder: Path, size: int, arrays: Arrays) -> None:
    images = sum(len(labels) for _, labels in arrays.values())
    contents = f"{images:,} images of {size} x {size} x 1, {images * size**2 / 1e6:.0f} MB"
    print(f"lenet-mp: {what} Fashion-MNIST sample ({contents}) in {folder}", file=sys.stderr, flush=True)
