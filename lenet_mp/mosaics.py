"""Many small pictures in one: a grid of tiles, every value a square of whole pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import figures
from lenet_mp.figures import PLAIN_TEXT

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

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


def draw_maps(maps: NDArray[np.floating], path: Path, *, title: str) -> None:
    """Draw (H, W, C) values as C numbered maps on one colour scale; ``path`` is replaced atomically.

    Values that are not finite are drawn red.
    """
    shown = np.moveaxis(maps[:, :, :MAX_TILES], 2, 0)
    limits = value_range(shown)
    grid = Grid.fit(*shown.shape)
    figure, axes = _canvas(grid, title, right=BAR)
    for index, values in enumerate(shown):
        _draw_tile(axes, grid, index, values, limits)
        low, high = value_range(values)
        spread = f"  {low:.2f} to {high:.2f}" if grid.tile[1] >= ROOMY else ""
        _label(axes, grid, index, f"{index + 1}{spread}")
    _draw_bar(axes, grid, limits)
    figures.save(figure, path)


def draw_pictures(pictures: NDArray[np.generic], path: Path, *, title: str) -> None:
    """Draw (N, H, W, 3) or (N, H, W, 1) pictures, uint8 or floats from 0 to 1, numbered if there are several."""
    shown = pictures[:MAX_TILES]
    grid = Grid.fit(*shown.shape[:3])
    figure, axes = _canvas(grid, title)
    for index, picture in enumerate(shown):
        _draw_tile(axes, grid, index, np.broadcast_to(picture, (*picture.shape[:2], 3)), None)
        if len(shown) > 1:
            _label(axes, grid, index, f"{index + 1}")
    figures.save(figure, path)


def value_range(values: NDArray[np.floating]) -> tuple[float, float]:
    """Lowest and highest finite value; zeros where no value is finite."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _canvas(grid: Grid, title: str, *, right: int = 0) -> tuple[Figure, Axes]:
    """Return a new figure and axes that cover it and count its pixels from the top left, with the title on them."""
    height, width = grid.size
    # A title that is wider than the grid needs its own room: about 8.5 pixels a letter.
    width = max(width + right, math.ceil(8.5 * len(title))) + 2 * MARGIN
    height += TITLE + MARGIN - GAP
    figure = figures.new_figure(width / figures.DPI, height / figures.DPI, exact=True)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    axes.text(MARGIN, TITLE / 2 + 2, title, fontsize=8, va="center", fontweight="bold", **PLAIN_TEXT)
    return figure, axes


def _draw_tile(
    axes: Axes, grid: Grid, index: int, values: NDArray[np.generic], limits: tuple[float, float] | None
) -> None:
    from matplotlib import colormaps  # noqa: PLC0415

    top, left = grid.corner(index)
    bottom, right = top + grid.tile[0], left + grid.tile[1]
    low, high = limits or (None, None)
    axes.imshow(
        values[:: grid.step, :: grid.step],
        extent=(left, right, bottom, top),
        cmap=colormaps[COLOR_MAP].with_extremes(bad="red"),
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="auto",
    )


def _label(axes: Axes, grid: Grid, index: int, text: str) -> None:
    top, left = grid.corner(index)
    axes.text(left, top - 3, text, fontsize=6.5, va="bottom", color="#333333", **PLAIN_TEXT)


def _draw_bar(axes: Axes, grid: Grid, limits: tuple[float, float]) -> None:
    """Draw the colour scale right of the grid, with its lowest, middle and highest value."""
    low, high = limits
    top = TITLE + LABEL
    bottom = top + min(grid.size[0] - LABEL - GAP, 300)
    left = MARGIN + grid.size[1] + 14
    ramp = np.linspace(1, 0, 128)[:, np.newaxis]
    axes.imshow(ramp, extent=(left, left + 14, bottom, top), cmap=COLOR_MAP, vmin=0, vmax=1, aspect="auto")
    room = (bottom - top) // 3 > LABEL
    for share in (0, 0.5, 1) if room else (0, 1):
        y = bottom + share * (top - bottom)
        align = {0: "bottom", 0.5: "center", 1: "top"}[share]
        axes.text(left + 20, y, f"{low + share * (high - low):.3g}", fontsize=6.5, va=align, **PLAIN_TEXT)
