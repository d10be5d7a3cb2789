"""Hostile images, and hostile lists of images: each is built in a folder and given to ``prepare``.

A builder gets the folder that the command may look into, and one outside that it must not; it returns the command line.
All of them are bad data, exit code 3.
"""

from __future__ import annotations

import os
import pickle
import socket
import stat
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pictures
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Builder = Callable[[Path, Path], list[str]]

GOOD_IMAGES = 12
TERABYTES = 3 << 40


def builders() -> dict[str, Builder]:
    """Every kind, by name."""
    made = {f"image: {name}": _image(make) for name, make in IMAGES.items()}
    return made | {f"list: {name}": _list(make) for name, make in LISTS.items()}


def good_image(given: Path, outside: Path) -> list[str]:
    """Build what is not hostile: what it costs to decode images at all."""
    return _image(lambda path, _: path.write_bytes(pictures.encoded(pictures.pixels(1), "JPEG")))(given, outside)


def make_socket(path: Path, _: Path) -> None:
    """Put a socket where a file should be."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _image(make: Callable[[Path, Path], None]) -> Builder:
    """One hostile file among good images."""

    def build(given: Path, outside: Path) -> list[str]:
        lines = []
        for number in range(GOOD_IMAGES):
            pictures.write_picture(given / "images" / f"{number}.png", number)
            lines.append(f"{number}.png {number % 3}")
        make(given / "images" / "bad.jpg", outside)
        (given / "list.txt").write_text("\n".join([*lines, "bad.jpg 0"]))
        (given / "val.txt").write_text("0.png 0\n1.png 1\n")
        words = ["prepare", "--lists", given / "list.txt", given / "val.txt", "--root", given / "images"]
        return [*map(str, words), "--out", str(given / "out"), "--size", "16", "--workers", "1"]

    return build


def _png(width: int, height: int, more: tuple[bytes, bytes] | None = None) -> bytes:
    """Return a PNG file that claims this size, and holds one more chunk; all checksums fit."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *([more] if more else []), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        made += len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
    return made


def _swollen(name: bytes, before: bytes) -> Callable[[Path, Path], None]:
    """Write a PNG file with a chunk that unpacks to 300 MB."""
    return lambda path, _: path.write_bytes(_png(8, 8, (name, before + zlib.compress(bytes(300 << 20), 1))))


def _bomb(path: Path, _: Path) -> None:
    picture = Image.new("L", (13_400, 13_300))
    picture.save(path, "PNG")


def _many_frames(path: Path, _: Path) -> None:
    frames = [Image.fromarray(pictures.pixels(number)).convert("P") for number in range(3)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    path.write_bytes(data)


def _truncated_jpeg(path: Path, _: Path) -> None:
    path.write_bytes(pictures.encoded(pictures.pixels(1, height=200, width=200), "JPEG")[:-300])


def _saved(form: str) -> Callable[[Path, Path], None]:
    return lambda path, _: path.write_bytes(pictures.encoded(pictures.pixels(1), form))


def _written(data: bytes) -> Callable[[Path, Path], None]:
    return lambda path, _: path.write_bytes(data)


def _link_outside(path: Path, outside: Path) -> None:
    pictures.write_picture(outside / "secret.png", 1)
    path.symlink_to(outside / "secret.png")


def _folder_outside(path: Path, outside: Path) -> None:
    pictures.write_picture(outside / "bad.jpg", 1)
    path.symlink_to(outside)


def _device(path: Path, _: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:  # not root: a link to one will do
        path.symlink_to("/dev/zero")


def _sparse(path: Path, _: Path) -> None:
    path.write_bytes(b"\xff\xd8")
    os.truncate(path, TERABYTES)


IMAGES: dict[str, Callable[[Path, Path], None]] = {
    "PNG of 178 million pixels": _bomb,
    "PNG that claims 2 billion pixels": _written(_png(50_000, 40_000)),
    "PNG that claims what it cannot hold": _written(_png(7_000, 7_000)),
    "PNG with a text of 300 MB": _swollen(b"zTXt", b"x\0\0"),
    "PNG with a profile of 300 MB": _swollen(b"iCCP", b"x\0\0"),
    "GIF that claims 4 billion pixels": _many_frames,
    "BMP that claims 4 billion pixels": _written(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 90, 0, 54, 40, 65_535, 65_535, 1, 24, *[0] * 6)
    ),
    "PPM that claims 9 billion pixels": _written(b"P6 99999 99999 255\n" + bytes(99)),
    "JPEG cut short": _truncated_jpeg,
    "EPS": _written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n%%EOF\n"),
    "TIFF": _saved("TIFF"),
    "ICO": _saved("ICO"),
    "PDF": _saved("PDF"),
    "SVG": _written(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
    "a pickle": _written(pickle.dumps(os.getcwd)),
    "HTML": _written(b"<html><script>alert(1)</script></html>"),
    "empty": _written(b""),
    "of 3 TB": _sparse,
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a socket": make_socket,
    "a device": _device,
    "a link outside": _link_outside,
    "a link to a folder outside": _folder_outside,
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a link to nowhere": lambda path, _: path.symlink_to("nowhere"),
}


def _list(make: Callable[[Path], bytes | None]) -> Builder:
    """A hostile list of good images; the builder returns its text, or makes the file itself."""

    def build(given: Path, outside: Path) -> list[str]:
        for number in range(3):
            pictures.write_picture(given / "images" / f"{number}.png", number)
        pictures.write_picture(outside / "secret.png", 1)
        (given / "images" / "way").symlink_to(outside)
        text = make(given / "list.txt")
        if text is not None:
            (given / "list.txt").write_bytes(text.replace(b"OUTSIDE", os.fsencode(outside)))
        words = ["prepare", "--lists", given / "list.txt", "--root", given / "images", "--out", given / "out"]
        return [*map(str, words), "--workers", "1"]

    return build


GOOD = b"0.png 0\n1.png 1\n2.png 1\n"


def _classes(data: bytes) -> Callable[[Path], bytes]:
    def make(path: Path) -> bytes:
        path.with_name("classes.txt").write_bytes(data)
        return GOOD

    return make


LISTS: dict[str, Callable[[Path], bytes | None]] = {
    "a path out of the root": lambda _: GOOD + b"../../outside/secret.png 0\n",
    "an absolute path": lambda _: GOOD + b"OUTSIDE/secret.png 0\n",
    "/etc/passwd": lambda _: GOOD + b"/etc/passwd 0\n",
    "a path through a link": lambda _: GOOD + b"way/secret.png 0\n",
    "a path of many dots": lambda _: GOOD + b"../" * 1000 + b"etc/passwd 0\n",
    "a name of 100,000 signs": lambda _: GOOD + b"x" * 100_000 + b" 0\n",
    "NUL bytes": lambda _: GOOD + b"a\0.png 0\n",
    "tabs": lambda _: GOOD.replace(b" ", b"\t"),
    "UTF-16": lambda _: GOOD.decode().encode("utf-16"),
    "random bytes": lambda _: np.random.default_rng(0).bytes(100_000),
    "a class of 5,000 digits": lambda _: GOOD + b"0.png " + b"9" * 5000 + b"\n",
    "a class of a billion": lambda _: GOOD + b"0.png 1000000000\n",
    "a negative class": lambda _: GOOD + b"0.png -1\n",
    "200,000 classes": lambda _: b"".join(b"0.png c%d\n" % number for number in range(200_000)),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda _: b"",
    "classes twice": _classes(b"a\na\nb\n"),
    "a class of 10 MB": _classes(b"a\nb\n" + b"x" * 10_000_000),
    "200,000 names": _classes(b"".join(b"c%d\n" % number for number in range(200_000))),
}
