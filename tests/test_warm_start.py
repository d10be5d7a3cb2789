"""Weights to start from: what is taken over, what is drawn anew, what is refused."""

from __future__ import annotations

import io
import os
import warnings
import zipfile

import numpy as np
import pytest
import small_run

from lenet_mp.errors import CheckpointError
from lenet_mp.networks import warm_start
from lenet_mp.networks.models import MODEL_2, MODELS
from lenet_mp.networks.network import compile_network
from lenet_mp.networks.warm_start import Source
from lenet_mp.parallel.comm import Solo
from lenet_mp.results import exporters
from lenet_mp.training import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("warm"))


def source_of(network, seed=7):
    flat = network.initialise(seed)
    return flat, Source("other.npz", network.views(flat))


def test_the_same_network_takes_everything():
    """Every weight is that of the source, and the initial vector is left alone."""
    network = compile_network(MODEL_2)
    initial = network.initialise(0)
    flat, source = source_of(network)
    start = warm_start.take_over(network, initial, source)
    np.testing.assert_array_equal(start.parameters, flat)
    np.testing.assert_array_equal(initial, network.initialise(0))
    assert start.drawn == ()
    assert start.text("other.npz") == "weights of C1, C2, C3, C5, F7, F8 from other.npz"


def test_other_classes_keep_all_but_the_last_layer():
    """For ten classes instead of fifty, the last layer alone has its initial values, and that is said."""
    network = compile_network(MODEL_2, classes=10)
    initial = network.initialise(0)
    flat, source = source_of(compile_network(MODEL_2))
    start = warm_start.take_over(network, initial, source)
    ours, theirs, drawn = (network.views(start.parameters), source.arrays, network.views(initial))
    for layer in ("C1", "C2", "C3", "C5", "F7"):
        for array in ("weight", "bias"):
            np.testing.assert_array_equal(ours[f"{layer}.{array}"], theirs[f"{layer}.{array}"])
    for array in ("F8.weight", "F8.bias"):
        np.testing.assert_array_equal(ours[array], drawn[array])
    assert start.drawn == ("F8 (F8.weight is 84 x 50 there, 84 x 10 here)",)
    assert flat.size != start.parameters.size


def test_a_bias_stays_with_its_weight():
    """For larger images C5's weight does not fit; its bias, which would, is drawn anew with it."""
    network = compile_network(MODEL_2, (400, 400, 3))
    initial = network.initialise(0)
    _, source = source_of(compile_network(MODEL_2))
    source.arrays["C5.bias"][...] = 9
    start = warm_start.take_over(network, initial, source)
    assert [text.partition(" ")[0] for text in start.drawn] == ["C5"]
    assert not (start.parameters == 9).any()


def test_a_source_that_fits_nowhere_is_refused():
    """Nothing to take over is an error that says why."""
    network = compile_network(MODELS["lenet5"])
    with pytest.raises(CheckpointError, match=r"other.npz fits no layer of model lenet5: C1 \(C1.weight is 3 x 3 x 3"):
        warm_start.take_over(network, network.initialise(0), source_of(compile_network(MODEL_2))[1])


def test_values_that_are_not_finite_are_refused():
    """A diverged network is no start."""
    network = compile_network(MODEL_2)
    flat, source = source_of(network)
    flat[3] = np.nan
    with pytest.raises(CheckpointError, match=r"C1.weight holds values that are not finite"):
        warm_start.take_over(network, network.initialise(0), source)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "ckpt", "run"])
def test_all_files_give_the_same_weights(trained, tmp_path, kind):
    """Exports, checkpoints and run folders hold the same arrays and pixel range."""
    saved = checkpoint.load(trained.run / "best.ckpt")
    path = {"ckpt": trained.run / "best.ckpt", "run": trained.run}.get(kind, tmp_path / f"model.{kind}")
    if kind in exporters.EXPORTERS:
        if kind == "safetensors":
            pytest.importorskip("safetensors")
        exporters.EXPORTERS[kind](saved, path)
    source = warm_start.read(path)
    start = warm_start.take_over(saved.network, saved.network.initialise(5), source)
    np.testing.assert_array_equal(start.parameters, saved.parameters)
    assert not warm_start.other_range(source, "n1p1")
    assert warm_start.other_range(source, "0p1")


def test_foreign_files_without_facts_are_taken(tmp_path):
    """An .npz from elsewhere with the right names, in float64, is enough; its pixel range is not known."""
    network = compile_network(MODELS["lenet5"])
    flat, source = source_of(network)
    np.savez(tmp_path / "own.npz", **{name: array.astype(np.float64) for name, array in source.arrays.items()})
    read = warm_start.read(tmp_path / "own.npz")
    np.testing.assert_array_equal(warm_start.take_over(network, network.initialise(0), read).parameters, flat)
    assert not warm_start.other_range(read, "0p1")


def test_bad_files_are_one_line(tmp_path):
    """Missing, damaged, pickled and integer files are refused with a line that names the file."""
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    np.savez(tmp_path / "pickled.npz", **{"C1.weight": np.array([{}], object)})
    np.savez(tmp_path / "integers.npz", **{"C1.weight": np.arange(3)})
    for name in ("none.npz", "none.safetensors", "none", "bad.npz", "bad.safetensors", "pickled.npz", "integers.npz"):
        if name.endswith(".safetensors"):
            pytest.importorskip("safetensors")
        with pytest.raises(CheckpointError, match=name) as caught:
            warm_start.read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_run_begins_with_the_weights_of_a_file(trained):
    """Parameters are replaced in place; another pixel range is noted."""
    saved = checkpoint.load(trained.run / "best.ckpt")
    parameters = saved.network.initialise(5)
    lines = warm_start.begin(Solo(), saved.network, parameters, trained.run, "lenet5")
    np.testing.assert_array_equal(parameters, saved.parameters)
    assert lines == [
        f"weights of C1, F3 from {trained.run}",
        f"note: {trained.run} was trained on pixels in another range than --normalize lenet5",
    ]


def npy(array):
    """Return the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("C1.weight.npy", npy(np.ones(3))[:-1])], "float64 .3,. in 151 bytes"),
        ([("C1.weight.npy", npy(np.ones(3)) + b"x")], "float64 .3,. in 153 bytes"),
        ([("C1.weight.npy", npy(np.ones(3)).replace(b"(3,), }         ", b"(3000000000,), }"))], "3000000000,. in 152"),
        ([("C1.weight.npy", npy(np.ones(3)).replace(b"(3,), }", b"(3,), ["))], "no header of an array"),
        ([("C1.weight.npy", b"\x93NUMPY\x03\x00" + npy(np.ones(3))[8:])], "format .3, 0."),
        ([("C1.weight.npy", npy(np.array(["x"])))], "not floating-point numbers"),
        ([("C1.weight.npy", npy(np.ones(3))), ("C1.weight", npy(np.zeros(3)))], "holds an array twice"),
        ([("scale.npy", npy(np.float32(np.nan)))], "not finite"),
        ([("scale.npy", npy(np.ones(2)))], "no numbers"),
        ([("C1.weight.npy", bytes(70 << 20))], "unpacks to 73,400,320 bytes"),
    ],
    ids=["short", "long", "24 GB", "header", "version", "text", "twice", "NaN", "numbers", "bomb"],
)
def test_npz_files_that_lie(tmp_path, members, complaint):
    """An array of which bytes are missing or left over, one that is there twice, and a bomb are refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_zip(tmp_path / "bad.npz", members, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=rf"bad\.npz.*({complaint})") as caught:
        warm_start.read(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_file_of_weights(tmp_path):
    """What is no regular file is refused without waiting for it."""
    for name in ("pipe.npz", "pipe.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CheckpointError, match="not a regular file"):
            warm_start.read(tmp_path / name)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_flipped_bit_in_an_export_is_found(trained, tmp_path, kind):
    """Wherever a bit of the weights flips, --init-from refuses the file."""
    if kind == "safetensors":
        pytest.importorskip("safetensors")
    saved = checkpoint.load(trained.run / "best.ckpt")
    path = tmp_path / f"model.{kind}"
    exporters.EXPORTERS[kind](saved, path)
    good = path.read_bytes()
    weights = saved.network.views(saved.parameters)["C1.weight"].tobytes()
    start = good.index(weights)
    for bit in range(0, 8 * len(weights), 77):
        bad = bytearray(good)
        bad[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"Bad CRC-32|its SHA-256 does not fit"):
            warm_start.read(path)


def test_a_flipped_bit_in_the_directory_of_an_export_is_found(trained, tmp_path):
    """A bit that makes another name of an array's in the directory of an .npz file loses no layer silently."""
    path = tmp_path / "model.npz"
    exporters.EXPORTERS["npz"](checkpoint.load(trained.run / "best.ckpt"), path)
    bad = bytearray(path.read_bytes())
    bad[bad.rindex(b"C1.weight") + 5] ^= 1
    path.write_bytes(bad)
    with pytest.raises(CheckpointError, match=r"cannot read weights from .*differ"):
        warm_start.read(path)
