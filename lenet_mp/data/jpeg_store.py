"""Shards of JPEG images: a tenth of the bytes, for data that would not fit the disk.

A shard keeps the resized images encoded, one after the other, and where each begins. Reading decodes a whole shard by
threads in the background (Pillow decodes without the interpreter's lock): about 2,000 photographs of 250 x 250 a second
and core at quality 90, less than training takes. So pixels are the better store wherever they fit.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp import affinity
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lenet_mp.data.pixels import MappedImages, Pixels

DEFAULT_QUALITY = 90
_IMAGES_PER_TASK = 16
_MODES = {1: "L", 3: "RGB"}


def most_bytes(pixel_bytes: int) -> int:
    """Room that suffices for an encoded image of so many bytes of pixels, even if it is pure noise."""
    return 2 * pixel_bytes + 4096


def encode(picture: Image.Image, quality: int) -> bytes:
    """JPEG bytes of a picture of mode RGB or L; colour is stored at half resolution, as Pillow does by default."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def decode(data: bytes, shape: tuple[int, ...]) -> Image.Image:
    """Picture of stored bytes; ``DataError`` with the reason alone if they are not a JPEG image of that shape."""
    height, width, channels = shape
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))
        fits = picture.size == (width, height) and picture.mode == _MODES[channels]
        if fits:
            picture.load()
    except Exception as error:
        # Pillow's decoders raise whatever they stumble upon.
        raise DataError(f"cannot be decoded ({' '.join(str(error).split())[:200]})") from error
    if not fits:
        raise DataError(f"is {picture.mode} of {picture.size}, expected {_MODES[channels]} of {(width, height)}")
    return picture


class EncodedImages:
    """Images of a JPEG shard: decoded by threads when they are asked for, held until released.

    Parameters
    ----------
    path : Path
    stored : MappedImages
        The encoded bytes, as one image of shape (1, bytes, 1, 1).
    offsets : (N + 1,) where each image begins, and where the last one ends
    image_shape : (H, W, C)
    """

    def __init__(
        self, path: Path, stored: MappedImages, offsets: Sequence[int], image_shape: tuple[int, int, int]
    ) -> None:
        self.shape = (len(offsets) - 1, *image_shape)
        self._path = path
        self._stored = stored
        self._offsets = offsets
        self._pixels: Pixels | None = None
        self._pending: list[Future[None]] = []

    def array(self) -> Pixels:
        """Images in memory of this process, read-only."""
        self.prefetch()
        for task in self._pending:
            task.result()
        self._pending = []
        self._stored.release()
        assert self._pixels is not None  # noqa: S101 - set by prefetch
        images = self._pixels.view()
        images.flags.writeable = False
        return images

    def prefetch(self) -> None:
        """Begin to decode in background threads."""
        if self._pixels is None:
            pixels = np.empty(self.shape, np.uint8)
            starts = range(0, self.shape[0], _IMAGES_PER_TASK)
            self._pending = [_threads().submit(self._decode, pixels, start) for start in starts]
            self._pixels = pixels

    def release(self) -> None:
        """Forget the images; the memory is free once the last view of them is gone."""
        for task in self._pending:
            task.cancel()
        self._pending = []
        self._pixels = None

    def _decode(self, pixels: Pixels, start: int) -> None:
        encoded = self._stored.array().reshape(-1)
        for number in range(start, min(start + _IMAGES_PER_TASK, len(pixels))):
            data = encoded[self._offsets[number] : self._offsets[number + 1]].tobytes()
            try:
                picture = decode(data, self.shape[1:])
            except DataError as error:
                raise DataError(f"{self._path}: image {number} {error}; prepare the data set again") from error
            pixels[number] = np.asarray(picture).reshape(self.shape[1:])


@cache
def _threads() -> ThreadPoolExecutor:
    """As many threads as the engine has: it sleeps while it waits for images."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    count = int(text) if text.isdigit() and int(text) > 0 else len(affinity.ALL)
    return ThreadPoolExecutor(count, thread_name_prefix="lenet-mp-jpeg", initializer=affinity.roam)
