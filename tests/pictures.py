"""Small real image files and lists of them, for tests of the preparation."""

import io

import numpy as np
from PIL import Image


def pixels(seed, height=20, width=24, channels=3):
    """Return smooth random pixels, (H, W, C) or (H, W) uint8, that survive JPEG nearly unchanged."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 3, channels), np.uint8)
    image = Image.fromarray(coarse[:, :, 0] if channels == 1 else coarse)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def encoded(image, form="PNG", **options):
    """Return the bytes of an image file of pixels or of a Pillow image."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write_picture(path, seed=0, **shape):
    """Write an image in the format of the path's suffix; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "JPEG" if path.suffix.lower() in {".jpg", ".jpeg"} else "PNG"
    path.write_bytes(encoded(pixels(seed, **shape), form))
    return path


def write_lists(folder, counts=(11, 4, 3), classes=3):
    """Write images of `classes` classes and the three lists of them; return the lists' paths."""
    lists, seed = [], 0
    for name, count in zip(("train", "val", "test"), counts, strict=True):
        lines = []
        for number in range(count):
            suffix = ".jpg" if number % 2 else ".png"
            picture = write_picture(folder / name / f"picture {number}{suffix}", seed)
            lines.append(f"{picture.relative_to(folder)} {number % classes}\n")
            seed += 1
        path = folder / f"{name}.txt"
        path.write_text("".join(lines))
        lists.append(path)
    return lists
