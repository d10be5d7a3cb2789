"""From IDX files to a data folder: some training images are held out for validation, the rest is written as it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp.data import classes, idx, journal, manifest, passport, sample
from lenet_mp.data.array_writer import write_arrays
from lenet_mp.data.folders import shuffled
from lenet_mp.data.jobs import check_space, claim, is_complete
from lenet_mp.data.samples import Sample
from lenet_mp.errors import DataError, UsageError
from lenet_mp.files import make_folder, write_atomically
from lenet_mp.locks import folder_lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.data.idx import Part
    from lenet_mp.data.manifest import Manifest

HOLD_OUT = 5000
"""Training images that become the validation split."""
KNOWN = {"bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9": sample.CLASS_NAMES}
"""Names of classes by the SHA-256 of the training labels' file, unpacked; IDX files hold numbers only."""


@dataclass(frozen=True)
class Share:
    """The images of a split: those of ``part`` at the places ``rows``."""

    split: str
    part: Part
    rows: NDArray[np.int64]

    @property
    def samples(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images (n, H, W, 1) and labels (n,)."""
        return self.part.images[self.rows, ..., np.newaxis], self.part.labels[self.rows]


def prepare(
    folder: Path,
    out: Path,
    *,
    hold_out: int,
    size: tuple[int, int] | None,
    resampling: str,
    shard_size: int,
    seed: int,
    class_names: Sequence[str] = (),
    overwrite: bool = False,
) -> tuple[Manifest, bool]:
    """Write the data set of ``folder`` into ``out``; return its manifest, and whether there was anything to do.

    Parameters
    ----------
    folder, out : Path
    hold_out : int
        Training images, drawn by ``seed``, that become the validation split.
    size : (H, W) or None
        To which images are resized; as they are for None.
    resampling, shard_size, seed
        As for :func:`write_arrays`.
    class_names : sequence of str
        Numbers if left out, unless the data set is a known one.

    Raises
    ------
    DataError
        If the files cannot be used.
    UsageError
        If ``hold_out`` leaves no training image, or ``out`` holds something else.
    OutputError
        If it cannot be written.
    """
    parts = idx.read_folder(folder)
    shares = _shares(parts, hold_out, seed)
    names = _class_names(parts, class_names, folder)
    options: dict[str, Any] = {
        "idx": {name: digest for part in parts.values() for name, digest in zip(part.names, part.digests, strict=True)},
        "hold_out": hold_out,
        "size": size and list(size),
        "shard_size": shard_size,
        "seed": seed,
        "resampling": resampling,
    }
    options["job"] = hashlib.sha256(json.dumps([manifest.VERSION, options, names]).encode()).hexdigest()
    with folder_lock(make_folder(out)):
        there = manifest.load(out) if is_complete(out, options["job"], overwrite=overwrite) else None
        if there is not None:
            return there, False
        images = sum(len(share.rows) for share in shares)
        height, width = size or parts[idx.TRAIN].images.shape[1:]
        check_space(out, images, (height, width, 1), 2 + images // shard_size)
        claim(out, options["job"])
        made = write_arrays(
            out,
            {share.split: share.samples for share in shares},
            names,
            options,
            size=size,
            resampling=resampling,
            shard_size=shard_size,
            seed=seed,
            extra={"duplicates": _duplicates(shares)},
        )
        lines = (f"{label} {name}\n" for label, name in enumerate(names))
        write_atomically(out / classes.NAME, "".join(lines).encode("utf-8", "surrogateescape"))
        journal.remove(out)
    return made, True


def _shares(parts: Mapping[str, Part], hold_out: int, seed: int) -> list[Share]:
    train = parts[idx.TRAIN]
    if not 0 <= hold_out < len(train.labels):
        raise UsageError(f"--hold-out {hold_out}: there are {len(train.labels):,} training images; give 0 or fewer")
    order = np.array(shuffled(range(len(train.labels)), seed, "validation"))
    shares = [Share("train", train, np.sort(order[hold_out:]))]
    if hold_out:
        shares.append(Share("validation", train, np.sort(order[:hold_out])))
    if idx.TEST in parts:
        shares.append(Share("test", parts[idx.TEST], np.arange(len(parts[idx.TEST].labels))))
    return shares


def _class_names(parts: Mapping[str, Part], given: Sequence[str], folder: Path) -> tuple[str, ...]:
    needed = 1 + max(int(part.labels.max()) for part in parts.values())
    names = tuple(given) or KNOWN.get(parts[idx.TRAIN].digests[1]) or tuple(map(str, range(needed)))
    if len(names) < needed:
        raise DataError(f"{folder}: has labels up to {needed - 1}, but only {len(names)} classes have a name")
    return names


def _duplicates(shares: Sequence[Share]) -> dict[str, Any]:
    used = [
        (share.split, Sample(f"image {row}", int(label), share.part.names[0]), hashlib.sha256(image).hexdigest())
        for share in shares
        for row, image, label in zip(share.rows.tolist(), *share.samples, strict=True)
    ]
    return passport.duplicates(used)
