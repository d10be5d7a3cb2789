"""Feature maps: the right values by layer, and pictures that show them as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lenet_mp import engine
from lenet_mp.networks import models
from lenet_mp.networks.models import Model, activation, average_pool, conv, dense
from lenet_mp.networks.network import compile_network
from lenet_mp.results import feature_maps, mosaics

SMALL = Model(
    "small",
    (conv("C1", 3, kernel=3, stride=2, padding=1), activation("relu"), average_pool("S1", 2), dense("F1", 4),
     activation("relu"), dense("F2")),
    (9, 8, 2), 3,
)  # fmt: skip


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def reference(image, weight, bias):
    """C1 with relu and S1 of SMALL, by their definition; exact for integers."""
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    c1 = np.zeros((5, 4, 3))
    for row, column in np.ndindex(5, 4):
        window = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        c1[row, column] = np.maximum(np.tensordot(window, weight, 3) + bias, 0)
    return c1, c1[:4].reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))


def test_maps_are_those_after_the_activation_exactly():
    """On integers, C1 after its relu and S1 equal their definition bit for bit; dense layers have no maps."""
    network = compile_network(SMALL)
    rng = np.random.default_rng(0)
    parameters = rng.integers(-3, 4, network.parameter_count).astype(np.float32)
    arrays = network.views(parameters)
    image = rng.integers(0, 256, (9, 8, 2), dtype=np.uint8)
    maps = feature_maps.compute(network, parameters, image, 1.0, 0.0)
    c1, s1 = reference(image, arrays["C1.weight"], arrays["C1.bias"])
    assert list(maps) == ["C1", "S1"]
    np.testing.assert_array_equal(maps["C1"], c1.astype(np.float32))
    np.testing.assert_array_equal(maps["S1"], s1.astype(np.float32))
    assert {values.dtype for values in maps.values()} == {np.dtype(np.float32)}


def test_last_map_leads_to_the_same_logits_as_the_training_step():
    """Dense layers put on top of the last map give the plan's logits: maps show what the network computes."""
    network = compile_network(models.LENET5)
    parameters = network.initialise(1)
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    scale, offset = 2 / 255, -1.0
    maps = feature_maps.compute(network, parameters, image, scale, offset)
    assert [maps[name].shape for name in ("C1", "S2", "C3", "S4", "C5")] == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120)]  # fmt: skip
    x = maps["C5"][np.newaxis]
    for layer in network.layers[-3:]:
        x = engine.layer_forward(layer, x, parameters)
    plan = engine.Plan(network.layers, scale=scale, offset=offset, threads=1)
    expected = plan.forward(parameters, np.array([image.ctypes.data], np.uintp))
    # 120 products a sum: float32 rounding of the two orders stays below 120 * 2**-24 of the largest summand's size.
    np.testing.assert_allclose(x.reshape(1, -1), expected, rtol=0, atol=120 * 2**-24 * 10)


def test_one_picture_a_layer_and_one_of_the_input(tmp_path):
    """save() writes input.png and one labelled PNG for each layer, none of them blank."""
    network = compile_network(models.MODEL_2, (128, 128, 3), 10)
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    maps = feature_maps.compute(network, network.initialise(0), image, 1 / 255, 0.0)
    folder = tmp_path / "features" / "epoch-01"
    paths = feature_maps.save(maps, image, folder, title="epoch 1")
    assert [path.name for path in paths] == ["input.png"] + [f"{name}.png" for name in maps]
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        picture = pixels(path)
        assert len(np.unique(picture @ (1, 256, 65536))) > 50
        assert (picture[:2] == 255).all()
        assert (picture[-2:] == 255).all()
        assert max(picture.shape) < 1500


@pytest.mark.parametrize(("order", "pixel"), [("RGB", (0, 0, 255)), ("BGR", (255, 0, 0))])
def test_colours_on_screen_are_those_of_the_scene(tmp_path, order, pixel):
    """A blue scene is shown blue whatever the order of the channels in the shard."""
    image = np.full((20, 20, 3), pixel, np.uint8)
    path = feature_maps.save({}, image, tmp_path, channel_order=order)[0]
    picture = pixels(path)
    grid = mosaics.Grid.fit(1, 20, 20)
    top, left = grid.corner(0)
    assert (picture[top : top + grid.tile[0], left : left + grid.tile[1]] == (0, 0, 255)).all()


def test_grey_image_is_shown_grey(tmp_path):
    """One channel becomes three equal ones on the screen."""
    path = feature_maps.save({}, np.full((20, 20, 1), 99, np.uint8), tmp_path, channel_order="L")[0]
    top, left = mosaics.Grid.fit(1, 20, 20).corner(0)
    assert tuple(pixels(path)[top + 5, left + 5]) == (99, 99, 99)


def test_every_value_is_a_square_of_its_colour(tmp_path):
    """The lowest value has the scale's lowest colour, the highest its highest, each in its own place."""
    values = np.zeros((2, 2, 1), np.float32)
    values[0, 1], values[1, 0] = 1, -1
    mosaics.draw_maps(values, tmp_path / "map.png", title="t")
    grid = mosaics.Grid.fit(1, 2, 2)
    top, left = grid.corner(0)
    shown = pixels(tmp_path / "map.png")[top : top + grid.tile[0], left : left + grid.tile[1]]
    half = grid.zoom
    assert len(np.unique(shown[:half, half:].reshape(-1, 3), axis=0)) == 1
    assert tuple(shown[0, -1]) == (253, 231, 36)
    assert tuple(shown[-1, 0]) == (68, 1, 84)
    assert tuple(shown[0, 0]) == tuple(shown[-1, -1])


def test_values_that_are_not_finite_are_red(tmp_path):
    """A diverged network still gives a picture; what is not a number is red, the rest keeps its scale."""
    values = np.linspace(0, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    mosaics.draw_maps(values, tmp_path / "map.png", title="t")
    top, left = mosaics.Grid.fit(3, 3, 3).corner(0)
    assert tuple(pixels(tmp_path / "map.png")[top + 1, left + 1]) == (255, 0, 0)
    mosaics.draw_maps(np.full((2, 2, 2), np.nan, np.float32), tmp_path / "nan.png", title="t")
    mosaics.draw_maps(np.zeros((2, 2, 2), np.float32), tmp_path / "zero.png", title="t")


def test_very_many_maps_are_cut_to_the_first_ones(tmp_path):
    """A layer of 1,000 maps gives a picture of 256, and its title says so."""
    title = []
    maps = {"C1": np.zeros((1, 1, 1000), np.float32)}
    original = mosaics.draw_maps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mosaics, "draw_maps", lambda *a, **k: (title.append(k["title"]), original(*a, **k)))
        feature_maps.save(maps, np.zeros((2, 2, 3), np.uint8), tmp_path)
    assert title == ["C1: the first 256 of 1000 maps of 1 x 1, values 0 to 0"]
    assert max(pixels(tmp_path / "C1.png").shape) < 1600


@given(st.integers(1, 256), st.integers(1, 900), st.integers(1, 900))
def test_grid_has_room_for_every_tile(count, height, width):
    """Rows and columns hold all tiles, no row is empty, and no picture grows without limit."""
    grid = mosaics.Grid.fit(count, height, width)
    assert grid.columns * (grid.rows - 1) < count <= grid.columns * grid.rows
    assert max(grid.tile) <= mosaics.LARGEST_TILE
    assert grid.tile[0] == -(-height // grid.step) * grid.zoom
    top, left = grid.corner(count - 1)
    assert top + grid.tile[0] <= mosaics.TITLE + grid.size[0]
    assert left + grid.tile[1] <= mosaics.MARGIN + grid.size[1]
