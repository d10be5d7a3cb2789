"""Names of classes: their natural order, and ``classes.txt``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lenet_mp import files
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "classes.txt"

_NUMBERED = re.compile(r"([0-9]+)[ \t]+(.*\S)")


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key that counts: "class2" before "class10", digits before letters, case only as a tie-break."""
    parts = re.split(r"([0-9]+)", name)
    # Odd places hold the runs of digits, so that numbers are only ever compared with numbers.
    return (*(int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)), name)


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in natural order."""
    return tuple(sorted(set(names), key=natural_key))


def read_classes(path: Path) -> tuple[str, ...]:
    """Read a ``classes.txt``: one name a line, or ``NUMBER NAME`` on every line, in any order from 0 on.

    Empty lines and lines that begin with ``#`` are skipped; names may contain blanks.

    Raises
    ------
    DataError
        If it cannot be read, a name or number occurs twice, or numbers are missing.
    """
    try:
        text = files.read(path).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file of class names") from error
    lines = [line.strip() for line in text.splitlines()]
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
    repeated = [name for name in set(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if repeated:
        raise DataError(f"{path}: class {min(repeated)!r} is there twice; give every class its own name")
    return tuple(names)
