"""The page of ``lenet-mp explain -o``: where a value sits, what it is made of, and how C compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp.explaining import explanation_text
from lenet_mp.networks.geometry import POOLS
from lenet_mp.results import figures, pages
from lenet_mp.results.feature_maps import in_rgb
from lenet_mp.results.figures import ORANGE
from lenet_mp.results.report_pictures import Picture, drawn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BytesIO

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from lenet_mp.explaining.by_hand import Array
    from lenet_mp.explaining.derivations import Gradient, Output
    from lenet_mp.explaining.explanation import Scene
    from lenet_mp.results.classifier import Classifier

    Channel = dict[str, object]

MOST_CHANNELS = 16
"""Windows of more channels than this are shown for those that add most."""
MOST_ROWS = 25


def render(classifier: Classifier, scene: Scene, output: Output | None, gradient: Gradient | None) -> str:
    """Fill in the page about an output value, a gradient or both."""
    title = explanation_text.heading(output) if output else f"gradient of {gradient.name if gradient else ''}"
    return pages.render(
        "explain.html",
        title=title,
        run=str(classifier.path),
        model=classifier.network.model.name,
        prediction=classifier.class_names[scene.prediction],
        output=output and _output(classifier, scene, output),
        gradient=gradient and _gradient(classifier, gradient),
    )


def _output(classifier: Classifier, scene: Scene, output: Output) -> dict[str, object]:
    names = classifier.channel_names(scene.find(output.layer.name))
    single = output.patch.shape[:2] == (1, 1)
    return {
        "picture": _where(classifier, scene, output),
        "origin": explanation_text.origin(output),
        "pixels": explanation_text.single_pixels(output, MOST_ROWS) if single else None,
        "channels": [] if single else _channels(output, names),
        "channel_count": output.products.shape[2],
        "sums": explanation_text.sums(output),
        "comparison": explanation_text.comparison(output),
    }


def _gradient(classifier: Classifier, gradient: Gradient) -> dict[str, object]:
    places = explanation_text.largest(gradient.products, MOST_ROWS)
    return {
        "name": f"{gradient.name}[{', '.join(map(str, gradient.index))}]",
        "value": gradient.value,
        "label": classifier.class_names[gradient.label],
        "loss": gradient.loss,
        "positions": [
            (place, *(float(a[place]) for a in (gradient.inputs, gradient.dy, gradient.products))) for place in places
        ],
        "count": gradient.products.size,
        "picture": _positions(gradient) if gradient.products.size > 1 else None,
        "ways": explanation_text.three_ways(gradient),
        "nudge": gradient.nudge,
    }


def _channels(output: Output, names: Sequence[str]) -> list[Channel]:
    """Return the tables of the channels that add most, in their order; cells as (text, colour)."""
    by_channel = output.products.sum(axis=(0, 1))
    arrays = {"input": output.patch, "kernel": output.kernel, "products": output.products}
    found = []
    for (channel,) in sorted(explanation_text.largest(by_channel, MOST_CHANNELS)):
        name = names[output.at[2] if output.layer.kind in POOLS else channel]
        grids = {what: _cells(a[..., channel], float(np.abs(a).max())) for what, a in arrays.items()}
        found.append({"name": name, "sum": float(by_channel[channel]), "grids": grids})
    return found


def _cells(grid: Array, most: float) -> list[list[tuple[str, str]]]:
    """Give every value its text and a colour: orange above zero, blue below, stronger for larger ones."""
    return [
        [(f"{value:.3f}", f"{'213, 94, 0' if value > 0 else '0, 114, 178'}, {0.6 * abs(value) / (most or 1):.2f}")
         for value in row.tolist()]
        for row in grid
    ]  # fmt: skip


def _where(classifier: Classifier, scene: Scene, output: Output) -> Picture:
    """Draw the layer's input with the window framed, and its output with the value marked."""
    number = scene.find(output.layer.name)
    values, after = scene.values[number], scene.values[number + 1 + bool(output.activation)]
    channel = output.at[2] if output.layer.kind in POOLS else int(np.abs(output.products.sum(axis=(0, 1))).argmax())
    shown = in_rgb(scene.image, classifier.checkpoint.channel_order) if number == 0 else values[..., channel]
    name = "input image" if number == 0 else f"input, channel {channel}"

    def draw(place: BytesIO) -> None:
        figure = figures.new_figure(9, 4.2)
        left, right = figure.subplots(1, 2)
        _panel(left, shown, f"{name}, window framed")
        _frame(left, output.corner, output.patch.shape[:2])
        _panel(right, after[..., output.at[2]], f"{output.layer.name}, channel {output.at[2]}, value framed")
        _frame(right, output.at[:2], (1, 1))
        figures.save(figure, place)

    return drawn(draw, f"The input of {output.layer.name} with the window, and its output with the value, framed.")


def _positions(gradient: Gradient) -> Picture:
    """Draw what every output position adds to the gradient."""

    def draw(place: BytesIO) -> None:
        figure = figures.new_figure(9, 4)
        panels = figure.subplots(1, 3)
        arrays = {"input": gradient.inputs, "d loss / d output": gradient.dy, "product": gradient.products}
        for axes, (title, values) in zip(panels, arrays.items(), strict=True):
            most = float(np.abs(values).max()) or 1.0
            image = axes.imshow(values, cmap="PuOr_r", vmin=-most, vmax=most, interpolation="nearest")
            axes.set_title(title, fontsize=10)
            figure.colorbar(image, ax=axes, shrink=0.6)
        figures.save(figure, place)

    return drawn(draw, f"Input, gradient of the output and their product at {gradient.products.size:,} positions.")


def _panel(axes: Axes, values: NDArray[np.generic], title: str) -> None:
    grey = values.ndim == 2 or values.shape[2] == 1  # noqa: PLR2004
    axes.imshow(values, cmap="gray" if grey else None, interpolation="nearest")
    axes.set_title(title, fontsize=10)


def _frame(axes: Axes, corner: tuple[int, int], size: tuple[int, ...]) -> None:
    """Frame a window; in the padding the frame lies outside of the picture."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - slow to import

    (top, left), (height, width) = corner, size[:2]
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=ORANGE, linewidth=2))
    axes.set_xlim(min(axes.get_xlim()[0], left - 1), max(axes.get_xlim()[1], left + width))
    axes.set_ylim(max(axes.get_ylim()[0], top + height), min(axes.get_ylim()[1], top - 1))
