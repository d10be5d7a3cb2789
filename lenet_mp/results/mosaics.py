"""Many small pictures in one: a grid of tiles, every value a square of whole pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp.results import figures
from lenet_mp.results.figures import PLAIN_TEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lenet_mp.results.figures import Place

MAX_TILES = 256
"""Of a layer with more maps than this, the first ones are drawn."""
COLOR_MAP = "viridis"
MARGIN, GAP, TITLE, LABEL, BAR = 16, 10, 36, 18, 84  # pixels
ROOMY = 120
"""A tile of so many pixels has room for its value range above it."""
LARGEST_TILE, GRID_WIDTH = 320, 960


@dataclass(frozen=True)
class Grid:
    """Where tiles lie in a picture; pixels, from the top left.

    Attributes
    ----------
    columns, rows : int
    tile : (height, width)
    zoom : int
        Pixels a value has on each side.
    step : int
        Above 1, only every so many-th value of a very large tile is drawn.
    """

    columns: int
    rows: int
    tile: tuple[int, int]
    zoom: int
    step: int

    @classmethod
    def fit(cls, count: int, height: int, width: int) -> Grid:
        """Choose a grid a little wider than high for ``count`` tiles of (height, width) values, with few gaps."""
        wanted = math.sqrt(1.5 * count)
        choices = range(math.ceil(math.sqrt(count)), max(math.ceil(2 * math.sqrt(count)), 1) + 1)
        columns = min(choices, key=lambda n: (-count % n, abs(n - wanted)))
        side = max(height, width)
        room = min(LARGEST_TILE, max(24, GRID_WIDTH // columns))
        step = math.ceil(side / LARGEST_TILE)
        zoom = max(1, room // math.ceil(side / step))
        tile = (math.ceil(height / step) * zoom, math.ceil(width / step) * zoom)
        return cls(columns, -(-count // columns), tile, zoom, step)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the grid with its labels."""
        height, width = self.tile
        return self.rows * (height + LABEL + GAP), self.columns * (width + GAP) - GAP

    def corner(self, index: int) -> tuple[int, int]:
        """(top, left) of a tile."""
        row, column = divmod(index, self.columns)
        top = TITLE + row * (self.tile[0] + LABEL + GAP) + LABEL
        return top, MARGIN + column * (self.tile[1] + GAP)


class _Sheet:
    """White paper of exactly so many pixels; tiles are put down as an array, text on top of it."""

    def __init__(self, grid: Grid, title: str, *, right: int = 0) -> None:
        height, width = grid.size
        # A title that is wider than the grid needs its own room: about 8.5 pixels a letter.
        width = max(width + right, math.ceil(8.5 * len(title))) + 2 * MARGIN
        height += TITLE + MARGIN - GAP
        self._grid = grid
        self._paper = np.full((height, width, 3), 255, np.uint8)
        self._figure = figures.new_figure(width / figures.DPI, height / figures.DPI, exact=True)
        self.write(MARGIN, TITLE / 2 + 2, title, size=8, align="center", weight="bold")

    def tile(self, index: int, pixels: NDArray[np.uint8], label: str = "") -> None:
        """Put (H, W, 3) pixels down as tile number ``index``, enlarged, with ``label`` above."""
        grid = self._grid
        top, left = grid.corner(index)
        shown = pixels[:: grid.step, :: grid.step]
        self.put(top, left, shown.repeat(grid.zoom, axis=0).repeat(grid.zoom, axis=1))
        self.write(left, top - 3, label)

    def put(self, top: int, left: int, pixels: NDArray[np.uint8]) -> None:
        """Put pixels down as they are."""
        self._paper[top : top + len(pixels), left : left + pixels.shape[1]] = pixels

    def write(
        self, left: float, y: float, text: str, *, size: float = 6.5, align: str = "bottom", weight: str = "normal"
    ) -> None:
        """Write ``text`` at so many pixels from the left and the top."""
        height, width, _ = self._paper.shape
        x, y = left / width, 1 - y / height
        self._figure.text(x, y, text, fontsize=size, va=align, fontweight=weight, **PLAIN_TEXT)

    def save(self, place: Place) -> None:
        """Draw the sheet, as a PNG."""
        # The figure has only the text: images in it would take matplotlib a hundred bytes a pixel.
        text = Image.fromarray(figures.pixels(self._figure))
        sheet = Image.fromarray(self._paper)
        sheet.paste(text, mask=text)
        with figures.opened(place) as target:
            sheet.save(target, format="png")


def draw_maps(maps: NDArray[np.floating], place: Place, *, title: str) -> None:
    """Draw (H, W, C) values as C numbered maps on one colour scale, to a file or into memory.

    Values that are not finite are drawn red.
    """
    shown = np.moveaxis(maps[:, :, :MAX_TILES], 2, 0)
    limits = value_range(shown)
    grid = Grid.fit(*shown.shape)
    sheet = _Sheet(grid, title, right=BAR)
    for index, (values, pixels) in enumerate(zip(shown, _colored(shown, limits), strict=True)):
        low, high = value_range(values)
        spread = f"  {low:.2f} to {high:.2f}" if grid.tile[1] >= ROOMY else ""
        sheet.tile(index, pixels, f"{index + 1}{spread}")
    _draw_bar(sheet, grid, limits)
    sheet.save(place)


def draw_pictures(pictures: NDArray[np.uint8], place: Place, *, title: str) -> None:
    """Draw (N, H, W, 3) or (N, H, W, 1) pictures, numbered if there are several."""
    shown = pictures[:MAX_TILES]
    sheet = _Sheet(Grid.fit(*shown.shape[:3]), title)
    for index, picture in enumerate(shown):
        sheet.tile(index, np.broadcast_to(picture, (*picture.shape[:2], 3)), f"{index + 1}" if len(shown) > 1 else "")
    sheet.save(place)


def value_range(values: NDArray[np.floating]) -> tuple[float, float]:
    """Lowest and highest finite value; zeros where no value is finite."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _colored(values: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Give values of any shape the colours of the scale from ``limits[0]`` to ``limits[1]``, as (..., 3) uint8."""
    from matplotlib import colormaps  # noqa: PLC0415 - slow to import

    low, high = limits
    scale = colormaps[COLOR_MAP].with_extremes(bad="red")
    shares = (np.where(np.isfinite(values), values, np.nan).astype(np.float64) - low) / ((high - low) or 1)
    colors: NDArray[np.uint8] = scale(np.ma.masked_invalid(shares), bytes=True)[..., :3]
    return colors


def _draw_bar(sheet: _Sheet, grid: Grid, limits: tuple[float, float]) -> None:
    """Draw the colour scale right of the grid, with its lowest, middle and highest value."""
    top, left = TITLE + LABEL, MARGIN + grid.size[1] + 14
    height = min(grid.size[0] - LABEL - GAP, 300)
    ramp = np.linspace(limits[1], limits[0], height)
    sheet.put(top, left, _colored(ramp, limits)[:, np.newaxis].repeat(14, axis=1))
    roomy = height > 3 * LABEL
    for share, align in ((0, "top"), (0.5, "center"), (1, "bottom")) if roomy else ((0, "top"), (1, "bottom")):
        value = limits[1] + share * (limits[0] - limits[1])
        sheet.write(left + 20, top + share * height, f"{value:.3g}", align=align)
