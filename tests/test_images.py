"""Decoding of image files of all kinds, good and bad."""

import io
import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from lenet_mp.data.images import MOST_PIXELS, Decoder, load_image, read_image
from lenet_mp.errors import DataError
from tests.pictures import encoded, pixels

SIZE = (20, 24)


def load(tmp_path, data, size=SIZE, **options):
    path = tmp_path / "image"
    path.write_bytes(data)
    return load_image(path, size=size, **options)


def test_pixels_are_exact_without_resizing(tmp_path):
    """A PNG of the wanted size comes out bit for bit, in either channel order."""
    image = pixels(1)
    assert np.array_equal(load(tmp_path, encoded(image)), image)
    assert np.array_equal(load(tmp_path, encoded(image), channel_order="BGR"), image[:, :, ::-1])


@pytest.mark.parametrize("resampling", ["bilinear", "lanczos", "nearest"])
def test_resizing_is_pillows(tmp_path, resampling):
    """Resized pixels are those of Pillow's filter of that name, height and width in the right order."""
    image = pixels(2)
    expected = Image.fromarray(image).resize((11, 7), Image.Resampling[resampling.upper()])
    found = load(tmp_path, encoded(image), size=(7, 11), resampling=resampling)
    assert found.shape == (7, 11, 3)
    assert np.array_equal(found, np.asarray(expected))


def test_greyscale_and_colour(tmp_path):
    """Greyscale becomes three equal channels, colour becomes luma when one channel is wanted."""
    grey, colour = pixels(3, channels=1), pixels(4)
    assert np.array_equal(load(tmp_path, encoded(grey)), np.repeat(grey[:, :, None], 3, axis=2))
    assert np.array_equal(load(tmp_path, encoded(grey), channels=1), grey[:, :, None])
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(load(tmp_path, encoded(colour), channels=1)[:, :, 0] - luma).max() <= 1  # rounding


def test_palette(tmp_path):
    """A palette image shows the palette's colours, a transparent entry of it white."""
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    expected = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]]
    assert load(tmp_path, encoded(image), size=(2, 2)).tolist() == expected
    expected[0][1] = [255, 255, 255]
    assert load(tmp_path, encoded(image, transparency=1), size=(2, 2)).tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(tmp_path, mode):
    """Transparent pixels are white, half-transparent ones half way, whatever colour hides behind."""
    colours = [[0, 0], [0, 128], [0, 255]] if mode == "LA" else [[0, 0, 0, 0], [0, 0, 0, 128], [0, 0, 0, 255]]
    image = Image.fromarray(np.array([colours], np.uint8), mode=None)
    assert image.mode == mode
    assert load(tmp_path, encoded(image), size=(1, 3))[0, :, 0].tolist() == [255, 127, 0]


def test_sixteen_bits(tmp_path):
    """16-bit greyscale is scaled to 8 bits over its whole range, not cut off."""
    image = Image.fromarray(np.array([[0, 128, 129, 257, 32_896, 65_535]], np.uint16))
    assert load(tmp_path, encoded(image), size=(1, 6), channels=1).ravel().tolist() == [0, 0, 1, 1, 128, 255]


def test_one_bit_and_cmyk(tmp_path):
    """Black-and-white and CMYK images become ordinary pixels."""
    assert load(tmp_path, encoded(Image.new("1", (2, 2), 1)), size=(2, 2)).min() == 255
    white = load(tmp_path, encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG"), size=(2, 2))
    black = load(tmp_path, encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG"), size=(2, 2))
    assert white.min() > 250
    assert black.max() < 5


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turn(tmp_path, turn):
    """An image is shown as its camera was held: pixels stored turned come out upright."""
    upright = Image.fromarray(pixels(5))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[turn]) if turn in undo else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    assert np.array_equal(load(tmp_path, encoded(stored, exif=exif)), np.asarray(upright))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_no_harm(tmp_path):
    """A JPEG with a broken EXIF block is taken as upright."""
    image = load(tmp_path, encoded(pixels(6), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert np.abs(image.astype(int) - pixels(6)).mean() < 4  # JPEG's own error at that quality is about 2


def test_large_jpeg_is_decoded_small(tmp_path):
    """A JPEG many times larger than the target is decoded at reduced scale and differs little from the full way."""
    large = pixels(7, height=800, width=960)
    data = encoded(large, "JPEG", quality=95)
    full = np.asarray(Image.fromarray(large).resize((24, 20), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(load(tmp_path, data) - full).mean() < 2  # grey levels; the picture spans 256
    turned = np.asarray(Image.fromarray(large).transpose(Image.Transpose.ROTATE_90))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.abs(load(tmp_path, encoded(turned, "JPEG", quality=95, exif=exif)) - full).mean() < 2


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("size", [(300, 300), (320, 200), (160, 190), (100, 159), (79, 80), (64, 1), (5, 7)])
def test_reduced_scale_is_the_smallest_that_is_large_enough(tmp_path, monkeypatch, size, turn):
    """A JPEG is decoded at the smallest of 1, 1/2, 1/4, 1/8 that leaves 1.25 times the target in both directions."""
    stored, wanted = (400, 640), size if turn == 1 else size[::-1]
    exif = Image.Exif()
    exif[0x0112] = turn
    resize, seen = Image.Image.resize, []
    monkeypatch.setattr(Image.Image, "resize", lambda self, *args: seen.append(self.size) or resize(self, *args))
    load(tmp_path, encoded(np.zeros((*stored, 3), np.uint8), "JPEG", exif=exif), size=wanted)
    room = min(have / (1.25 * want) for have, want in zip(stored, size, strict=True))
    enough = [scale for scale in (8, 4, 2) if scale <= room]
    expected = tuple(have // (enough or [1])[0] for have in (stored if turn == 1 else stored[::-1]))
    assert seen == [expected[::-1]]


@pytest.mark.parametrize("target", [200, 220, 256, 300, 400, 409, 500, 512, 600, 819, 900])
def test_reduced_scale_aliases_less_than_pillows_hamming_filter(tmp_path, target):
    """Where a zone plate is finer than the target can show, reduced decoding leaves less of it than Hamming's filter.

    That filter is one of those that Pillow recommends for making images smaller. At just the target's size, without
    the rest of 1.25 that is left to the filter, there would be half as much again (of 512).
    """
    side = 2048
    distance = np.hypot(*(np.mgrid[0:side, 0:side] - side / 2))
    plate = (127.5 + 110 * np.cos(np.pi / side * distance**2)).astype(np.uint8)
    # In cycles a target pixel, the frequency at a distance d from the middle is d / side * side / target.
    shown = np.hypot(*(np.mgrid[0:target, 0:target] - target / 2))
    radius = shown * side / target
    too_fine = (radius / target > 0.6) & (radius < side / 2)
    data = encoded(np.repeat(plate[:, :, None], 3, axis=2), "JPEG", quality=95)
    found = load(tmp_path, data, size=(target, target))[:, :, 0]
    hamming = np.asarray(Image.fromarray(plate).resize((target, target), Image.Resampling.HAMMING))
    assert found[too_fine].std() < hamming[too_fine].std()


@pytest.mark.parametrize("options", [{}, {"subsampling": 2}, {"keep_rgb": True}])
def test_grey_of_a_colour_jpeg_is_its_luma(tmp_path, options):
    """One channel of a JPEG is its luma, taken from the file without decoding the colours, within JPEG's rounding."""
    image = pixels(9) // 2 + 64  # muted, so that no colour is cut off at 0 or 255
    data = encoded(image, "JPEG", quality=95, **options)
    luma = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) @ np.array([0.299, 0.587, 0.114])
    # Red, green and blue are each rounded, by half a level at most, and their weights add up to 1.
    assert np.abs(load(tmp_path, data, channels=1)[:, :, 0] - luma).max() <= 0.51


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"])
def test_truncated_files_are_errors(tmp_path, form):
    """A file cut anywhere is an error or gives the whole image's pixels, never grey rows."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    data = encoded(image, form)
    whole = load(tmp_path, data)
    refused = []
    for length in [*range(0, len(data), 64), len(data) - 1]:
        try:
            found = load(tmp_path, data[:length])
        except DataError as error:
            refused.append(str(error))
        else:
            assert np.array_equal(found, whole), f"cut at {length} of {len(data)}"
    assert refused
    assert not any("\n" in text for text in refused)


def png(header, packed):
    """Return a PNG of (width, height, bits, colour type, interlaced) and compressed rows, in two pieces."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height, bits, kind, interlaced = header
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))]
    if kind == 3:
        parts.append(chunk(b"PLTE", bytes(range(6))))
    parts += [chunk(b"IDAT", packed[:9]), chunk(b"IDAT", packed[9:]), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rows_of_png(header, value):
    """Return the rows of a PNG with ``value`` in every byte, each after its filter's number, as a list."""
    width, height, bits, kind, interlaced = header
    places = np.arange(height * width).reshape(height, width)
    adam7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    passes = [places[y::dy, x::dx] for y, dy, x, dx in adam7] if interlaced else [places]
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    return [bytes([0] + [value] * -(-len(row) * bits * channels // 8)) for part in passes for row in part if row.size]


KINDS = [(bits, 0) for bits in (1, 2, 4, 8, 16)] + [(8, 2), (16, 2), (1, 3), (8, 4), (16, 4), (8, 6), (16, 6)]


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("shape", [(24, 20), (3, 2), (1, 1), (9, 17)])
@pytest.mark.parametrize(("bits", "kind"), KINDS)
def test_a_png_with_too_few_rows_is_truncated(shape, bits, kind, interlaced):
    """Whole rows that are missing, which Pillow takes for black ones, are an error; black rows that are there, not."""
    header = (*shape, bits, kind, interlaced)
    for value in (0, 1):
        rows = rows_of_png(header, value)
        if value == 0 or kind != 3:
            assert Decoder(SIZE).decode(png(header, zlib.compress(b"".join(rows)))).shape == (*SIZE, 3)
        for count in range(len(rows)):
            with pytest.raises(DataError, match="truncated"):
                Decoder(SIZE).decode(png(header, zlib.compress(b"".join(rows[:count]))))


def test_a_png_that_loses_rows_to_a_wrong_checksum_is_damaged():
    """An image whose data have a wrong checksum is refused, and not taken without its last rows."""
    image = np.random.default_rng(0).integers(1, 256, (600, 1500), np.uint8)
    packed = bytearray(zlib.compress(b"".join(b"\0" + row.tobytes() for row in image)))
    packed[-1] ^= 1
    with pytest.raises(DataError, match="broken data stream"):
        Decoder(SIZE).decode(png((500, 600, 8, 2, 0), packed))


def png_that_claims(width, height):
    """Return a PNG of a few bytes that declares a huge image."""
    return png((width, height, 8, 2, 0), zlib.compress(bytes(1000)))


@pytest.mark.parametrize("size", [(13_000, 13_000), (60_000, 60_000), (50_000, 1001), (9000, 9950)])
def test_bombs_are_refused(tmp_path, size):
    """An image that claims more than the limit of pixels is refused before it is decoded."""
    assert size[0] * size[1] > MOST_PIXELS
    with pytest.raises(DataError, match=r"claims .*more than|more than .* pixels"):
        load(tmp_path, png_that_claims(*size))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image at all",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xff\xd8\xff\xe0 JPEG's beginning and nothing else",
    ],
)
def test_files_that_are_no_images(tmp_path, data):
    """Empty files, text, EPS (which would start another program) and SVG are refused, whatever they are called."""
    with pytest.raises(DataError, match=r"empty|not an image of a known format|cannot be decoded"):
        load(tmp_path, data)


def test_tiff_is_refused(tmp_path):
    """A TIFF named .jpg is refused: only the formats of the list are tried."""
    with pytest.raises(DataError, match="not an image of a known format"):
        load(tmp_path, encoded(pixels(1), "TIFF"))


def test_places_that_are_no_files(tmp_path):
    """Pipes, folders, sockets, devices and missing files are refused at once, without waiting for data."""
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(tmp_path / "socket"))
    for name in ("pipe", "socket", ".", "missing", "/dev/zero"):
        with pytest.raises(DataError, match=r"not a regular file|cannot be read|no such file"):
            load_image(tmp_path / name, size=SIZE)
    server.close()


def test_links_can_be_refused(tmp_path):
    """A link that takes a checked file's place afterwards is not followed."""
    (tmp_path / "real").write_bytes(encoded(pixels(1)))
    (tmp_path / "link").symlink_to("real")
    assert read_image(tmp_path / "link") == read_image(tmp_path / "real", follow_links=False)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "link", follow_links=False)


def test_links_in_the_middle_are_refused_too(tmp_path):
    """A folder of a checked path that is exchanged for a link, again and again, never leads to the other file."""
    for folder, name in (("inside", "a"), ("outside", "b")):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "x").write_bytes(name.encode())
    path = str(tmp_path / "inside" / "deep" / "x")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    done = threading.Event()

    def exchange():
        while not done.is_set():
            (tmp_path / "inside").rename(tmp_path / "kept")
            (tmp_path / "link").rename(tmp_path / "inside")
            (tmp_path / "inside").rename(tmp_path / "link")
            (tmp_path / "kept").rename(tmp_path / "inside")

    thread = threading.Thread(target=exchange)
    thread.start()
    found, refused = set(), 0
    for tries in range(100_000):
        if tries >= 3000 and found and refused:
            break
        try:
            found.add(read_image(path, follow_links=False))
        except DataError:
            refused += 1
    done.set()
    thread.join()
    assert found == {b"a"}
    assert refused > 0


def test_decoder_is_plain_data():
    """A decoder compares by value and gives the same pixels every time."""
    data = encoded(pixels(8), "JPEG")
    assert Decoder(SIZE) == Decoder(SIZE)
    assert np.array_equal(Decoder(SIZE).decode(data), Decoder(SIZE).decode(data))


def test_a_png_that_claims_more_than_its_bytes_can_hold():
    """A header that promises millions of pixels before a hundred bytes is refused before room is made for them."""
    data = bytearray(encoded(pixels(1), "PNG"))
    data[20:24] = (1 << 20).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"claims 24 x 1,048,576 pixels, which \d+ bytes cannot hold"):
        Decoder((20, 20)).decode(bytes(data))


@pytest.mark.parametrize("image", [np.zeros((2000, 3000, 3), np.uint8), np.zeros((3000, 4000), bool)], ids=["RGB", "1"])
def test_an_empty_png_is_no_bomb(image):
    """What packs best, pixels that are all the same, is within what a file may claim."""
    data = encoded(Image.fromarray(image), "PNG", optimize=True)
    assert Decoder((20, 20)).decode(data).max() == 0
