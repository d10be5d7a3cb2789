"""Explanations as text: windows as tables of numbers, then the sums, then the comparison with C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import tables
from lenet_mp.networks.geometry import POOLS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lenet_mp.explaining.by_hand import Array
    from lenet_mp.explaining.derivations import Gradient, Output

MOST_CHANNELS = 3
"""Windows of more channels than this are shown for those that add most."""
MOST_ROWS = 10


def heading(output: Output) -> str:
    """Say which value of which layer is explained."""
    layer = output.layer
    kind = str(layer.kind).replace("_", " ")
    window = f"{layer.kernel_size[0]} x {layer.kernel_size[1]}"
    settings = "" if layer.kind is Kind.DENSE else f", stride {layer.stride}, padding {layer.padding}"
    row, column, channel = output.at
    return f"{layer.name}, {kind} {window}{settings}: output at row {row}, column {column}, channel {channel}"


def origin(output: Output) -> str:
    """Say which part of the input the value sees."""
    (top, left), (height, width, channels) = output.corner, output.patch.shape
    what = f"channel {output.at[2]}" if output.layer.kind in POOLS else f"all {channels} channels"
    padding = ", zeros where that is outside" if output.layer.padding else ""
    return f"sees rows {top} to {top + height - 1}, columns {left} to {left + width - 1}, {what} of its input{padding}"


def sums(output: Output) -> list[tuple[str, str]]:
    """Return the steps from the products to the value, as (what, number)."""
    kind = output.layer.kind
    if kind is Kind.MAX_POOL:
        return [("largest of the window", _exact(output.total))]
    parts = [(f"sum of {output.products.size:,} products", _exact(float(output.products.sum())))]
    if kind is Kind.SUBSAMPLE:
        parts.append(("times its weight", _exact(output.scale)))
    if output.layer.parameter_count:
        parts.append(("plus its bias", _exact(output.bias)))
        parts.append(("makes", _exact(output.total)))
    if output.activation:
        parts.append((f"after {output.activation}", _exact(output.activated)))
    return parts


def comparison(output: Output) -> list[tuple[str, ...]]:
    """Return a heading and rows: the value by formula, by C, how far apart they are, and what rounding allows."""
    rows: list[tuple[str, ...]] = [("", "formula, float64", "C kernel, float32", "difference", "rounding allows")]
    before = f"before {output.activation}" if output.activation else "value"
    rows.append((before, *_compared(output.total, output.by_c), f"{output.rounding:.1e}"))
    if output.activation:
        rows.append((f"after {output.activation}", *_compared(output.activated, output.by_c_activated), ""))
    return rows


def three_ways(gradient: Gradient) -> list[tuple[str, ...]]:
    """Return a heading and rows: the gradient by formula, by C's step, by finite difference."""
    formula = gradient.by_formula
    return [
        ("", "gradient", "difference", "relative"),
        ("formula, float64", _exact(formula), "", ""),
        ("C training step", _exact(gradient.by_c), *_apart(formula, gradient.by_c)),
        ("finite difference", _exact(gradient.by_difference), *_apart(formula, gradient.by_difference)),
    ]


def largest(values: Array, count: int) -> list[tuple[int, ...]]:
    """Return the places of the values that are largest in magnitude, the largest first."""
    order = np.argsort(-np.abs(values), axis=None, kind="stable")[:count]
    return [tuple(int(i) for i in place) for place in zip(*np.unravel_index(order, values.shape), strict=True)]


def single_pixels(output: Output, count: int) -> list[tuple[str, ...]]:
    """Return a heading and a row an input, where the window is a single pixel: those with the largest products."""
    arrays = (output.patch, output.kernel, output.products)
    rows = [(str(place[2]), *(_short(float(a[place])) for a in arrays)) for place in largest(output.products, count)]
    return [("input", "value", "weight", "product"), *rows]


def describe_output(output: Output, channel_names: Sequence[str]) -> Iterator[str]:
    """Yield the lines about an output value; ``channel_names`` are those of the layer's input."""
    yield f"{heading(output)}\n{origin(output)}\n\n"
    if output.patch.shape[:2] == (1, 1):
        rows = single_pixels(output, MOST_ROWS)
        yield tables.as_text(rows[0], rows[1:])
        count = output.products.size
        yield f"... the largest {MOST_ROWS} of {count:,}\n\n" if count > MOST_ROWS else "\n"
    else:
        yield from _windows(output, channel_names)
    yield tables.as_text(("step", "value"), sums(output)) + "\n"
    first, *rest = comparison(output)
    yield tables.as_text(first, rest)


def describe_gradient(gradient: Gradient, class_name: str) -> Iterator[str]:
    """Yield the lines about a gradient."""
    place = ",".join(map(str, gradient.index))
    yield f"{gradient.name}[{place}] = {_exact(gradient.value)}\n"
    yield f"cross-entropy of this image for class {gradient.label} ({class_name}): {_exact(gradient.loss)}\n\n"
    yield "d loss / d weight = sum of input x d loss / d output, over all output positions\n"
    rows = [
        (f"{row},{column}", *(_short(a[row, column]) for a in (gradient.inputs, gradient.dy, gradient.products)))
        for row, column in largest(gradient.products, MOST_ROWS)
    ]
    yield tables.as_text(("row,column", "input", "d output", "product"), rows)
    count = gradient.products.size
    if count > len(rows):
        yield f"... the largest {len(rows)} of {count:,}\n"
    yield "\n"
    first, *rest = three_ways(gradient)
    yield tables.as_text(first, rest)
    yield f"finite difference: (loss(w + h) - loss(w - h)) / 2h with h = {gradient.nudge:g}, C's loss in float32\n"


def _windows(output: Output, channel_names: Sequence[str]) -> Iterator[str]:
    """Input, kernel and products of each channel, side by side."""
    by_channel = output.products.sum(axis=(0, 1))
    shown = [channel for (channel,) in largest(by_channel, MOST_CHANNELS)]
    for channel in sorted(shown):
        name = channel_names[output.at[2] if output.layer.kind in POOLS else channel]
        yield f"channel {name}: its products add up to {_exact(float(by_channel[channel]))}\n"
        grids = [a[..., channel] for a in (output.patch, output.kernel, output.products)]
        yield _side_by_side(grids, ("input", "kernel", "products")) + "\n"
    if len(shown) < by_channel.size:
        yield f"... the {len(shown)} of {by_channel.size} channels that add most\n\n"


def _side_by_side(grids: Sequence[Array], titles: Sequence[str]) -> str:
    blocks = []
    for grid, title in zip(grids, titles, strict=True):
        lines = [" ".join(f"{value:8.4f}" for value in row) for row in grid]
        blocks.append([title.ljust(len(lines[0])), *lines])
    return "".join("   ".join(parts).rstrip() + "\n" for parts in zip(*blocks, strict=True))


def _compared(formula: float, by_c: float) -> tuple[str, str, str]:
    return _exact(formula), _exact(by_c), f"{by_c - formula:.1e}"


def _apart(formula: float, other: float) -> tuple[str, str]:
    difference = other - formula
    return f"{difference:.1e}", f"{abs(difference / formula):.1e}" if formula else ""


def _exact(value: float) -> str:
    return f"{value:.9g}"


def _short(value: float) -> str:
    return f"{value:.4g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"  # noqa: PLR2004
