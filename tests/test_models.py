"""Model tables, from the package and from TOML files."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mp.errors import GeometryError, UsageError
from lenet_mp.networks.geometry import ACTIVATIONS, Kind
from lenet_mp.networks.model_files import find_model, from_document, read_model, to_document
from lenet_mp.networks.models import MODELS, change
from lenet_mp.networks.network import compile_network

SMALL = """
name = "small"
image = [28, 28, 1]
classes = 10
[[layer]]
kind = "conv"
channels = 8
kernel = 5
[[layer]]
kind = "relu"
[[layer]]
kind = "max_pool"
kernel = 2
[[layer]]
name = "out"
kind = "dense"
"""

# Parameters of every layer that has some: the original's tables.
PARAMETERS = {
    "1": {"C1": 456, "C2": 2416, "C5": 48120, "F7": 10164, "F8": 4250},
    "2": {"C1": 168, "C2": 880, "C3": 4350, "C5": 32520, "F7": 10164, "F8": 4250},
    "lenet5": {"C1": 156, "C3": 2416, "C5": 48120, "F6": 10164, "F7": 850},
}


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name):
    """The shipped models have the published numbers of parameters, layer by layer."""
    network = compile_network(find_model(name))
    counts = {layer.name: layer.parameter_count for layer in network.layers if layer.parameter_count}
    assert counts == PARAMETERS[name]
    assert network.parameter_count == sum(PARAMETERS[name].values())


@pytest.mark.parametrize("name", MODELS)
def test_documents_round_trip(name):
    """A table written to a document and read back is the same table."""
    assert from_document(to_document(MODELS[name]), "test") == MODELS[name]


def test_read_a_model_file(tmp_path):
    """A TOML table compiles; unnamed layers are named by kind and position, pooling strides by its kernel."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    network = compile_network(find_model(str(path)))
    shapes = {layer.name: layer.output_shape for layer in network.layers}
    assert shapes == {"C1": (24, 24, 8), "C1.relu": (24, 24, 8), "S2": (12, 12, 8), "out": (1, 1, 10)}
    assert network.layers[-1].weight_shape == (12, 12, 8, 10)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "1 to 64"),
        ("layer = 3", "1 to 64"),
        ("x", "not valid TOML"),
        (SMALL.replace("max_pool", "maxpool"), "layer 3: unknown kind 'maxpool'"),
        (SMALL.replace("channels = 8", "channels = 0"), "layer 1: channels must be a whole number from 1"),
        (SMALL.replace("channels = 8", ""), "layer 1: channels must be"),
        (SMALL.replace("channels = 8", "channels = true"), "layer 1: channels must be"),
        (SMALL.replace("kernel = 5", "kernel = -5"), "layer 1: kernel must be"),
        (SMALL.replace("kernel = 5", 'kernel = "5"'), "layer 1: kernel must be"),
        (SMALL.replace('kind = "dense"', 'kind = "dense"\nkernel = 3'), "'dense' has no setting 'kernel'"),
        (SMALL.replace('name = "out"', 'name = "C1"'), "two layers are called C1"),
        (SMALL.replace('name = "out"', 'name = "../x"'), "name must be"),
        (SMALL.replace("classes = 10", "classes = 1"), "classes must be"),
        (SMALL.replace("[28, 28, 1]", "[28, 28]"), "image must be"),
        (SMALL.replace('name = "small"', "name = 3"), "name must be at most"),
        (SMALL.replace('name = "small"', 'name = "a/../../b"'), "name must be at most"),
        ("colour = 1\n" + SMALL, "unknown key 'colour'"),
        (SMALL * 1 + '[[layer]]\nkind = "relu"\n' * 61, "1 to 64"),
    ],
)
def test_bad_model_files_are_refused(tmp_path, text, complaint):
    """Every mistake in a table is one line that names the file, the row and what is allowed."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_model(path)
    assert complaint in str(error.value)
    assert "bad.toml" in str(error.value) or "two layers" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_unknown_models(tmp_path):
    """A model that is no table and no file is told with what there is."""
    with pytest.raises(UsageError, match="choose one of 1, 2, lenet5"):
        find_model("3")
    with pytest.raises(UsageError, match="No such file"):
        find_model(str(tmp_path / "none.toml"))


def test_change_settings():
    """Settings change the layer they name and no other."""
    changed = change(MODELS["1"], ["C1.stride=2", "C2.kernel=3"])
    rows = {row.name: row for row in changed.rows}
    assert (rows["C1"].stride, rows["C2"].kernel, rows["S1"].kernel) == (2, 3, 3)
    assert MODELS["1"].rows[0].stride == 3


@pytest.mark.parametrize("setting", ["C1", "C9.stride=2", "C1.size=2", "C1.stride=0", "C1.stride=-1", "S1.padding=1"])
def test_bad_settings_are_refused(setting):
    """A setting that cannot be is told with the setting."""
    with pytest.raises(UsageError, match=setting.split("=")[0].replace(".", r"\.")):
        change(MODELS["1"], [setting])


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_image_that_is_named_works(name):
    """The size that the error names compiles, and one pixel less does not."""
    model = MODELS[name]
    with pytest.raises(GeometryError, match="layer ") as error:
        compile_network(model, (8, 8, 3))
    smallest = int(str(error.value).split("works is ")[1].split(" x ")[0])
    assert compile_network(model, (smallest, smallest, 3))
    with pytest.raises(GeometryError):
        compile_network(model, (smallest - 1, smallest - 1, 3))


def test_padding_as_large_as_the_kernel_is_refused():
    """Outputs that see nothing but padding are a mistake, told as such."""
    with pytest.raises(GeometryError, match="layer C2: padding 5 must be smaller than the kernel 5"):
        compile_network(change(MODELS["1"], ["C2.padding=5"]))


def test_a_model_must_end_in_one_output_a_class():
    """A table that ends in maps is told how to end."""
    document = {"name": "x", "layer": [{"kind": "conv", "channels": 3, "kernel": 3}]}
    with pytest.raises(GeometryError, match="end it in a dense layer"):
        compile_network(from_document(document, "test"))


kinds = st.sampled_from([k.value for k in Kind] + list(ACTIVATIONS) + ["x"])
values = st.one_of(st.integers(-2, 9), st.text(max_size=3), st.none(), st.floats(), st.lists(st.integers(), max_size=2))
tables = st.dictionaries(st.sampled_from(["name", "channels", "kernel", "stride", "padding", "y"]), values, max_size=4)


@given(st.lists(st.tuples(kinds, tables), max_size=6), values, values)
def test_any_document_is_a_model_or_a_usage_error(layers, image, classes):
    """Whatever a document holds, the answer is a network or a UsageError, never another exception."""
    document = {"name": "x", "image": image, "classes": classes, "layer": [{"kind": k, **t} for k, t in layers]}
    with contextlib.suppress(UsageError):
        network = compile_network(from_document(document, "test"), (30, 30, 1), 4)
        assert network.classes == 4
