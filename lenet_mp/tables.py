"""Tables of results, as aligned text for eyes and as CSV for programs."""

from __future__ import annotations

import csv
import io
import re
import sys
from typing import TYPE_CHECKING

from lenet_mp.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Cell = str | int | float


def as_text(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Align columns under their headings with two spaces between: the first ``left`` to the left, the rest right.

    Every line ends in a newline and carries no trailing blanks.
    """
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    aligned = (
        "  ".join(
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "".join(f"{line.rstrip()}\n" for line in aligned)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a heading and rows as RFC 4180 text with plain newlines, quoted where a cell needs it."""
    return rows_as_csv([header, *rows])


def rows_as_csv(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as :func:`as_csv` does, without a heading."""
    lines = []
    for row in rows:
        buffer = io.StringIO()
        csv.writer(buffer).writerow(row)  # quotes the letters of its own line end alone, which are to be both
        lines.append(buffer.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def readable(text: str) -> str:
    """Replace what is no character (bytes of file names that are no valid text) by the sign for that."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def print_text(parts: Iterable[str]) -> None:
    """Print to stdout in UTF-8, whatever the locale; file names that are no valid text keep their bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.stdout.writelines(parts)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8; file names that are no valid text keep their bytes."""
    write_atomically(path, text.encode("utf-8", "surrogateescape"))
