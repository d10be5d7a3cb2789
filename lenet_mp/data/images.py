"""Decoding: any image file to uint8 pixels of one size, by Pillow.

What becomes of the kinds of images: an EXIF turn is applied; palettes are looked up; alpha is composited on
white; 16 bits become 8 by ``round(v / 257)``; CMYK and greyscale become RGB, or all become luma (ITU-R 601) when one
channel is wanted; of several frames the first counts; colour profiles are ignored. Then the image is resized to exactly
the size wanted (its aspect is not kept, as in the original), by Pillow's filter of that name.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from lenet_mp import files
from lenet_mp.data import png_rows
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM")
"""Formats that are decoded. Not EPS, which starts another program, nor TIFF, whose library has the most holes."""
FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
}
DEFAULT_FILTER = "bilinear"
LARGEST_FILE = 400 << 20
"""Bytes of a file; nothing that unfolds to at most ``MOST_PIXELS`` needs more."""
MOST_PIXELS = 50_000_000
"""Width times height; a PNG of half a megabyte can claim far more, and takes gigabytes to decode."""
MOST_PIXELS_A_BYTE = 8 * 1100
"""Of a PNG file: deflate packs at most 1,032 bytes into one, and a pixel takes a bit or more."""
LEAST_REDUCED = 1.25
"""A JPEG decoded at reduced scale is at least so many times as large as wanted, in both directions.

The reduced scale comes out as of a box filter. With a quarter left to the filter that was asked for, the
result has less aliasing than Pillow's Hamming filter alone; with nothing left it would have a box filter's."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
_EIGHT_OF_SIXTEEN = ((np.arange(65_536) + 128) // 257).astype(np.uint8)
_SIXTEEN_BITS = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})

# Pillow only warns of images between its limit and twice that; here they are errors, as its documentation advises.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

ImagePixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Decoder:
    """How images are to come out: size (H, W) in pixels, channels 1 or 3 in the given order, resampling filter."""

    size: tuple[int, int]
    channels: int = 3
    channel_order: str = "RGB"
    filter: str = DEFAULT_FILTER

    def decode(self, data: bytes) -> ImagePixels:
        """Pixels, (H, W, C) uint8, of an encoded image; ``DataError`` with the reason alone if it has none."""
        return self.pixels(self.picture(data))

    def pixels(self, picture: Image.Image) -> ImagePixels:
        """Pixels, (H, W, C) uint8, of a picture of this decoder."""
        pixels = np.asarray(picture).reshape(*self.size, self.channels)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.channel_order == "BGR" else pixels

    def picture(self, data: bytes) -> Image.Image:
        """Decode and resize to a Pillow image of mode RGB or L; ``DataError`` with the reason alone if that fails."""
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_claims(image, len(data))
                if image.format == "PNG":
                    # Decoding alone ignores the checksums of PNG: damaged pixels would pass for good ones.
                    Image.open(io.BytesIO(data), formats=("PNG",)).verify()
                return self._resized(image, data)
        except DataError:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"claims more than {MOST_PIXELS:,} pixels") from error
        except UnidentifiedImageError as error:
            raise DataError(f"not an image of a known format ({', '.join(FORMATS)})") from error
        except Exception as error:
            # Pillow's decoders raise whatever they stumble upon (struct.error, SyntaxError, MemoryError, ...).
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(f"cannot be decoded ({reason})") from error

    def _resized(self, image: ImageFile.ImageFile, data: bytes) -> Image.Image:
        height, width = self.size
        if image.format == "PNG":
            # First of all: EXIF may lie behind the pixels, and whoever looks for it there passes over their errors.
            image.load()
            png_rows.check(data, image)
        turn = _orientation(image)
        least = math.ceil(LEAST_REDUCED * width), math.ceil(LEAST_REDUCED * height)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, and without its colours: much faster.
        image.draft("L" if self.channels == 1 else None, least[::-1] if turn in _SIDEWAYS else least)
        image.load()
        plain = _eight_bits(image)
        if turn in _TURNS:
            plain = plain.transpose(_TURNS[turn])
        mode = "L" if self.channels == 1 else "RGB"
        if plain.mode != mode:
            plain = plain.convert(mode)
        return plain.resize((width, height), FILTERS[self.filter])


def load_image(
    path: Path,
    *,
    size: tuple[int, int],
    channels: int = 3,
    channel_order: str = "RGB",
    resampling: str = DEFAULT_FILTER,
) -> ImagePixels:
    """Decode one image file to (H, W, C) uint8.

    Parameters
    ----------
    path : Path
    size : (H, W) in pixels
    channels : 1 or 3
    channel_order : "RGB" or "BGR"; without meaning for one channel
    resampling : one of ``FILTERS``

    Raises
    ------
    DataError
        If there is no such file, it is no regular file, no image of a known format, truncated or too large.
    """
    try:
        return Decoder(size, channels, channel_order, resampling).decode(read_image(path))
    except DataError as error:
        raise DataError(f"{path}: {error}; give another image") from error


def read_image(path: str | Path, *, follow_links: bool = True) -> bytes:
    """Bytes of an image file; ``DataError`` with the reason alone if it cannot be one. It never waits for a pipe."""
    try:
        data = files.read(path, LARGEST_FILE, follow_links=follow_links)
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if not data:
        raise DataError("is empty")
    return data


def _check_claims(image: ImageFile.ImageFile, size: int) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(f"claims {width:,} x {height:,} pixels, more than {MOST_PIXELS:,}")
    if image.format == "PNG" and width * height > MOST_PIXELS_A_BYTE * size:
        raise DataError(f"claims {width:,} x {height:,} pixels, which {size:,} bytes cannot hold")


def _orientation(image: Image.Image) -> int:
    """EXIF's turn, 1 to 8; 1 (upright) where there is none or the EXIF block is damaged, as viewers take it."""
    with contextlib.suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel and without alpha."""
    if image.mode in _SIXTEEN_BITS:
        return Image.fromarray(_EIGHT_OF_SIXTEEN[np.clip(np.asarray(image), 0, 65_535)])
    if image.mode == "F":
        raise DataError("holds floating-point pixels; save it with 8 or 16 bits")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    if image.mode == "P":
        return image.convert("RGB")
    return image
