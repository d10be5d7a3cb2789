"""The decoding process: takes file names from a pipe, puts pixels into shared memory, answers with what it found.

Decoding is where hostile bytes meet C code, so it happens in a process that may die: its address space is limited,
and so is the processor time of one image. :mod:`lenet_mp.data.decode_pool` starts it, feeds it and notices its death.
"""

from __future__ import annotations

import hashlib
import mmap
import resource
import signal
import sys
import time
import warnings
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lenet_mp.data import jpeg_store, memory, moments
from lenet_mp.data.images import Decoder, read_image
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


SECONDS_PER_IMAGE = 60
"""Processor time after which an image is given up, and its process with it."""
SPARE_BYTES = 1 << 30
"""Address space for decoding, beside what the process has after start; an image of 50 million pixels needs 0.8 GB."""


class Outcome(NamedTuple):
    """What became of one image.

    Attributes
    ----------
    slot : int
        Where its pixels, or its JPEG bytes, lie if it was decoded.
    reason : str
        Why it was not; empty if it was.
    digest : str
        SHA-256 (hex) of the file's bytes; empty if it could not be read.
    sums, squares : (C,) exact sums of the pixels and of their squares, by channel
    size : int
        Bytes of the slot that it takes.
    """

    slot: int
    reason: str
    digest: str = ""
    sums: Sequence[int] = ()
    squares: Sequence[int] = ()
    size: int = 0


def main() -> None:
    """Serve until the pipe closes: ``(slot, file)`` lists in, ``Outcome`` lists out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    warnings.simplefilter("ignore", UserWarning)  # Pillow on damaged EXIF blocks, which do no harm
    pipe = Connection(int(sys.argv[2]))
    decoder: Decoder
    decoder, quality, count = pipe.recv()
    slots = np.frombuffer(mmap.mmap(int(sys.argv[3]), 0), np.uint8).reshape(count, -1)
    _limit_memory()
    while True:
        try:
            tasks = pipe.recv()
        except (EOFError, ConnectionError):
            return
        pipe.send([_decode(decoder, quality, slot, file, slots[slot]) for slot, file in tasks])


def _decode(decoder: Decoder, quality: int | None, slot: int, file: str, room: np.ndarray) -> Outcome:
    _limit_seconds()
    digest = ""
    try:
        data = read_image(file, follow_links=False)
        digest = hashlib.sha256(data).hexdigest()
        picture = decoder.picture(data)
        stored = decoder.pixels(picture).reshape(-1)
        if quality is not None:
            encoded = jpeg_store.encode(picture, quality)
            stored = np.frombuffer(encoded, np.uint8)
            # The statistics are those of what will be read.
            picture = jpeg_store.decode(encoded, (*decoder.size, decoder.channels))
    except DataError as error:
        return Outcome(slot, str(error), digest)
    except MemoryError:
        return Outcome(slot, "needs too much memory", digest)
    room[: len(stored)] = stored
    counts = np.array(picture.histogram(), np.int64).reshape(decoder.channels, 256)
    return Outcome(slot, "", digest, *moments.sums(counts), len(stored))


def _limit_memory() -> None:
    limit = memory.address_space() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_seconds() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS_PER_IMAGE, hard))
