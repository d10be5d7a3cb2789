"""How a uint8 pixel becomes a float: ``pixel * scale + offset``, with constants that no batch can change.

The range of the pixels is taken as 0..255 for every image. A range measured per batch would make a sample's
value depend on its neighbours, and the result on how samples are grouped.
"""

from __future__ import annotations

from lenet_mp.errors import UsageError

RANGES = {"0p1": (0.0, 1.0), "n1p1": (-1.0, 1.0), "lenet5": (-0.1, 1.175)}
"""Value of a black (0) and a white (255) pixel. ``lenet5`` is the range of LeCun et al. (1998), section II.B."""
DEFAULT = "n1p1"


def scale_and_offset(name: str) -> tuple[float, float]:
    """Constants of the normalisation called ``name``, one of ``RANGES``; ``UsageError`` for any other name."""
    try:
        low, high = RANGES[name]
    except KeyError:
        raise UsageError(f"unknown normalisation '{name}': choose one of {', '.join(RANGES)}") from None
    return (high - low) / 255, low
