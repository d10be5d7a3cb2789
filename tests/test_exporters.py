"""``lenet-mp export``: a trained network that other programs can run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import small_run

from lenet_mp import engine, export
from lenet_mp.networks import model_files, models
from lenet_mp.networks.geometry import Kind
from lenet_mp.networks.models import Model, Row, activation, average_pool, conv, dense
from lenet_mp.networks.network import compile_network
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.results import export_c
from lenet_mp.results.classifier import Classifier
from lenet_mp.results.exporters import EXPORTERS
from lenet_mp.training import checkpoint
from lenet_mp.training.checkpoint import Checkpoint

EVERYTHING = Model(
    "all */ of\n it",
    (
        activation("tanh"),
        conv("C-1", 5, kernel=3, stride=2, padding=1), activation("squash"),
        average_pool("S1", 3, 2),
        conv("C2", 4, kernel=2), activation("elu"),
        Row(kind=Kind.SUBSAMPLE, name="S2", kernel=2, stride=1), activation("sigmoid"),
        Row(kind=Kind.MAX_POOL, name="S3", kernel=2, stride=1), activation("prelu"),
        dense("F1", 9), activation("relu"), activation("tanh"),
        dense("F2"), activation("squash"),
    ),
    (23, 19, 2), 3,
)  # fmt: skip
"""Every kind of layer and activation, odd sizes, an activation in front and one behind."""


def untrained(model, *, normalize="n1p1", names=None, seed=0):
    """Return a checkpoint with random weights and biases, large enough to bend the activations."""
    network = compile_network(model)
    weights = 1.5 * network.initialise(seed)
    for name, array in network.views(weights).items():
        if name.endswith("bias"):
            array[...] = np.random.default_rng(seed).normal(0, 0.3, array.shape)
    return Checkpoint(
        resampling="bilinear",
        model=model, input_shape=model.input_shape, channel_order="RGB", normalize=normalize, config={},
        class_names=names or tuple(f"class {n}" for n in range(model.classes)),
        arrays={"parameters": weights, "velocity": np.zeros_like(weights)},
    )  # fmt: skip


def images_and_logits(state, count=5):
    """Random images of the checkpoint's shape, and the program's own logits of them."""
    images = np.random.default_rng(1).integers(0, 256, (count, *state.input_shape), dtype=np.uint8)
    scale, offset = scale_and_offset(state.normalize)
    plan = engine.Plan(state.network.layers, scale=scale, offset=offset, threads=1)
    addresses = np.array([image.ctypes.data for image in images], np.uintp)
    return images, plan.forward(state.parameters, addresses)


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


def test_safetensors_holds_the_same_arrays(trained, tmp_path, capsys):
    """The library of that name reads every array as it is in the checkpoint, and the facts as texts."""
    library = pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    assert export.main([str(trained.run), "--format", "safetensors", "-o", str(path)]) == 0
    capsys.readouterr()
    state = checkpoint.load(trained.run / "best.ckpt")
    with library.safe_open(path, "np") as file:
        facts = file.metadata()
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    expected = state.network.views(state.parameters)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert tuple(json.loads(facts["class_names"])) == small_run.NAMES
    assert json.loads(facts["input_shape"]) == list(small_run.SHAPE)
    assert (float(facts["scale"]), float(facts["offset"])) == (2 / 255, -1.0)
    assert model_files.from_document(json.loads(facts["model"]), "file") == state.model


@pytest.mark.parametrize("model", [EVERYTHING, models.MODEL_1, models.MODEL_2, models.LENET5], ids=lambda m: m.name[:6])
def test_onnx_gives_the_same_logits(tmp_path, model):
    """onnxruntime, fed with stored pixels, computes the program's logits within 1e-4, for any batch size."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    state = untrained(model, normalize="lenet5")
    path = tmp_path / "model.onnx"
    assert EXPORTERS["onnx"](state, path) == [path]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == list(state.class_names)
    for count in (1, 5):
        images, expected = images_and_logits(state, count)
        assert np.abs(expected).max() > 0.1
        (found,) = session.run(["logits"], {"images": images})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


DRIVER = """
#include <stdio.h>
#include "model.h"
static float scratch[MODEL_SCRATCH];
static unsigned char image[MODEL_BYTES];
int main(void)
{
    float logits[MODEL_CLASSES];
    int i;
    if (model_self_test(image, scratch))
        return 9;
    while (fread(image, 1, MODEL_BYTES, stdin) == MODEL_BYTES) {
        model_logits(image, logits, scratch);
        for (i = 0; i < MODEL_CLASSES; i++)
            printf("%.9g ", logits[i]);
        puts(model_class_names[model_best(logits)]);
    }
    return 0;
}
"""
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def compiled(folder, *options):
    """Compile the exported source with the driver; return the program's path."""
    (folder / "driver.c").write_text(DRIVER)
    command = ["gcc", *STRICT, *options, "-o", "program", "driver.c", "model.c"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    return folder / "program"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("model", [EVERYTHING, models.LENET5, models.MODEL_2], ids=lambda m: m.name[:6])
def test_c_source_gives_the_same_logits(tmp_path, model):
    """Compiled without a warning and run under the sanitizers, the source repeats the program's logits and names."""
    state = untrained(model, normalize="0p1")
    assert EXPORTERS["c"](state, tmp_path / "model.c") == [tmp_path / "model.h", tmp_path / "model.c"]
    program = compiled(tmp_path, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    images, expected = images_and_logits(state)
    result = subprocess.run([program], input=images.tobytes(), capture_output=True, check=True, timeout=120)
    lines = result.stdout.decode().splitlines()
    found = np.array([line.split()[: model.classes] for line in lines], np.float64)
    # The tolerance of the self-test: sums of up to 3,000 products, rounded one by one instead of fused.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert [line.split(maxsplit=model.classes)[-1] for line in lines] == [
        state.class_names[n] for n in expected.argmax(axis=1)
    ]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_source_needs_no_library(tmp_path):
    """The object file asks for no symbol of any library, not even of the C library's mathematics."""
    EXPORTERS["c"](untrained(EVERYTHING), tmp_path / "model.c")
    command = ["gcc", *STRICT, "-O1", "-fno-builtin", "-c", "model.c"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    undefined = subprocess.run(["nm", "-u", "model.o"], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert undefined.stdout.split() == []


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_self_test_notices_a_wrong_weight(tmp_path):
    """A source with one changed weight compiles, and its self-test says that it is not the network any more."""
    EXPORTERS["c"](untrained(models.LENET5), tmp_path / "model.c")
    text = (tmp_path / "model.c").read_text()
    start = text.index("layer_7_F7_weights[850] = {\n    ") + len("layer_7_F7_weights[850] = {\n    ")
    end = text.index(",", start)
    (tmp_path / "model.c").write_text(f"{text[:start]}9.5f{text[end:]}")
    assert subprocess.run([compiled(tmp_path)], check=False, timeout=60).returncode == 9


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_class_names_survive_in_c(tmp_path):
    """Quotes, backslashes, trigraphs, percent signs, umlauts and digits behind an escape come out as they went in."""
    names = ('say "x"', "a\\b", "??=", "100 %d", "\u00fc9", "\u732b", "tab\there")
    model = Model("names", (dense("F1"),), (1, 1, 1), len(names))
    state = untrained(model, names=names)
    weights = state.network.views(state.parameters)
    weights["F1.weight"][...] = 0
    for number, name in enumerate(names):
        weights["F1.bias"][...] = np.arange(len(names)) == number
        EXPORTERS["c"](state, tmp_path / "model.c")
        result = subprocess.run([compiled(tmp_path)], input=b"x", capture_output=True, check=True, timeout=60)
        assert result.stdout.decode().removesuffix("\n").endswith(f" {name}")


def test_c_constants_are_exact():
    """Every float is written so that reading it gives the same float."""
    values = np.array([0, 1, -2.5, 1 / 3, 1e-38, -3.4e38, 123456789], np.float32)
    texts = [export_c.number(value) for value in values]
    assert all(text.endswith("f") for text in texts)
    np.testing.assert_array_equal(np.array([text[:-1] for text in texts], np.float32), values)
    assert texts[:2] == ["0.0f", "1.0f"]


def test_c_names_come_from_the_file(trained, tmp_path, capsys):
    """The file's name becomes the prefix of functions and macros; another suffix is refused."""
    assert export.main([str(trained.run), "--format", "c", "-o", str(tmp_path / "2nd-net.c")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in ("2nd-net.h", "2nd-net.c")]
    assert "void m_2nd_net_logits(" in (tmp_path / "2nd-net.c").read_text()
    assert "#define M_2ND_NET_CLASSES 4" in (tmp_path / "2nd-net.h").read_text()
    assert export.main([str(trained.run), "--format", "c", "-o", str(tmp_path / "net.cpp")]) == 2
    assert "must end in .c" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "module"), [("onnx", "onnx"), ("safetensors", "safetensors.numpy")])
def test_missing_library_says_how_to_install_it(trained, tmp_path, capsys, monkeypatch, kind, module):
    """Without the library of a format the answer is one line with the extra that brings it."""
    monkeypatch.setitem(sys.modules, module, None)
    assert export.main([str(trained.run), "--format", kind, "-o", str(tmp_path / "out")]) == 2
    assert "lenet-mp[export]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
