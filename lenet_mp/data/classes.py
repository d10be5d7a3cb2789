"""Names of classes: how many there may be and what they look like, their natural order, and ``classes.txt``."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from lenet_mp import files
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NAME = "classes.txt"
MOST_CLASSES = 65_536
"""More are a mistake, of a label or of whoever took file names for classes; every command would crawl with them."""
LONGEST_NAME = 1000

_NUMBERED = re.compile(r"([0-9]{1,9})[ \t]+(.*\S)")
_BLANKS = " \t\r"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def fault(names: Sequence[str]) -> str:
    """What is wrong with the names of a data set's classes, and what to do; empty if nothing is."""
    if len(names) > MOST_CLASSES:
        return f"{len(names):,} classes, more than the {MOST_CLASSES:,} that there may be; are these classes?"
    for name in names:
        if not name.strip(_BLANKS) or len(name) > LONGEST_NAME or _CONTROL.search(name):
            what = f"is longer than {LONGEST_NAME:,} characters" if len(name) > LONGEST_NAME else "is no line of text"
            return f"the class name {name[:80]!r} {what}; give another name"
    most = Counter(names).most_common(1)
    if most and most[0][1] > 1:
        return f"class {most[0][0]!r} is there twice; give every class its own name"
    return ""


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key that counts: "class2" before "class10", digits before letters, case only as a tie-break."""
    parts = re.split(r"([0-9]+)", name)
    # Odd places hold the runs of digits, so that numbers are only ever compared with numbers.
    return tuple(_magnitude(part) if place % 2 else part.casefold() for place, part in enumerate(parts)), name


def _magnitude(digits: str) -> tuple[int, str]:
    """Sort key of a number of any length, which ``int`` would not take."""
    significant = digits.lstrip("0")
    return len(significant), significant


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in natural order."""
    return tuple(sorted(set(names), key=natural_key))


def read_classes(path: Path) -> tuple[str, ...]:
    """Read a ``classes.txt``: one name a line, or ``NUMBER NAME`` on every line, in any order from 0 on.

    Empty lines and lines that begin with ``#`` are skipped; names may contain blanks.

    Raises
    ------
    DataError
        If it cannot be read, a name or number occurs twice, numbers are missing, or there are too many names.
    """
    try:
        text = files.read(path).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file of class names") from error
    lines = [line.strip(_BLANKS) for line in text.split("\n")]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError(f"{path}: holds no class name; write one a line")
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    if all(numbered):
        table = {int(match[1]): match[2] for match in numbered if match}
        missing = set(range(len(names))) - set(table)
        if missing:
            raise DataError(
                f"{path}: number {min(missing)} is missing or another one is there twice; number the "
                f"{len(names)} classes from 0 to {len(names) - 1}"
            )
        names = [table[number] for number in range(len(names))]
    wrong = fault(names)
    if wrong:
        raise DataError(f"{path}: {wrong}")
    return tuple(names)
