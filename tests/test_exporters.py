"""``lenet-mp export``: a trained network that other programs can run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_run

from lenet_mp import checkpoint, export, model_files
from lenet_mp.classifier import Classifier


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("export"))


def test_npz_holds_all_that_is_needed_to_run_the_network(trained, tmp_path, capsys):
    """From the file alone, without pickle, NumPy computes the logits that the program computes."""
    path = tmp_path / "model.npz"
    assert export.main([str(trained.run), "--format", "npz", "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with np.load(path, allow_pickle=False) as file:
        found = dict(file)
    assert tuple(found["class_names"]) == small_run.NAMES
    assert tuple(found["input_shape"]) == small_run.SHAPE
    assert str(found["channel_order"]) == "RGB"
    image = small_run.pictures(1, 8)[0][0]
    x = image.astype(np.float64) * found["scale"] + found["offset"]
    c1 = np.empty((10, 8, 4))
    for row, column in np.ndindex(10, 8):
        c1[row, column] = np.tensordot(x[row : row + 3, column : column + 3], found["C1.weight"], 3) + found["C1.bias"]
    s2 = (1.7159 * np.tanh(2 / 3 * c1)).reshape(5, 2, 4, 2, 4).max(axis=(1, 3))
    logits = np.tensordot(s2, found["F3.weight"], 3) + found["F3.bias"]
    expected = Classifier.load(trained.run).logits(image[np.newaxis])[0]
    # 80 products of magnitude below 2 in float32.
    np.testing.assert_allclose(logits, expected, rtol=0, atol=80 * 2 * 2**-24 + 1e-5)


def test_npz_table_is_the_model(trained, tmp_path, capsys):
    """The table inside the file compiles to the network that the arrays fit."""
    assert export.main([str(trained.run), "-o", str(tmp_path / "model.npz")]) == 0
    capsys.readouterr()
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        model = model_files.from_document(json.loads(str(file["model"])), "file")
    assert model == checkpoint.load(trained.run / "best.ckpt").model


def test_default_file_lies_in_the_run_folder(trained, capsys):
    """Without -o the file is model.npz in the run folder."""
    assert export.main([str(trained.run)]) == 0
    assert capsys.readouterr().out == f"{trained.run / 'model.npz'}\n"
    assert (trained.run / "model.npz").is_file()


def test_damaged_checkpoint_and_unwritable_file_have_their_codes(trained, tmp_path, capsys):
    """What is wrong is one line; nothing is written."""
    damaged = tmp_path / "damaged.ckpt"
    data = bytearray((trained.run / "best.ckpt").read_bytes())
    data[-100] ^= 1
    damaged.write_bytes(data)
    assert export.main([str(damaged)]) == 4
    assert "damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.ckpt"]
    assert export.main([str(trained.run), "-o", str(tmp_path / "gone" / "model.npz")]) == 74
    assert capsys.readouterr().err.count("\n") == 1
