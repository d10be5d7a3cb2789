"""A contact sheet: one row a class, a few of its images in each, for eyes to see what no checksum does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp.results import figures
from lenet_mp.results.figures import PLAIN_TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TILE, GAP, MARGIN, TITLE = 72, 4, 16, 36  # pixels
NAMES = 240
"""Pixels for a class name."""
MOST_CLASSES = 100
"""Of more classes, so many are shown, evenly spread."""


def shown_classes(classes: int) -> list[int]:
    """Classes that a sheet shows: all, or ``MOST_CLASSES`` evenly spread ones."""
    if classes <= MOST_CLASSES:
        return list(range(classes))
    return [round(place) for place in np.linspace(0, classes - 1, MOST_CLASSES)]


def draw(rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], path: Path, *, title: str) -> None:
    """Draw named rows of (H, W, 3) or (H, W, 1) images in RGB; ``path`` is replaced atomically.

    Parameters
    ----------
    rows : class name and its images, each row at most as long as the longest
    path : Path
        PNG file.
    title : str
    """
    columns = max(len(images) for _, images in rows)
    width = 2 * MARGIN + NAMES + columns * (TILE + GAP)
    height = TITLE + MARGIN + len(rows) * (TILE + GAP)
    paper = np.full((height, width, 3), 255, np.uint8)
    figure = figures.new_figure(width / figures.DPI, height / figures.DPI, exact=True)
    figure.text(MARGIN / width, 1 - TITLE / 2 / height, title, fontsize=8, va="center", weight="bold", **PLAIN_TEXT)
    for row, (name, images) in enumerate(rows):
        top = TITLE + row * (TILE + GAP)
        middle = 1 - (top + TILE / 2) / height
        figure.text(MARGIN / width, middle, figures.text(name), fontsize=6.5, va="center", **PLAIN_TEXT)
        for column, image in enumerate(images):
            left = MARGIN + NAMES + column * (TILE + GAP)
            tile = _fitted(image)
            paper[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    figure.figimage(paper, origin="upper")
    figures.save(figure, path)


def _fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as (at most TILE, at most TILE, 3), its aspect kept."""
    height, width, _ = image.shape
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    colour = np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)))
    # Small images are enlarged as squares of pixels, so that one sees what is stored.
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(colour).resize(size, resampling))
