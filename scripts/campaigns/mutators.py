"""Making mutants of real files: bytes, numbers in headers, and the tokens of texts."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
"""Where lengths and sizes turn over."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[A-Za-z_]+|[+-]?[0-9][0-9.eE+-]*|\s+|.', re.DOTALL)
_SHORT = 64


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return ``data`` after one to eight changes; ``others`` are files from which pieces may come."""
    changed = bytearray(data)
    while True:
        rng.choice(_OPERATIONS)(changed, rng, others)
        if rng.random() < 0.5 or not changed:
            return bytes(changed)


def tokens(text: bytes) -> list[bytes]:
    """Cut a text into words, numbers, strings, blanks and signs; joined they are the text."""
    return _TOKEN.findall(text)


def mutate_tokens(words: Sequence[bytes], rng: random.Random, dictionary: Sequence[bytes]) -> bytes:
    """Return the text of ``words`` with one or more of them left out, doubled, exchanged or taken from elsewhere."""
    changed = list(words)
    while changed:
        place = int(rng.random() * len(changed))
        what = int(rng.random() * 6)
        if what == 0:
            del changed[place : place + 1 + int(rng.random() ** 4 * 20)]
        elif what == 1:
            changed[place:place] = changed[place : place + 1 + int(rng.random() ** 4 * 20)]
        elif what == 2:
            other = int(rng.random() * len(changed))
            changed[place], changed[other] = changed[other], changed[place]
        elif what == 3:
            changed[place] = words[int(rng.random() * len(words))]
        elif what == 4:
            changed.insert(place, dictionary[int(rng.random() * len(dictionary))])
        else:
            changed[place] = dictionary[int(rng.random() * len(dictionary))]
        if rng.random() < 0.6:
            break
    return b"".join(changed)


def _flip(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    data[int(rng.random() * len(data))] ^= 1 << rng.getrandbits(3)


def _set(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    data[int(rng.random() * len(data))] = rng.getrandbits(8)


def _cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del data[int(rng.random() * len(data)) :]


def _leave_out(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    place, length = _span(data, rng)
    del data[place : place + length]


def _double(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    place, length = _span(data, rng)
    data[place:place] = data[place : place + length]


def _fill(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    place, length = _span(data, rng)
    length = min(length, len(data) - place)
    data[place : place + length] = bytes([rng.choice((0, 255, rng.getrandbits(8)))]) * length


def _number(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """Write a size where one may stand: 1, 2, 4 or 8 bytes of either order."""
    form = rng.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    width = struct.calcsize(form)
    if len(data) < width:
        return
    place = int(rng.random() * (len(data) - width + 1))
    if rng.random() < 0.5:
        value = struct.unpack_from(form, data, place)[0] + rng.randint(-16, 16)
    else:
        value = rng.choice(NUMBERS) - (rng.random() < 0.2)
    struct.pack_into(form, data, place, value % (1 << 8 * width))


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """Overwrite a piece by one of another file, from the same place or any other."""
    if not others:
        _flip(data, rng, others)
        return
    other = rng.choice(others)
    place, length = _span(data, rng)
    origin = place if rng.random() < 0.5 else int(rng.random() * len(other))
    piece = other[origin : origin + length]
    data[place : place + len(piece)] = piece


def _span(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """Return a place and a length, mostly short."""
    longest = len(data) if rng.random() < 0.1 else _SHORT
    return int(rng.random() * len(data)), 1 + int(rng.random() * longest)


_OPERATIONS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _flip, _set, _set, _cut, _leave_out, _double, _fill, _number, _number, _splice,
)  # fmt: skip
