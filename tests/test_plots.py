"""Pictures of figures: readable, whole, and drawn where no home folder and no screen exist."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image, ImageColor

from lenet_mp.errors import OutputError
from lenet_mp.results import figures, plots

HISTORY = [
    {"epoch": n, "loss": 4 - 0.1 * n, "train_top1": 0.02 * n, "val_top1": 0.015 * n, "val_top5": 0.3}
    for n in range(1, 11)
]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def count_of(path, color):
    """Pixels of exactly that colour."""
    return int((pixels(path) == ImageColor.getrgb(color)).all(axis=2).sum())


def assert_whole(path):
    """Nothing touches the picture's edge, so nothing is cut; and there is something in it."""
    image = pixels(path)
    border = np.concatenate([image[:3].ravel(), image[-3:].ravel(), image[:, :3].ravel(), image[:, -3:].ravel()])
    assert (border == 255).all()
    assert (image < 128).any()


def names(count):
    return [f"class {n} with a long name, as in ImageNet" if n % 2 else f"n{n:03}" for n in range(count)]


def test_curves_show_every_series_that_is_there(tmp_path):
    """Training, validation and test appear in their colours, each only where it has values."""
    with_all, without = tmp_path / "all.png", tmp_path / "some.png"
    plots.draw_curves(HISTORY, with_all, title="model 1", test_top1=0.17)
    plots.draw_curves([row | {"val_top1": None, "val_top5": ""} for row in HISTORY], without)
    assert_whole(with_all)
    assert_whole(without)
    assert count_of(with_all, figures.BLUE) > 500
    assert count_of(with_all, figures.ORANGE) > 200
    assert count_of(with_all, figures.GREEN) > 100
    assert count_of(without, figures.BLUE) > 500
    assert count_of(without, figures.ORANGE) == count_of(without, figures.GREEN) == 0


@pytest.mark.parametrize("loss", [1234567.0, 0.0000125])
def test_curves_have_room_for_unusual_losses(tmp_path, loss):
    """Neither very large nor very small figures are cut or run into the other panel."""
    history = [{"epoch": n, "loss": loss / n, "train_top1": loss / 2e6} for n in (1, 2)]
    plots.draw_curves(history, tmp_path / "curves.png")
    assert_whole(tmp_path / "curves.png")
    image = pixels(tmp_path / "curves.png")
    middle = image.shape[1] // 2
    assert (image[:, middle : middle + 15] == 255).all()


@pytest.mark.parametrize("epochs", [0, 1, 2, 200])
def test_curves_are_right_for_any_number_of_epochs(tmp_path, epochs):
    """No epoch, one epoch and very many are drawn without a warning and without cut text."""
    history = [{"epoch": n + 1, "loss": 3.0, "train_top1": 0.0, "val_top1": 0.5} for n in range(epochs)]
    plots.draw_curves(history, tmp_path / "curves.png")
    assert_whole(tmp_path / "curves.png")
    assert (count_of(tmp_path / "curves.png", figures.BLUE) > 20) == (epochs > 0)


@pytest.mark.parametrize("classes", [2, 10, 50, 130])
def test_confusion_matrix_is_whole_and_dark_on_the_diagonal(tmp_path, classes):
    """Every size fits its labels, and the diagonal of a good classifier is what stands out."""
    path = tmp_path / "confusion.png"
    counts = np.eye(classes, dtype=np.int64) * 20 + 1
    plots.draw_confusion(counts, names(classes), path)
    assert_whole(path)
    image = pixels(path)
    assert max(image.shape) < 2600
    # A dark diagonal of K cells among K * K is 1/K of the matrix, which is most of the picture.
    dark = (image[..., 2].astype(int) - image[..., 0] > 60) & (image[..., 0] < 120)
    assert dark.mean() > 0.15 / classes


def test_confusion_matrix_of_a_class_without_samples(tmp_path):
    """A class that the split lacks is an empty row, not a division by zero."""
    plots.draw_confusion(np.array([[3, 1], [0, 0]]), ["a", "b"], tmp_path / "confusion.png")
    plots.draw_confusion(np.zeros((2, 2), np.int64), ["a", "b"], tmp_path / "none.png")
    assert_whole(tmp_path / "confusion.png")


def test_names_are_drawn_as_they_are(tmp_path):
    """Dollar signs are no formulas, and letters that the font lacks are no error."""
    odd = ["$100", "$x_2$", "猫", "\\alpha", "line\nbreak", "caf\udce9", "x" * 200]
    plots.draw_confusion(np.eye(7, dtype=np.int64), odd, tmp_path / "confusion.png")
    plots.draw_curves(HISTORY, tmp_path / "curves.png", title="100 % of $5")
    plots.draw_class_balance({"train": np.arange(7)}, odd, tmp_path / "balance.png")
    for name in ("confusion", "curves", "balance"):
        assert_whole(tmp_path / f"{name}.png")
    assert max(pixels(tmp_path / "confusion.png").shape) < 1500


def test_long_names_keep_both_ends():
    """A shortened name still begins and ends as the whole one, on one line."""
    assert figures.text("short") == "short"
    assert figures.text("a\nb  c") == "a b c"
    short = figures.text("n01443537 goldfish, Carassius auratus")
    assert len(short) == figures.MAX_NAME
    assert short.startswith("n01443537 goldfish")
    assert short.endswith("auratus")


def test_class_balance_has_a_bar_for_every_class(tmp_path):
    """One panel a split, bars as long as the counts: twice the images, twice the blue."""
    path = tmp_path / "balance.png"
    plots.draw_class_balance({"train": np.array([50, 100]), "test": np.array([10, 10])}, ["cat", "dog"], path)
    assert_whole(path)
    image = pixels(path)[:, : pixels(path).shape[1] // 2]
    rows = (image == ImageColor.getrgb(figures.BLUE)).all(axis=2).sum(axis=1)
    lengths = sorted(set(rows[rows > 10]))
    # The dotted line of the mean may take a few pixels of a bar.
    assert abs(lengths[-1] - 2 * lengths[0]) <= 8


def test_svg_is_well_formed(tmp_path):
    """The suffix chooses the format; an SVG file is XML with a drawing in it."""
    plots.draw_curves(HISTORY, tmp_path / "curves.svg")
    root = ET.parse(tmp_path / "curves.svg").getroot()  # noqa: S314 - our own file
    assert root.tag.endswith("svg")
    assert len(list(root.iter())) > 50


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_drawing_has_the_same_bytes(tmp_path, suffix, monkeypatch):
    """Nothing in a picture tells when, or in which process, it was drawn."""
    confusion = np.array([[3, 1], [0, 2]])
    paths = [tmp_path / name / f"confusion.{suffix}" for name in ("a", "b")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(number))  # what matplotlib would take for the date
        plots.draw_confusion(confusion, ("cat", "dog"), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_picture_is_replaced_whole_or_not_at_all(tmp_path):
    """A folder that is gone is an OutputError; a good picture leaves no temporary file behind."""
    plots.draw_curves(HISTORY, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    with pytest.raises(OutputError, match="folder does not exist"):
        plots.draw_curves(HISTORY, tmp_path / "gone" / "curves.png")


def test_no_home_no_screen_no_words(tmp_path):
    """Without HOME, with an unusable MPLCONFIGDIR and no display, drawing is silent and leaves pyplot alone."""
    code = (
        "import sys; from pathlib import Path; from lenet_mp.results import plots\n"
        "plots.draw_curves([{'epoch': 1, 'loss': 2.0, 'train_top1': 0.5}], Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    hidden = {"HOME", "DISPLAY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLBACKEND"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment["MPLCONFIGDIR"] = "/dev/null/nowhere"
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "curves.png")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert_whole(tmp_path / "curves.png")


def test_comparison_has_a_colour_for_every_run(tmp_path):
    """Each run has its own line on both panels, also with braces in its name; seven runs are one more than colours."""
    runs = {f"run {{{n}}}": [row | {"val_top1": 0.1 * n, "loss": 4 - n / 2} for row in HISTORY] for n in range(1, 8)}
    plots.draw_comparison(runs, tmp_path / "runs.png")
    assert_whole(tmp_path / "runs.png")
    for color in figures.PALETTE:
        assert count_of(tmp_path / "runs.png", color) > 400
