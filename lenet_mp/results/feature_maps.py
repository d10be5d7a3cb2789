"""Feature maps: what every convolution and pooling makes of one image, as arrays and as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import engine, files
from lenet_mp.networks.geometry import POOLS, Kind
from lenet_mp.results import mosaics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lenet_mp.networks.network import Network

    Maps = dict[str, NDArray[np.float32]]


def compute(
    network: Network, parameters: NDArray[np.float32], image: NDArray[np.uint8], scale: float, offset: float
) -> Maps:
    """Run one image through the network and keep what its convolutions and poolings put out.

    Parameters
    ----------
    parameters : (P,) float32
    image : (H, W, C) uint8
    scale, offset : float
        Of the normalisation: a pixel enters as ``pixel * scale + offset``.

    Returns
    -------
    dict of str to (H, W, C) float32
        By layer name, in the network's order; a layer's maps are those after the activation that follows it.
    """
    # In float64 the product is exact, so that this rounds once, as the fused multiply-add of the C core does.
    pixels = image.astype(np.float64) * np.float32(scale) + np.float32(offset)
    x = np.ascontiguousarray(pixels[np.newaxis], np.float32)
    maps: Maps = {}
    last = ""
    for layer in network.layers:
        x = engine.layer_forward(layer, x, parameters)
        if layer.kind is not Kind.ACTIVATION:
            last = layer.name if layer.kind is Kind.CONV or layer.kind in POOLS else ""
        if last:
            maps[last] = x[0]
    return maps


def save(
    maps: Maps, image: NDArray[np.uint8], folder: Path, *, channel_order: str = "RGB", title: str = ""
) -> list[Path]:
    """Draw ``input.png`` and one grid of maps a layer, such as ``C1.png``, into ``folder``; return their paths.

    Parameters
    ----------
    maps : dict of str to (H, W, C) float32
        From :func:`compute`.
    image : (H, W, C) uint8
        Its channels in ``channel_order``: ``RGB``, ``BGR`` or ``L``.
    title : str
        Stands in every picture's heading, for example the epoch.
    """
    files.make_folder(folder)
    after = f", {title}" if title else ""
    paths = [folder / "input.png"]
    seen = in_rgb(image, channel_order)
    spread = f"{seen.min()} to {seen.max()}"
    mosaics.draw_pictures(seen[np.newaxis], paths[0], title=f"input: {_times(image.shape)}, values {spread}{after}")
    for name, values in maps.items():
        path = folder / f"{name}.png"
        shape = _times(values.shape[:2])
        count = f"{values.shape[2]} maps" if values.shape[2] > 1 else "1 map"
        if values.shape[2] > mosaics.MAX_TILES:
            count = f"the first {mosaics.MAX_TILES} of {count}"
        low, high = mosaics.value_range(values)
        mosaics.draw_maps(values, path, title=f"{name}: {count} of {shape}, values {low:.3g} to {high:.3g}{after}")
        paths.append(path)
    return paths


def are_complete(network: Network, folder: Path) -> bool:
    """Whether ``folder`` holds every picture that :func:`save` draws of the network's maps."""
    drawn = [layer.name for layer in network.layers if layer.kind is Kind.CONV or layer.kind in POOLS]
    return all((folder / f"{name}.png").is_file() for name in ("input", *drawn))


def in_rgb(image: NDArray[np.uint8], channel_order: str) -> NDArray[np.uint8]:
    """Return (..., C) pixels with their channels in the order that screens want."""
    return image[..., ::-1] if channel_order == "BGR" else image


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
