"""What must hold for a collection of samples before anything is decoded: files exist, classes make sense.

Everything is noted, nothing raised, so that one pass shows all that is wrong.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from lenet_mp.data import classes
from lenet_mp.data.images import LARGEST_FILE
from lenet_mp.data.samples import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from lenet_mp.data.samples import Collection, Sample

def resolve(collection: Collection, root: Path, *, allow_outside: bool = False) -> None:
    """Find every sample's file under `root`; samples without a usable one become problems.

    A path that leaves `root` (absolute, by ``..`` or through a symbolic link) is refused unless `allow_outside`:
    a list from somebody else must not pull in other files of this machine.
    """
    base = os.path.realpath(root)
    inside = base.rstrip("/") + "/"
    for split, samples in collection.samples.items():
        found = []
        for sample in samples:
            try:
                file, status = _locate(sample.path, base)
                reason = _unfit(status)
            except (OSError, ValueError) as error:
                file, status, reason = "", None, _reason(error, sample.path)
            if not reason and not allow_outside and not file.startswith(inside):
                reason = "lies outside of the root folder, by its path or through a link; --allow-outside accepts that"
            if reason or status is None:
                collection.problems.append(sample.problem(reason))
            else:
                found.append(replace(sample, file=file, stamp=(status.st_size, status.st_mtime_ns)))
        collection.samples[split] = found


def _locate(path: str, base: str) -> tuple[str, os.stat_result]:
    """Real path of a file below `base`, and its status; what the system raises if there is none."""
    folder, name = os.path.split(os.path.join(base, path))  # noqa: PTH118 - 63,000 Path objects are slow
    if name in {"", ".", ".."}:
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    file = f"{_real_folder(folder).rstrip('/')}/{name}"
    status = os.lstat(file)
    if stat.S_ISLNK(status.st_mode):
        file = os.path.realpath(file)
        status = os.stat(file)  # noqa: PTH116
    return file, status


def _unfit(status: os.stat_result) -> str:
    """Why a file of that status cannot be an image; empty if it can."""
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not an image"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file (a pipe, socket or device)"
    if status.st_size == 0:
        return "is empty"
    if status.st_size > LARGEST_FILE:
        return f"has {status.st_size:,} bytes, more than the {LARGEST_FILE:,} that are read"
    return ""


def _reason(error: OSError | ValueError, path: str) -> str:
    if isinstance(error, ValueError):
        return "is no path"
    if error.errno == errno.ENOENT and path.rpartition(" ")[2].isdigit():
        return "no such file (does the line have a column too many?)"
    reasons = {
        errno.ENOENT: "no such file",
        errno.ENOTDIR: "no such file",
        errno.EISDIR: "is a folder, not an image",
        errno.ELOOP: "is a symbolic link to itself",
        errno.ENAMETOOLONG: "is too long a path",
    }
    return reasons.get(error.errno or 0, f"cannot be read ({error.strerror})")


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def check_conflicts(collection: Collection) -> None:
    """Leave out images that are listed with two classes; count those that are listed twice or in two splits."""
    listed: dict[str, list[tuple[str, Sample]]] = {}
    for split, samples in collection.samples.items():
        for sample in samples:
            listed.setdefault(sample.file, []).append((split, sample))
    unclear = set()
    repeats: Counter[str] = Counter()
    for file, places in listed.items():
        if len({sample.label for _, sample in places}) > 1:
            unclear.add(file)
            said = ", ".join(f"{collection.class_names[sample.label]!r} at {sample.where}" for _, sample in places)
            reason = f"is listed with different classes: {said}"
            collection.problems += [sample.problem(reason) for _, sample in places]
        elif len(places) > 1:
            found = {split for split, _ in places}
            repeats[" and ".join(split for split in collection.samples if split in found)] += 1
    for split, samples in collection.samples.items():
        collection.samples[split] = [sample for sample in samples if sample.file not in unclear]
    for splits, count in repeats.items():
        how = "are in both" if " and " in splits else "are listed more than once"
        collection.notices.append(f"{splits}: {count} images {how}")


def faults(collection: Collection) -> list[Problem]:
    """What no skipping can cure: empty splits, a single class, classes without any training image.

    Where the user named the classes, one without a training image is a notice only.
    """
    advice = dict.fromkeys(collection.samples, "give it images, or leave it out (its list, or its share of --split)")
    advice["train"] = "are the paths and the folder that they begin in right?"
    found = [
        Problem(split, f"no usable image at all; {advice[split]}")
        for split, images in collection.samples.items()
        if not images
    ]
    counts = Counter(sample.label for sample in collection.samples["train"])
    if len(counts) == 1:
        found.append(Problem("train", "all images are of one class; there is nothing to learn"))
    gaps = [name for label, name in enumerate(collection.class_names) if counts[label] == 0]
    if gaps and counts:
        shown = ", ".join(repr(name) for name in gaps[:5]) + (", ..." if len(gaps) > 5 else "")  # noqa: PLR2004
        text = f"{len(gaps)} of {len(collection.class_names)} classes have no training image: {shown}"
        if collection.named:
            collection.notices.append(f"train: {text}")
        else:
            found.append(Problem("train", f"{text}; renumber them, or name all classes in {classes.NAME}"))
    return found
