"""Manifests from elsewhere: what is ambiguous, too much or strange is refused in one line."""

import json

import pytest
import small_run

from lenet_mp.data import manifest
from lenet_mp.errors import DataError


def refused(folder, text):
    """Write a manifest and return what reading it says."""
    (folder / manifest.NAME).write_bytes(text)
    with pytest.raises(DataError, match=r"manifest\.json") as caught:
        manifest.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_texts_that_are_refused(tmp_path):
    """A name that is there twice, a number that is none, depth and floods of values are told as damage."""
    assert "there twice" in refused(tmp_path, b'{"format": 1, "format": 2}')
    assert "NaN" in refused(tmp_path, b'{"format": NaN}')
    assert "recursion" in refused(tmp_path, b"[" * 100_000)
    assert "2,000,000 values" in refused(tmp_path, b'{"class_names": [' + b'"a",' * 2_100_000 + b'"a"]}')


def test_a_filter_that_nobody_knows(tmp_path):
    """The filter of the images ends up in checkpoints: a name that no filter has is refused here."""
    document = json.loads((small_run.write_data(tmp_path / "data") / manifest.NAME).read_bytes())
    del document["sha256"]
    document["options"]["resampling"] = "../x"
    assert "'options' is missing or wrong" in refused(tmp_path / "data", json.dumps(document).encode())
