"""Blank figures and how they reach the disk: no screen, no pyplot, no global state, whole files only."""

from __future__ import annotations

import contextlib
import logging
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp import files, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Place = Path | BytesIO
"""Where a drawing goes: a file, or memory."""
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9")
"""Colours that people with any common colour blindness tell apart (Okabe and Ito)."""
DPI = 128
"""A power of two, so that a figure of so many pixels / DPI has exactly these pixels."""
MAX_NAME = 32


def new_figure(width: float, height: float, *, exact: bool = False) -> Figure:
    """Return an empty figure of that many inches.

    It lays its parts out so that nothing overlaps, and grows where text needs more room; with ``exact`` it leaves
    both to its user.
    """
    # Without a writable home folder matplotlib warns on import and then helps itself with a temporary folder.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and most commands draw nothing
    finally:
        logger.setLevel(level)
    return Figure(figsize=(width, height), dpi=DPI, layout=None if exact else "constrained", facecolor="white")


def save(figure: Figure, place: Place) -> None:
    """Replace a file by the drawing, in the format of its suffix (png, svg, pdf), or write a PNG into memory.

    The same drawing gives the same bytes. ``OutputError`` if the file cannot be written.
    """
    kind = "png" if isinstance(place, BytesIO) else place.suffix[1:]
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    box = "tight" if figure.get_layout_engine() is not None else None
    with opened(place) as target, _boxes_for_letters(), _names_by_content():
        figure.savefig(target, format=kind, bbox_inches=box, pad_inches=0.15, metadata=undated)


@contextlib.contextmanager
def opened(place: Place) -> Iterator[BytesIO]:
    """Where to write what shall become ``place``: that memory itself, or some that is then written to the file."""
    if isinstance(place, BytesIO):
        yield place
    else:
        buffer = BytesIO()
        yield buffer
        files.write_atomically(place, buffer.getbuffer())


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return the drawing without its background, as (H, W, 4) of red, green, blue and opacity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to import, see above

    figure.patch.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    with _boxes_for_letters():
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _boxes_for_letters() -> Iterator[None]:
    """Let a class name in a script that the font lacks be drawn as boxes; that is no reason to stop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


@contextlib.contextmanager
def _names_by_content() -> Iterator[None]:
    """Let an SVG name its parts by what they are, not by chance."""
    from matplotlib import rcParams  # noqa: PLC0415 - slow to import, see above

    before = rcParams["svg.hashsalt"]
    rcParams["svg.hashsalt"] = "lenet_mp"
    try:
        yield
    finally:
        rcParams["svg.hashsalt"] = before


def plain(axes: Axes, *, grid: bool = False) -> None:
    """Take away the box around ``axes``; add faint horizontal lines if asked."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)


def text(value: str, limit: int = MAX_NAME) -> str:
    """Shorten ``value`` in its middle to at most ``limit`` characters, on one line."""
    value = tables.readable(" ".join(value.split()))
    if len(value) <= limit:
        return value
    tail = limit // 3
    return f"{value[: limit - tail - 1]}…{value[-tail:]}"


PLAIN_TEXT: dict[str, Any] = {"parse_math": False}
"""For text that comes from users: a class called ``$100`` is no formula."""
