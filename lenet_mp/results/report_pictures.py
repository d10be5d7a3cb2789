"""The pictures of a report, as data that an HTML page holds itself."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lenet_mp import files
from lenet_mp.networks.geometry import Kind
from lenet_mp.results import mosaics, plots
from lenet_mp.results.feature_maps import in_rgb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.data.shards import Dataset
    from lenet_mp.results.assessment import Assessment
    from lenet_mp.results.classifier import Classifier

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
LEAST_PICTURE, LARGEST_PICTURE = 57, 32 << 20
THUMBNAIL = 128
"""Longest side of a sample's picture, in pixels."""


@dataclass(frozen=True)
class Picture:
    """An image with its address (a data URI), size in pixels and what it shows, in words."""

    address: str
    width: int
    height: int
    text: str


@dataclass(frozen=True)
class Mistake:
    """A sample that was taken for another class."""

    picture: Picture
    label: str
    prediction: str
    probability: float
    place: str


def curves(history: Sequence[plots.Row], test_top1: float | None) -> Picture:
    """Draw accuracy and loss by epoch."""
    end = f", {history[-1]['loss']:.4f} at the end" if history else ""
    text = f"Accuracy and training loss{end}, over {len(history)} epochs."
    return drawn(lambda place: plots.draw_curves(history, place, test_top1=test_top1), text)


def comparison(histories: Mapping[str, Sequence[plots.Row]]) -> Picture:
    """Draw the curves of several runs over each other."""
    return drawn(
        lambda place: plots.draw_comparison(histories, place),
        f"Validation accuracy and training loss by epoch of {', '.join(histories)}.",
    )


def confusion(assessment: Assessment) -> Picture:
    """Draw the confusion matrix."""
    names = assessment.dataset.class_names
    text = f"Confusion matrix of {len(names)} classes over {assessment.scores.samples:,} samples."
    return drawn(lambda place: plots.draw_confusion(assessment.confusion, names, place), text)


def class_balance(dataset: Dataset) -> Picture:
    """Draw how many images each class has."""
    splits = {"training": dataset.train, "validation": (dataset.validation,), "test": (dataset.test,)}
    labels = {name: [part.labels for part in parts if part] for name, parts in splits.items()}
    counts = {
        name: np.bincount(np.concatenate(values), minlength=dataset.classes)
        for name, values in labels.items()
        if values
    }
    text = f"Images of each of {dataset.classes} classes by split."
    return drawn(lambda place: plots.draw_class_balance(counts, dataset.class_names, place), text)


def filters(classifier: Classifier) -> Picture | None:
    """Draw the first convolution's kernels: in colour where they look at colours; None without a convolution."""
    layer = next((layer for layer in classifier.network.layers if layer.kind is Kind.CONV), None)
    if layer is None:
        return None
    weight = classifier.network.views(classifier.parameters)[f"{layer.name}.weight"].astype(np.float32)
    height, width, channels, count = weight.shape
    title = f"{layer.name}: {count} kernels of {height} x {width} x {channels}"
    if channels != 3 or layer.input_shape != classifier.network.input_shape:  # noqa: PLR2004 - red, green, blue
        flat = weight.reshape(height, width, channels * count)
        return drawn(lambda place: mosaics.draw_maps(flat, place, title=title), f"Weights of {title}.")
    # Grey is 0; a colour is what the kernel answers to most.
    largest = float(np.abs(weight).max()) or 1.0
    colors = np.rint(127.5 + 127.5 / largest * np.moveaxis(weight, 3, 0)).clip(0, 255).astype(np.uint8)
    colors = in_rgb(colors, classifier.checkpoint.channel_order)
    return drawn(lambda place: mosaics.draw_pictures(colors, place, title=title), f"Weights of {title}, as colours.")


def mistakes(assessment: Assessment, count: int) -> list[Mistake]:
    """Return the wrong answers that seemed most certain, the most certain first."""
    wrong = np.flatnonzero(assessment.predictions != assessment.labels)
    chosen = wrong[np.argsort(-assessment.probabilities[wrong], kind="stable")][:count]
    names = assessment.dataset.class_names
    found = []
    for number in chosen.tolist():
        part, row = assessment.places[number]
        label, prediction = (names[n] for n in (assessment.labels[number], assessment.predictions[number]))
        pixels = in_rgb(part.images[row], assessment.dataset.channel_order)
        picture = _thumbnail(pixels, f"A sample of the class {label}")
        chance = float(assessment.probabilities[number])
        found.append(Mistake(picture, label, prediction, chance, f"{part.path.name}, row {row}"))
    return found


def feature_maps(run: Path, layers: Sequence[str]) -> dict[str, dict[str, Picture]]:
    """Collect the saved feature maps of a run folder: by layer, in the order of ``layers``, and by epoch within.

    What is no picture in the folder itself (a link, a pipe, another file) is left out: the page may be passed on.
    """
    found: dict[str, dict[str, Picture]] = {}
    run = run.resolve()
    for layer in ("input", *layers):
        for path in sorted(run.glob(f"features/epoch-*/{layer}.png")):
            epoch = f"epoch {path.parent.name.removeprefix('epoch-').lstrip('0')}"
            text = "The input image" if layer == "input" else f"Feature maps of {layer} after {epoch}"
            try:
                data = files.read(path, LARGEST_PICTURE, follow_links=False)
            except OSError:
                continue
            if data.startswith(PNG) and len(data) > LEAST_PICTURE:
                found.setdefault(layer, {})[epoch] = _from_png(data, text)
            if layer == "input":  # the same after every epoch
                break
    return found


def drawn(draw: Callable[[BytesIO], None], text: str) -> Picture:
    """Return the PNG that ``draw`` writes; ``text`` says in words what it shows."""
    buffer = BytesIO()
    draw(buffer)
    return _from_png(buffer.getvalue(), text)


def _from_png(data: bytes, text: str) -> Picture:
    width, height = struct.unpack(">II", data[16:24])
    return Picture(_address(data, "png"), width, height, text)


def _thumbnail(pixels: NDArray[np.uint8], text: str) -> Picture:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return _from_png(buffer.getvalue(), text)


def _address(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
