"""JSON and TOML from others: what is too much or ambiguous is refused before it costs anything."""

import pytest

from lenet_mp import documents
from lenet_mp.errors import UsageError
from lenet_mp.networks.model_files import from_document, read_model
from lenet_mp.networks.network import compile_network
from lenet_mp.training import config


@pytest.mark.parametrize(
    "text",
    [b'{"a": 1, "a": 2}', b'{"a": {"b": 1, "c": 2, "b": 1}}', b"[NaN]", b"[-Infinity]", b"[1e400]", b"[1", b"\xff",
     b"[" + b"1," * documents.MOST_VALUES + b"1]", b" " * (documents.LARGEST_TEXT + 1)],
    ids=["twice", "twice inside", "NaN", "infinite", "too large", "torn", "bytes", "values", "bytes in all"],
)  # fmt: skip
def test_json_that_is_refused(text):
    """Names that are there twice, numbers that are none, and floods of values are a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        documents.parse_json(text)


def test_json_that_is_read():
    """Everything else is read as Python reads it."""
    assert documents.parse_json(b'{"a": [1, 2.5, null, true], "b": {"a": "\\u00fc"}}') == {
        "a": [1, 2.5, None, True], "b": {"a": "ü"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["a." * 30_000 + "a = 1", "[" + "a." * 30_000 + "a]", "x = {" + "a." * 30_000 + "a = 1}", "#" * (1 << 20) + "#"],
    ids=["key", "table", "inline", "bytes"],
)
def test_toml_that_is_refused(tmp_path, text):
    """Keys of thousands of parts, which take the parser minutes, and files of megabytes are refused by both readers."""
    path = tmp_path / "long.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"long\.toml.*(dots in line 1|more than 1,048,576 bytes)"):
        config.read_options(path)
    with pytest.raises(UsageError, match=r"long\.toml.*(dots in line 1|more than 1,048,576 bytes)"):
        read_model(path)


def test_a_weight_for_each_of_many_classes_is_read(tmp_path):
    """A long text of numbers is no key, however many dots it has."""
    path = tmp_path / "config.toml"
    weights = ",".join(["0.25"] * 50_000)
    path.write_text(f'seed = 3\nclass_weights = "{weights}"\n')
    assert config.read_options(path) == {"seed": 3, "class_weights": weights}


def test_the_smallest_image_of_a_model_of_many_layers():
    """The smallest image that fits is found without trying them all, and is the smallest."""
    rows = [{"kind": "conv", "channels": 1, "kernel": 2}] * 40
    rows += [{"kind": "max_pool", "kernel": 100}, {"kind": "dense"}]
    model = from_document({"layer": rows}, "deep", default_name="deep")
    with pytest.raises(UsageError, match="the smallest image that works is 140 x 140"):
        compile_network(model, (50, 60, 3))
    compile_network(model, (140, 140, 3))
    with pytest.raises(UsageError, match="does not fit"):
        compile_network(model, (139, 140, 3))
