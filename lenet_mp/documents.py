"""JSON and TOML that came as a file: what is ambiguous, or takes memory or time without end, is refused."""

from __future__ import annotations

import json
import math
import re
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

LARGEST_TEXT = 64 << 20
MOST_VALUES = 2_000_000
"""Values in a text; each takes up to a hundred bytes of memory, whatever it takes in the text."""


LARGEST_TOML = 1 << 20
MOST_DOTS = 100
"""Dots in a line of TOML that is more than a name and a text: a key of n parts takes tomllib n squared steps."""
_PLAIN_TEXT = re.compile(rb'\s*\w+\s*=\s*"[^"\\]*"\s*')


def parse_json(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises
    ------
    ValueError
        If it is no JSON, a name is there twice, a number is not finite, or there is too much of it.
    RecursionError
        If it is nested too deeply.
    """
    if len(text) > LARGEST_TEXT or sum(text.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError(f"more than {LARGEST_TEXT:,} bytes or {MOST_VALUES:,} values")
    return json.loads(text.decode(), object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)


def parse_toml(text: bytes) -> dict[str, Any]:
    """Return the table of a TOML text in UTF-8; other bytes come as surrogates, as in names of files.

    Raises
    ------
    ValueError
        If it is no TOML, or there is too much of it.
    RecursionError
        If it is nested too deeply.
    """
    if len(text) > LARGEST_TOML:
        raise ValueError(f"more than {LARGEST_TOML:,} bytes")
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.count(b".") > MOST_DOTS and not _PLAIN_TEXT.fullmatch(line):
            raise ValueError(f"more than {MOST_DOTS} dots in line {number}")
    return tomllib.loads(text.decode(errors="surrogateescape"))


def has_exactly(document: object, names: AbstractSet[str]) -> bool:
    """Whether ``document`` is an object with these names and no others."""
    return isinstance(document, dict) and document.keys() == names


def is_list(value: object, of: type) -> bool:
    """Whether ``value`` is a list of values of exactly this type: True is no whole number."""
    return isinstance(value, list) and all(type(item) is of for item in value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} is there twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is not a finite number")
    return number
