"""Image files of all formats with bits, sizes and chunks changed are refused, or become pixels of the wanted form.

PNG has checksums: unless they were made to fit, what is accepted has the pixels of the original. So has a JPEG file
that was cut short. Other damage inside these formats cannot be told from another picture.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pictures
from campaigns import mutators
from campaigns.fuzzing import fuzz
from PIL import Image

from lenet_mp.data.images import Decoder

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from campaigns.tally import Tally

SMALL, FULL = 4_000, 50_000

DECODERS = (Decoder((16, 12)), Decoder((40, 40), channels=1), Decoder((8, 8), channel_order="BGR"))
PNG = b"\x89PNG\r\n\x1a\n"
KNOWN = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
CUT, SEALED, RAW = b"C", b"S", b"R"
"""How a mutant was made: cut short, with checksums that fit where the format has any, or as PNG with old ones."""


def run(size: int, seed: int, folder: Path) -> Tally:
    """Feed mutants to the decoder."""
    return fuzz("fuzz_images", size, seed, folder)


def make(_folder: Path) -> Target:
    """Return the target of one process."""
    return Target()


def originals() -> list[bytes]:
    """Small files of every format and mode."""
    colour, grey = Image.fromarray(pictures.pixels(1)), Image.fromarray(pictures.pixels(2, channels=1))
    wide = Image.fromarray(np.arange(24 * 20, dtype=np.uint16).reshape(20, 24) * 130)
    exif = Image.Exif()
    exif[0x0112] = 6
    flat = [("JPEG", {}), ("JPEG", {"progressive": True, "exif": exif}), ("PNG", {"exif": exif})]
    flat += [("BMP", {}), ("PPM", {})]
    files = [pictures.encoded(image, form, **options) for image in (colour, grey) for form, options in flat]
    files += [pictures.encoded(colour.convert("CMYK"), "JPEG"), pictures.encoded(wide, "PNG")]
    files += [pictures.encoded(colour.convert(mode), "PNG") for mode in ("P", "RGBA", "1")]
    files += [pictures.encoded(colour.convert("P"), form) for form in ("GIF", "BMP")]
    files += [pictures.encoded(colour, "GIF", save_all=True, append_images=[colour.rotate(90)])]
    files += [pictures.encoded(colour.convert("RGBA"), "WEBP", lossless=lossless) for lossless in (False, True)]
    return files


class Target:
    """The decoder, and what must be true of what it accepts."""

    def __init__(self) -> None:
        self._files = originals()
        self._pixels = [{decoder.decode(data).tobytes() for data in self._files} for decoder in DECODERS]

    def mutant(self, rng: random.Random) -> bytes:
        """Change bytes; make the checksums of half of the PNG files fit again."""
        data = rng.choice(self._files)
        which = bytes([rng.randrange(len(DECODERS))])
        if rng.random() < 0.1:
            return CUT + which + data[: int(rng.random() * len(data))]
        if data.startswith(PNG) and rng.random() < 0.5:
            # A chunk of another file brings its checksum along: that is another picture, not damage.
            return RAW + which + mutators.mutate(data, rng)
        changed = mutators.mutate(data, rng, self._files)
        return SEALED + which + (_sealed(changed) if changed.startswith(PNG) else changed)

    def read(self, mutant: bytes) -> None:
        """Decode it and look at the pixels."""
        how, which, data = mutant[:1], mutant[1], mutant[2:]
        decoder = DECODERS[which]
        found = decoder.decode(data)
        if found.shape != (*decoder.size, decoder.channels) or found.dtype != np.uint8:
            raise AssertionError(f"pixels of {found.dtype} {found.shape}")
        whole = data.startswith((PNG, b"\xff\xd8")) if how == CUT else how == RAW
        if whole and found.tobytes() not in self._pixels[which]:
            raise AssertionError("wrong data accepted: other pixels than any file has")


def _sealed(data: bytes) -> bytes:
    """Return a PNG file with the checksum of every chunk that can be found made to fit."""
    made, rest = io.BytesIO(), io.BytesIO(data[len(PNG) :])
    made.write(PNG)
    while len(head := rest.read(8)) == 8:
        length = struct.unpack(">I", head[:4])[0]
        if head[4:] not in KNOWN or length > len(data):
            made.write(head)
            break
        body = rest.read(length)
        made.write(head + body + zlib.crc32(head[4:] + body).to_bytes(4, "big"))
        rest.read(4)
    return made.getvalue() + rest.read()
