"""``lenet-mp explain``: one number taken apart, by formula and by C."""

from __future__ import annotations

import numpy as np
import pytest
import small_run
from test_by_hand import POOLINGS
from test_commands_report import Page

from lenet_mp import explain
from lenet_mp.explaining.explanation import NUDGE, Scene
from lenet_mp.networks.network import compile_network


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("explain"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return small_run.write_image(tmp_path_factory.mktemp("photo") / "photo.png", small_run.pictures(1, 0)[0][0])


@pytest.fixture(scope="module")
def scene():
    network = compile_network(POOLINGS)
    image = np.random.default_rng(1).integers(0, 256, network.input_shape).astype(np.uint8)
    return Scene(network, network.initialise(4), image, 2 / 255, -1)


@pytest.mark.parametrize("layer", ["C1", "S1", "S2", "S3", "C4", "F5"])
def test_the_formula_agrees_with_the_kernel(scene, layer):
    """For every kind of layer, corners in the padding included, C is within what rounding allows of the formula."""
    number = scene.find(layer)
    rows, columns, channels = scene.network.layers[number].output_shape
    for at in {(0, 0, 0), (rows - 1, columns - 1, channels - 1), scene.strongest(layer)}:
        output = scene.output(layer, at)
        assert output.by_c == scene.values[number + 1][at]
        assert abs(output.total - output.by_c) <= output.rounding
        # Slopes are at most 1.15; C's own activations are good to 2e-7 of their range of 1.8.
        assert abs(output.activated - output.by_c_activated) <= 1.15 * output.rounding + 4e-7
        assert output.products.shape == output.patch.shape == output.kernel.shape


def test_the_largest_value_is_found(scene):
    """The default place is that of the layer's largest output."""
    assert scene.values[scene.find("C1") + 1][scene.strongest("C1")] == scene.values[scene.find("C1") + 1].max()


@pytest.mark.parametrize(
    ("name", "index"),
    [("C1.weight", (0, 2, 1, 3)), ("C1.bias", (2,)), ("S2.weight", (1,)), ("C4.weight", (0, 0, 3, 0)),
     ("F5.weight", (0, 1)), ("F5.bias", (0,))],
)  # fmt: skip
def test_the_gradient_in_three_ways(scene, name, index):
    """Formula, training step and finite difference agree, each as well as its arithmetic allows."""
    gradient = scene.gradient(name, index, 1)
    # A float32 chain of seven layers; each product carries the rounding of both its factors.
    size = np.abs(gradient.products).sum()
    assert gradient.by_c == pytest.approx(gradient.by_formula, abs=1e-5 * size + 1e-9)
    # The loss is one float32 below 2 (unit 1.2e-7, a few units wrong) on each side; curvature adds a third of h^2.
    assert gradient.by_difference == pytest.approx(gradient.by_formula, abs=4 * 1.2e-7 / NUDGE + NUDGE**2 / 3)
    assert abs(gradient.by_formula) > 5e-3


def test_text_shows_patch_kernel_products_and_sum(trained, photo, capsys):
    """The printed pixels are those of the image, and sum, bias and activation lead to the value of C."""
    assert explain.main([str(trained.run), str(photo), "--layer", "C1", "--at", "2,3,1"]) == 0
    text = capsys.readouterr().out
    pixels = small_run.pictures(1, 0)[0][0][2:5, 3:6] * (2 / 255) - 1
    for row in range(3):
        for channel in range(3):
            assert " ".join(f"{value:8.4f}" for value in pixels[row, :, channel]) in text
    assert "sees rows 2 to 4, columns 3 to 5, all 3 channels" in text
    assert "channel red" in text
    for words in ("sum of 27 products", "plus its bias", "after squash", "C kernel, float32"):
        assert words in text


def test_every_layer_and_weights_alone(trained, photo, capsys):
    """Without --at the largest output is explained; with --weight alone, only the gradient."""
    for layer in ("S2", "F3"):
        assert explain.main([str(trained.run), str(photo), "--layer", layer]) == 0
        assert capsys.readouterr().out.startswith(f"{layer}, ")
    assert explain.main([str(trained.run), str(photo), "--weight", "F3.bias:2", "--label", "green"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("F3.bias[2] = ")
    assert "for class 1 (green)" in text
    for way in ("formula, float64", "C training step", "finite difference"):
        assert way in text


@pytest.mark.parametrize("arguments", [[], ["--layer", "F3"], ["--at", "0,0,0", "--weight", "C1.bias:1"]])
def test_the_page_is_complete_in_itself(trained, photo, tmp_path, capsys, arguments):
    """The page has no script and no address; pictures have words, tables that scroll a name and the keyboard."""
    out = tmp_path / "page.html"
    assert explain.main([str(trained.run), str(photo), *arguments, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert page.all("script") == page.all("link") == []
    assert "http" not in html
    assert all(len(image["alt"]) > 10 and image["src"].startswith("data:image/png") for image in page.all("img"))
    scrolling = [attributes for attributes in page.all("div") if attributes.get("class") == "scroll"]
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in scrolling)
    assert "C kernel, float32" in page.words()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--layer", "C9"], "has no layer 'C9': choose one of C1, S2, F3"),
        (["--at", "99,0,0"], "C1 has no output 99,0,0: it has 10 x 8 x 4"),
        (["--at", "1,2"], "write ROW,COLUMN,CHANNEL"),
        (["--weight", "S2:1"], "S2 has no weights: choose a layer that has some, of C1, F3"),
        (["--weight", "C1:1,2"], "C1.weight has no element 1,2: its shape is 3,3,3,4"),
        (["--weight", "C1"], "write LAYER:KH,KW,CI,CO"),
        (["--weight", "C1.bias:0", "--label", "pink"], "there is no class 'pink'"),
    ],
)
def test_mistakes_are_one_line(trained, photo, capsys, arguments, complaint):
    """A place that is not there is answered with those that are."""
    assert explain.main([str(trained.run), str(photo), *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
