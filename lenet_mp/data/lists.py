"""Lists of samples: text files with ``PATH CLASS`` on every line, as the original program takes them.

A line is split once, from the right, at a blank, so that paths may contain blanks. The class is a number or a
name. Empty lines and lines that begin with ``#`` say nothing; Windows line ends and a byte-order mark are accepted.
File names that are not UTF-8 survive (as surrogates). Problems are collected, never raised one by one: a user with
60,000 lines wants to see all of them at once.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lenet_mp import files
from lenet_mp.data import classes
from lenet_mp.data.samples import Collection, Problem, Sample
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that says something; `name` is the list's file name."""

    split: str
    name: str
    number: int
    text: str

    @property
    def where(self) -> str:
        return f"{self.name}:{self.number}"


class _Blanked(NamedTuple):
    """Class names with blanks, and the most blanks that any of them has."""

    names: frozenset[str]
    most: int


def read_lists(paths: Mapping[str, Path], *, classes_file: Path | None = None) -> Collection:
    """Read one list a split and agree on the classes of all of them.

    Parameters
    ----------
    paths : {"train": Path, "validation": Path, "test": Path}
        Validation and test may be left out.
    classes_file : Path, optional
        Names of the classes; default ``classes.txt`` beside the training list, if there is one. Without any, numbers
        are kept as they are, and names are numbered in their natural order over all lists.

    Raises
    ------
    DataError
        If a list or ``classes.txt`` cannot be read at all, or no line is usable.
    """
    beside = paths["train"].parent / classes.NAME
    if classes_file is None and beside.is_file():
        classes_file = beside
    known = classes.read_classes(classes_file) if classes_file else ()
    collection = Collection({split: [] for split in paths}, known, named=bool(known))
    names = frozenset(name for name in known if " " in name)
    blanked = _Blanked(names, max((name.count(" ") for name in names), default=0))
    lines = [line for split, path in paths.items() for line in _lines(path, split, collection)]
    pairs = [(line, *pair) for line in lines if (pair := _split(line, blanked, collection))]
    labels = _labels(pairs, collection)
    for line, path, word in pairs:
        label = labels.get(word)
        if label is not None:
            collection.samples[line.split].append(Sample(path, label, line.where))
    return collection


def _lines(path: Path, split: str, collection: Collection) -> list[_Line]:
    try:
        data = files.read(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a list of 'PATH CLASS' lines") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16; save the list as UTF-8")
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        collection.notices.append(f"{path.name}: byte-order mark ignored")
    for line_end, whose in ((b"\r\n", "Windows"), (b"\r", "old Macintosh")):
        if line_end in data and (whose == "Windows" or b"\n" not in data):
            data = data.replace(line_end, b"\n")
            collection.notices.append(f"{path.name}: {whose} line ends accepted")
    texts = data.decode("utf-8", errors="surrogateescape").split("\n")
    numbered = ((number, text.strip(" ")) for number, text in enumerate(texts, start=1))
    return [_Line(split, path.name, number, text) for number, text in numbered if text and text[0] != "#"]


def _split(line: _Line, blanked: _Blanked, collection: Collection) -> tuple[str, str] | None:
    """Path and class of a line, or None after noting what is wrong with it."""
    text = line.text
    path, _, word = _cut(text, blanked)
    path = path.rstrip(" ")
    advice = "separate path and class by one blank"
    if "\0" in text:
        reason = "holds a NUL byte; is this a text file?"
    elif "\t" in text:
        reason = f"holds a tab; {advice}"
    elif not path and ("," in text or ";" in text):
        reason = f"is separated by a comma or semicolon; {advice}"
    elif not path:
        reason = f"has no class ({text[:80]!r}); write 'PATH CLASS'"
    elif path[-1] in ",;":
        reason = f"has {path[-1]!r} before the class; {advice}"
    else:
        return path, word
    _note(collection, line, reason)
    return None


def _cut(text: str, blanked: _Blanked) -> tuple[str, str, str]:
    """Cut at the last blank, or before the longest known class name with blanks that ends the line."""
    words = text.split(" ")
    for start in range(max(1, len(words) - 1 - blanked.most), len(words) - 1):
        name = " ".join(words[start:])
        if name in blanked.names:
            return " ".join(words[:start]), " ", name
    return text.rpartition(" ")


def _labels(pairs: Iterable[tuple[_Line, str, str]], collection: Collection) -> dict[str, int]:
    """Number of every word that names a class; the other words are noted as problems."""
    words = Counter(word for _, _, word in pairs)
    table: dict[str, int | str]
    if collection.class_names:
        table = _by_names(words, collection.class_names)
    else:
        numeric = {word for word in words if _NUMBER.fullmatch(word)}
        # A few strangers among the other kind are mistakes, not classes.
        if 2 * sum(words[word] for word in numeric) >= sum(words.values()):
            table = {word: _number(word) if word in numeric else _STRANGER.format("number") for word in words}
            largest = max((label for label in table.values() if isinstance(label, int)), default=-1)
            collection.class_names = tuple(str(label) for label in range(largest + 1))
        else:
            named = set(words) - numeric
            fault = classes.fault(list(named))  # before they are put in order, which takes longer
            if fault:
                raise DataError(f"the lists: {fault}")
            collection.class_names = classes.natural_order(named)
            numbers = {name: label for label, name in enumerate(collection.class_names)}
            table = {word: numbers.get(word, _STRANGER.format("name")) for word in words}
    for line, _, word in pairs:
        wrong = table[word]
        if isinstance(wrong, str):
            _note(collection, line, f"class {word[:80]!r} {wrong}")
    return {word: label for word, label in table.items() if isinstance(label, int)}


_STRANGER = "is not a {0}, as most lines give; use one kind, or list the classes in classes.txt"


def _number(word: str) -> int | str:
    label = int(word)
    if not 0 <= label < classes.MOST_CLASSES:
        return "is out of range; number the classes from 0 on"
    return label


def _by_names(words: Iterable[str], names: tuple[str, ...]) -> dict[str, int | str]:
    """Find each word among the names, then among their first words, then take it as a number."""
    first_words = Counter(name.split(" ")[0] for name in names)
    table = {name.split(" ")[0]: label for label, name in enumerate(names) if first_words[name.split(" ")[0]] == 1}
    table.update({name: label for label, name in enumerate(names)})
    wrong = f"is not one of the {len(names)} in classes.txt, nor a number from 0 to {len(names) - 1}"

    def find(word: str) -> int | str:
        if word in table:
            return table[word]
        inside = _NUMBER.fullmatch(word) and 0 <= int(word) < len(names)
        return int(word) if inside else wrong

    return {word: find(word) for word in words}


def _note(collection: Collection, line: _Line, reason: str) -> None:
    collection.problems.append(Problem(line.where, reason))
