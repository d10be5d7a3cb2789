"""``lenet-mp features``: pictures of what a trained network makes of an image."""

from __future__ import annotations

import numpy as np
import pytest
import small_run
from PIL import Image

from lenet_mp import features
from lenet_mp.results.classifier import Classifier


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("features"))


@pytest.fixture
def photo(tmp_path):
    return small_run.write_image(tmp_path / "photo.png", small_run.pictures(1, 0)[0][0])


def test_paths_of_all_pictures_are_printed(trained, photo, tmp_path, capsys):
    """One picture of the input and one a convolution and pooling, where -o says."""
    assert features.main([str(trained.run), str(photo), "-o", str(tmp_path / "maps")]) == 0
    paths = capsys.readouterr().out.splitlines()
    assert paths == [str(tmp_path / "maps" / name) for name in ("input.png", "C1.png", "S2.png")]
    for path in paths:
        assert np.asarray(Image.open(path)).std() > 5


def test_default_folder_is_named_after_the_image(trained, photo, capsys):
    """Without -o the pictures lie in the run's features/IMAGE."""
    assert features.main([str(trained.run), str(photo)]) == 0
    capsys.readouterr()
    assert (trained.run / "features" / "photo" / "C1.png").is_file()


def test_maps_are_those_of_the_image_as_it_was_trained(trained, photo):
    """The maps of a file equal a convolution by NumPy over its normalised pixels."""
    classifier = Classifier.load(trained.run)
    image = classifier.read_image(photo)
    found = classifier.feature_maps(image)["C1"]
    arrays = classifier.network.views(classifier.parameters)
    x = image.astype(np.float64) * (2 / 255) - 1  # n1p1, the default
    expected = np.empty((10, 8, 4))
    for row, column in np.ndindex(10, 8):
        sums = np.tensordot(x[row : row + 3, column : column + 3], arrays["C1.weight"], 3) + arrays["C1.bias"]
        expected[row, column] = 1.7159 * np.tanh(2 / 3 * sums)
    # 27 products and a bias of magnitude below 4 in float32, and a tanh good to a few units in the last place.
    np.testing.assert_allclose(found, expected, rtol=0, atol=28 * 4 * 2**-24 + 1e-6)


def test_bad_image_and_bad_folder_are_one_line(trained, photo, tmp_path, capsys):
    """An image that cannot be read and a place that cannot be written have their own codes."""
    assert features.main([str(trained.run), str(tmp_path / "nosuch.png")]) == 3
    assert "nosuch.png: no such file" in capsys.readouterr().err
    assert features.main([str(trained.run), str(photo), "-o", str(photo / "maps")]) == 74
    assert capsys.readouterr().err.count("\n") == 1
