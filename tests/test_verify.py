"""lenet-mp verify: whole and damaged data sets, and the pictures of them."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from lenet_mp.data import contact_sheet, manifest, shards, verification
from lenet_mp.data.arrays import save_dataset
from lenet_mp.prepare import main as prepare
from lenet_mp.verify import main
from tests.pictures import write_lists
from tests.small_data import flip, unseal, write_shards


@pytest.fixture
def data(tmp_path):
    lists = write_lists(tmp_path, counts=(11, 4, 3))
    out = tmp_path / "data"
    arguments = ["--lists", *map(str, lists), "--out", str(out), "--size", "10x12", "--shard-size", "4"]
    assert prepare([*arguments, "--workers", "1"]) == 0
    return out


def test_a_whole_data_set(data, capsys):
    """A data set as it was prepared is whole; the table gives every class's images by split."""
    assert main([str(data)]) == 0
    out = capsys.readouterr().out
    assert "whole" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["class", "train", "validation", "test"] in lines
    assert ["0", "4", "2", "1"] in lines
    assert ["all", "11", "4", "3"] in lines


def test_the_pictures(data, tmp_path):
    """The contact sheet and the class balance are PNG files in the folder asked for."""
    assert main([str(data), "--out", str(tmp_path / "pictures")]) == 0
    with Image.open(tmp_path / "pictures" / "contact_sheet.png") as sheet:
        assert sheet.size[0] > contact_sheet.NAMES + 4 * contact_sheet.TILE
        assert sheet.size[1] > 3 * contact_sheet.TILE
    with Image.open(tmp_path / "pictures" / "class_balance.png") as balance:
        balance.load()
    assert not (data / "contact_sheet.png").exists()


def test_every_flipped_bit_is_found(data, capsys):
    """One flipped bit anywhere in a shard, pixels included, is found and the file named."""
    size = (data / "1.h5").stat().st_size
    for bit in np.random.default_rng(0).integers(0, 8 * size, 30):
        flip(data / "1.h5", bit)
        assert main([str(data), "--no-pictures"]) == 3
        assert "1.h5" in capsys.readouterr().err
        flip(data / "1.h5", bit)
    assert main([str(data), "--no-pictures"]) == 0


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("mean", [1.0, 2.0, 3.0], "mean is"),
        ("std", [1.0, 2.0, 3.0], "std is"),
        ("class_counts", {"train": [11, 0, 0]}, "class_counts differ"),
    ],
)
def test_a_manifest_that_lies(data, capsys, field, value, reason):
    """A manifest whose statistics are not those of the shards is told."""
    unseal(data, **{field: value})
    assert main([str(data), "--no-pictures"]) == 3
    assert reason in capsys.readouterr().err


def test_a_manifest_that_states_another_xxh3(data, capsys):
    """An XXH3 that is not the file's is told, though the SHA-256 is right: training would stop at it."""
    made = manifest.load(data)
    first, *others = made.shards
    wrong = dataclasses.replace(made, shards=(dataclasses.replace(first, xxh3="0" * 32), *others))
    (data / "manifest.json").write_bytes(wrong.encode())
    assert main([str(data), "--no-pictures"]) == 3
    assert f"0.h5: XXH3 is {first.xxh3}, but manifest.json says {'0' * 32}" in capsys.readouterr().err


def test_other_class_names(data, capsys):
    """classes.txt with other names than the manifest's is told."""
    (data / "classes.txt").write_text("a\nb\nc\n")
    assert main([str(data), "--no-pictures"]) == 3
    assert "names other classes" in capsys.readouterr().err


def test_strangers_are_noted(data, capsys):
    """A shard that the manifest does not name is noted, no error."""
    (data / "17.h5").write_bytes(b"left over")
    assert main([str(data), "--no-pictures"]) == 0
    assert "17.h5 does not belong to the data set" in capsys.readouterr().err


def test_originals_folder(tmp_path, capsys):
    """The original's folder is read and drawn; more than its structure cannot be checked."""
    write_shards(tmp_path)
    assert main([str(tmp_path)]) == 0
    assert "without a manifest" in capsys.readouterr().out
    assert (tmp_path / "contact_sheet.png").exists()


def test_a_folder_of_any_name(data):
    """A folder whose name is no UTF-8 is checked and drawn like any other."""
    strange = data.with_name("data \udcff $x$ ")
    data.rename(strange)
    assert main([str(strange)]) == 0
    assert (strange / "contact_sheet.png").exists()


def test_a_table_of_thousands_of_classes(tmp_path, capsys):
    """Of very many classes the table shows those with the fewest and the most images, and says so."""
    labels = np.repeat(np.arange(500), [1] * 250 + [2] * 200 + [3] * 50)
    save_dataset(tmp_path / "data", (np.zeros((len(labels), 4, 4), np.uint8), labels))
    assert main([str(tmp_path / "data"), "--no-pictures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("class"))) + 1 :]
    fewest = [[str(label), "1"] for label in range(100)]
    most = [[str(label), "2" if label < 450 else "3"] for label in range(400, 500)]
    assert [line.split() for line in table[:200]] == fewest + most
    assert table[200].split() == ["all", "800"]
    assert "of 500 classes" in table[201]


def test_examples(tmp_path):
    """Examples are images of their class, the same for the same seed, and in RGB even from BGR shards."""
    write_shards(tmp_path)
    dataset = shards.open_dataset(tmp_path)
    stored = [image[:, :, ::-1].tobytes() for part in dataset.train for image in part.images[part.labels == 2]]
    found = [image.tobytes() for image in verification.examples(dataset, [2, 0], 5, seed=0)[2]]
    assert len(set(found)) == 5
    assert set(found) <= set(stored)
    assert found == [image.tobytes() for image in verification.examples(dataset, [2], 5, seed=0)[2]]
    assert found != [image.tobytes() for image in verification.examples(dataset, [2], 5, seed=1)[2]]


def test_many_classes_share_a_sheet(tmp_path):
    """With thousands of classes an even choice of them is drawn; a class may have a single image."""
    assert contact_sheet.shown_classes(3) == [0, 1, 2]
    shown = contact_sheet.shown_classes(5000)
    assert len(shown) == len(set(shown)) == contact_sheet.MOST_CLASSES
    assert (shown[0], shown[-1]) == (0, 4999)
    small, large = np.zeros((5, 9, 1), np.uint8), np.zeros((90, 80, 3), np.uint8)
    rows = [("one $image$", [small]), ("none", []), ("two", [large, large])]
    contact_sheet.draw(rows, tmp_path / "sheet.png", title="a title")
    assert (tmp_path / "sheet.png").stat().st_size > 0
