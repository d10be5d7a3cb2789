"""What augmentation does, by definition, on whole images: the draws from NumPy's own Philox, the pixels by indexing."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LEAST_ERASED, MOST_RATIO = 0.02, 3.3


class Draw(NamedTuple):
    """What becomes of one sample; brightness and contrast in 256ths."""

    flipped: bool
    dy: int
    dx: int
    brightness: int
    contrast: int
    rectangle: tuple[slice, slice] | None


def below(word, n):
    return int(word >> np.uint64(32)) * n >> 32


def happens(word, probability):
    return below(word, 1 << 16) < round(probability * (1 << 16))


def draw(augmentation, seed, epoch, sample, shape):
    """Draw for one sample, by its number."""
    words = np.random.Philox(key=[seed, epoch], counter=[0, sample, 1, 0]).random_raw(12)
    height, width = shape[:2]

    def around_zero(word, largest):
        return below(word, 2 * largest + 1) - largest

    rows, columns = augmentation.padding(shape)
    return Draw(
        flipped=happens(words[0], augmentation.flip),
        dy=around_zero(words[1], rows),
        dx=around_zero(words[2], columns),
        brightness=256 + around_zero(words[3], round(256 * augmentation.brightness)),
        contrast=256 + around_zero(words[4], round(256 * augmentation.contrast)),
        rectangle=rectangle(words, augmentation, height, width) if happens(words[5], augmentation.erase) else None,
    )


def rectangle(words, augmentation, height, width):
    least = max(1, round(LEAST_ERASED * height * width))
    most = max(least, round(augmentation.erase_area * height * width))
    area = least + below(words[6], most - least + 1)
    ratio = 65536 + below(words[7], round(MOST_RATIO * 65536) - 65536 + 1)
    longer = max(1, math.isqrt(area * ratio) // 256)
    sides = (longer, max(1, area // longer))
    rows, columns = sides if happens(words[8], 0.5) else sides[::-1]
    rows, columns = min(rows, height), min(columns, width)
    top, left = below(words[9], height - rows + 1), below(words[10], width - columns + 1)
    return slice(top, top + rows), slice(left, left + columns)


def jitter(image, brightness, contrast):
    """Brightness * (mean + contrast * (pixel - mean)) in integers; a pixel stands for the middle of its value."""
    height = len(image)
    rows = min(height, 16)
    chosen = [(2 * i + 1) * height // (2 * rows) for i in range(rows)]
    mean = int(image[chosen].sum(dtype=np.int64)) // image[chosen].size
    gain = (brightness * contrast + 128) >> 8
    shift = (brightness * (256 - contrast) * mean + (1 << 15)) >> 16
    return np.clip(((image.astype(np.int64) * 256 + 128) * gain >> 16) + shift, 0, 255).astype(np.uint8)


def augment(image, augmentation, seed, epoch, sample, fill):
    """Return the image (H, W, C) as training sees it."""
    height, width = image.shape[:2]
    d = draw(augmentation, seed, epoch, sample, image.shape)
    changed = jitter(image, d.brightness, d.contrast)
    changed = changed[:, ::-1] if d.flipped else changed
    padded = np.pad(changed, ((height, height), (width, width), (0, 0)), constant_values=fill)
    result = padded[height + d.dy : 2 * height + d.dy, width + d.dx : 2 * width + d.dx].copy()
    if d.rectangle:
        result[d.rectangle] = fill
    return result
