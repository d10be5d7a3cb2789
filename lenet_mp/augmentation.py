"""Which changes of training images are drawn: the option ``--augment``, read, checked and told. The C core makes them.

Every sample's changes follow from seed, epoch and the sample's number in the data set alone (csrc/augment.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet_mp.networks.geometry import Shape

NONE = "none"
LEAST_ERASED, MOST_RATIO = 0.02, 3.3
"""An erased rectangle's smallest share of the image, and largest ratio of its sides: torchvision's RandomErasing."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to an image; zeros change nothing.

    Attributes
    ----------
    flip : float
        Probability of a mirror image, left for right.
    crop : float
        Largest shift in each direction: whole pixels from 1 on, below that a share of the image's height and width.
    brightness, contrast : float
        Largest change of the factor from 1. Brightness multiplies every pixel, contrast its distance from the image's
        mean.
    erase, erase_area : float
        Probability that a rectangle is erased, and the largest share of the image that it covers.
    """

    flip: float = 0.0
    crop: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase: float = 0.0
    erase_area: float = 0.33

    def __bool__(self) -> bool:
        return bool(self.flip or self.crop or self.brightness or self.contrast or self.erase)

    def padding(self, shape: Shape) -> tuple[int, int]:
        """Return the largest shift in rows and columns of images of ``shape`` (H, W, C).

        Raises
        ------
        UsageError
            If it could leave nothing of an image.
        """
        height, width = shape[:2]
        rows, columns = (int(self.crop if self.crop >= 1 else self.crop * size) for size in (height, width))
        if rows >= height or columns >= width:
            raise UsageError(
                f"--augment crop={self.crop:g} could leave nothing of an image of {height} x {width} pixels: "
                "give fewer pixels, or a share such as crop=12%"
            )
        return rows, columns

    def describe(self, shape: Shape) -> str:
        """Say in words what may happen to an image of ``shape``; nothing at all is an empty text."""
        rows, columns = self.padding(shape)
        pixels = f"{rows}" if rows == columns else f"{rows} rows and {columns} columns of"
        parts = [f"mirrored with probability {self.flip:g}"] if self.flip else []
        parts += [f"cropped at random out of a border of {pixels} pixels"] if self.crop else []
        parts += [f"brightness times {_span(self.brightness)}"] if self.brightness else []
        parts += [f"contrast times {_span(self.contrast)}"] if self.contrast else []
        area = f"{LEAST_ERASED:.3g} to {self.erase_area:.3g} of its area"
        parts += [f"{area} erased with probability {self.erase:g}"] if self.erase else []
        return ", ".join(parts)


class Augment(NamedTuple):
    """How one step changes its images; ``samples`` (n,) int64 are their numbers in the data set."""

    augmentation: Augmentation
    seed: int
    epoch: int
    samples: NDArray[np.int64]


class _Parameter(NamedTuple):
    """A parameter of a kind: the field that it sets, what it is without a value, and its range."""

    field: str
    default: float | str
    low: float
    high: float


_KINDS = {
    "flip": (_Parameter("flip", 0.5, 0, 1),),
    "crop": (_Parameter("crop", 0.125, 0, 1 << 15),),
    "jitter": (_Parameter("brightness", 0.4, 0, 1), _Parameter("contrast", "brightness", 0, 1)),
    "erase": (_Parameter("erase", 0.5, 0, 1), _Parameter("erase_area", 0.33, LEAST_ERASED, 1)),
}
KINDS = tuple(_KINDS)


def parse(text: str) -> Augmentation:
    """Read ``none``, or kinds with their parameters, as in ``flip,crop=8,jitter=0.4:0.2,erase=0.5:0.33``.

    Between them is a comma, or a plus, for texts in which a comma already has its use.

    These are ``flip=PROBABILITY`` (0.5), ``crop=PIXELS`` or ``crop=SHARE%`` (12.5%), ``jitter=BRIGHTNESS:CONTRAST``
    (0.4, and contrast like brightness), ``erase=PROBABILITY:AREA`` (0.5 and 0.33). Any share may be written with %.

    Raises
    ------
    UsageError
        For an unknown kind, one that is named twice, and parameters that are too many or out of range.
    """
    if text == NONE:
        return Augmentation()
    found: dict[str, float] = {}
    for part in re.split("[,+]", text):
        kind, _, values = (piece.strip() for piece in part.partition("="))
        if kind not in _KINDS:
            raise UsageError(
                f"--augment has no '{kind}': write {NONE}, or some of {', '.join(KINDS)}, as in flip,crop=8,jitter=0.4"
            )
        if _KINDS[kind][0].field in found:
            raise UsageError(f"--augment names {kind} twice, in '{text}'")
        given = values.split(":") if "=" in part else []
        if len(given) > len(_KINDS[kind]):
            raise UsageError(f"--augment {kind}: '{part.strip()}' has too many values")
        for index, parameter in enumerate(_KINDS[kind]):
            if index < len(given):
                found[parameter.field] = _read(kind, given[index], parameter)
            else:
                default = parameter.default
                found[parameter.field] = found[default] if isinstance(default, str) else default
    return Augmentation(**found)


def _read(kind: str, text: str, parameter: _Parameter) -> float:
    match = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,9})?|\.\d{1,9})(%?)\s*", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if kind == "crop":
        fits = bool(match) and (0 < value < 1 if match and match[2] else value >= 1 and value.is_integer())
        wanted = "whole pixels, or a share such as 12%"
    else:
        fits, wanted = True, f"a number from {parameter.low:g} to {parameter.high:g}"
    if not fits or not parameter.low <= value <= parameter.high:
        raise UsageError(f"--augment {kind}: '{text}' must be {wanted}")
    return value


def _span(change: float) -> str:
    return f"{1 - change:g} to {1 + change:g}"
