"""Class folders as the source of samples: ``DIR/CLASS/.../IMAGE``, split by share into training, validation, test.

Or the three are folders themselves, ``DIR/train/CLASS/.../IMAGE`` and ``DIR/val/...``, as many data sets come.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from lenet_mp.data.classes import fault, natural_key
from lenet_mp.data.samples import Collection, Problem, Sample
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm"})
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}

T = TypeVar("T")


def shuffled(items: Sequence[T], seed: int, purpose: str) -> list[T]:
    """Permutation of `items` that depends on seed and purpose alone, in every version of every library."""

    def key(place: int) -> bytes:
        return hashlib.blake2b(f"{seed} {purpose} {place}".encode("utf-8", "surrogateescape")).digest()

    return [items[place] for place in sorted(range(len(items)), key=key)]


def read_folders(root: Path, shares: Sequence[float], seed: int) -> Collection:
    """Collect the images of class folders and split every class by the same shares.

    Where the folders of `root` are called like splits (``train``, ``val``, ``test``, ...), the class folders are
    those inside them, and nothing is split.

    Parameters
    ----------
    root : Path
        Its folders are the classes, in natural order; images may lie deeper inside them.
    shares : (train, validation, test)
        In per cent; they add up to 100.
    seed : int
        Decides which image goes into which split.

    Raises
    ------
    DataError
        If there is no class folder, or one whose name cannot be a class's.
    """
    splits = _split_folders(root)
    finder = _Finder(root)
    for folder in ("", *splits.values()):
        finder.look_beside(root / folder)
    if splits:
        names, found = _of_splits(root, splits, finder)
    else:
        names, found = _of_shares(root, shares, seed, finder)
    notices = [f"its folders {', '.join(splits.values())} are taken for the splits"] if splits else []
    return Collection(found, names, problems=finder.problems, notices=notices + finder.notices())


def _split_folders(root: Path) -> dict[str, str]:
    """The folders of `root` by split, training first, if all of them are called like splits; or else nothing."""
    folders = _folders(root, "a folder of class folders")
    if not folders or not all(folder.lower() in SPLIT_FOLDERS for folder in folders):
        return {}
    found: dict[str, str] = {}
    for folder in folders:
        split = SPLIT_FOLDERS[folder.lower()]
        if split in found:
            raise DataError(f"{root}: {found[split]} and {folder} are both called like the {split} split; rename one")
        found[split] = folder
    if "train" not in found:
        raise DataError(f"{root}: its folders {', '.join(folders)} are called like splits, but none like train")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _of_splits(root: Path, splits: dict[str, str], finder: _Finder) -> tuple[tuple[str, ...], dict[str, list[Sample]]]:
    """Class names over all splits, and the samples of each."""
    inside = {split: _folders(root / folder, "class folders in it") for split, folder in splits.items()}
    for split, folders in inside.items():
        if not folders:
            raise DataError(f"{root / splits[split]}: has no class folders; give it some, or take it away")
    names = _class_names(root, sorted({folder for folders in inside.values() for folder in folders}, key=natural_key))
    labels = {name: label for label, name in enumerate(names)}
    found = {
        split: [
            Sample(path, labels[folder.strip(" ")], path)
            for folder in folders
            for path in finder.images(os.path.join(splits[split], folder))  # noqa: PTH118 - a name, no path yet
        ]
        for split, folders in inside.items()
    }
    return names, found


def _of_shares(
    root: Path, shares: Sequence[float], seed: int, finder: _Finder
) -> tuple[tuple[str, ...], dict[str, list[Sample]]]:
    """Class names, and the samples of each split by the shares."""
    folders = _folders(root, "a folder of class folders")
    if not folders:
        raise DataError(f"{root}: has no class folders; give a folder with one folder a class")
    names = _class_names(root, folders)
    found: dict[str, list[Sample]] = {"train": [], "validation": [], "test": []}
    dealt = 0
    quota = [0, 0]
    for label, folder in enumerate(folders):
        images = finder.images(folder)
        dealt += len(images)
        # Shares of the images so far, less what was dealt: right in the sum even where a class has three images.
        wanted = [round(dealt * shares[place] / 100) - quota[place - 1] for place in (1, 2)]
        room = max(len(images) - 1, 0)  # every class keeps one for training
        validation = min(max(wanted[0], 0), room)
        test = min(max(wanted[1], 0), room - validation)
        quota = [quota[0] + validation, quota[1] + test]
        samples = [Sample(path, label, path) for path in shuffled(images, seed, folder)]
        found["validation"] += samples[:validation]
        found["test"] += samples[validation : validation + test]
        found["train"] += samples[validation + test :]
    for place, split in ((1, "validation"), (2, "test")):
        if shares[place] == 0:
            del found[split]
    return names, found


def _folders(root: Path, advice: str) -> list[str]:
    """Names of the folders in `root` that are not hidden, in natural order."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."]
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror}); give {advice}") from error
    return sorted(names, key=natural_key)


def _class_names(root: Path, folders: Iterable[str]) -> tuple[str, ...]:
    names = tuple(folder.strip(" ") for folder in folders)
    wrong = fault(names)
    if wrong:
        raise DataError(f"{root}: {wrong}")
    return names


class _Finder:
    """Finds images below class folders, and remembers what it passed over and what it could not read."""

    def __init__(self, root: Path) -> None:
        self.problems: list[Problem] = []
        self._root = str(root)
        self._others: Counter[str] = Counter()
        self._again = 0
        self._beside = 0

    def look_beside(self, folder: Path) -> None:
        """Count the images that lie in a folder of class folders, in no class."""
        self._beside += sum(_is_image(entry.name) and entry.is_file() for entry in os.scandir(folder))

    def images(self, folder: str) -> list[str]:
        """Images of one class folder as paths relative to the root, in natural order.

        Links to folders are followed, each folder once: a link may lead back to where it is.
        """
        found = []
        seen = {_identity(self._root)}
        for place, inner, files in os.walk(os.path.join(self._root, folder), onerror=self._unread, followlinks=True):  # noqa: PTH118
            if _identity(place) in seen:
                inner.clear()
                self._again += 1
                continue
            seen.add(_identity(place))
            # Sorted, so that the same one of two ways to a folder is taken on every file system.
            inner[:] = sorted(name for name in inner if name[0] != ".")
            for name in files:
                if _is_image(name):
                    found.append(os.path.relpath(os.path.join(place, name), self._root))  # noqa: PTH118
                elif name[0] != ".":
                    self._others[os.path.splitext(name)[1].lower() or "none"] += 1  # noqa: PTH122
        return sorted(found, key=natural_key)

    def notices(self) -> list[str]:
        """What was passed over."""
        notices = []
        if self._others:
            kinds = ", ".join(sorted(self._others)[:10])
            notices.append(f"{self._others.total():,} files without an image's suffix were passed over ({kinds})")
        if self._beside:
            notices.append(f"{self._beside:,} images that lie beside the class folders were passed over")
        if self._again:
            notices.append(f"{self._again:,} links to folders that were looked into already were passed over")
        return notices

    def _unread(self, error: OSError) -> None:
        place = os.path.relpath(os.fsdecode(error.filename or ""), self._root)
        self.problems.append(Problem(place, f"cannot be looked into ({error.strerror})"))


def _is_image(name: str) -> bool:
    return name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - 63,000 are slow as Paths


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino
