"""Checkpoint files: the whole state, and nothing else, comes back."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mp.errors import CheckpointError, DivergenceError, OutputError
from lenet_mp.networks.model_files import from_document
from lenet_mp.training import checkpoint, checkpoint_document
from lenet_mp.training.checkpoint import DIGEST, HEADER, MAGIC, Checkpoint


def make(**changes):
    rows = [{"kind": "conv", "channels": 2, "kernel": 3}, {"kind": "relu"}, {"kind": "dense"}]
    state = {
        "model": from_document({"name": "tiny", "layer": rows}, "test"),
        "input_shape": (5, 4, 1),
        "class_names": ("a b", "ü", b"caf\xe9".decode(errors="surrogateescape")),
        "channel_order": "L",
        "resampling": "bilinear",
        "normalize": "n1p1",
        "config": {"seed": 1, "lr": "0.1"},
        "data_fingerprint": "f00d",
        "history": [dict.fromkeys(checkpoint_document.METRICS, 1) | {"loss": 0.1 + 0.2, "val_top1": None}],
        "epoch": 1,
        "step": 7,
        "counts": [1 << 80, 7, 0, 3, 4],
    }
    saved = Checkpoint(**(state | changes))
    count = saved.network.parameter_count
    saved.arrays = {
        "parameters": np.linspace(-1, 1, count, dtype=np.float32),
        "velocity": np.full(count, np.float32(1e-42)),
    }
    return saved


def rewritten(data, change):
    """Return the file with its JSON changed and its SHA-256 made to fit: what an enemy would send."""
    length = HEADER.unpack_from(data)[1]
    document = json.loads(data[HEADER.size : HEADER.size + length])
    change(document)
    text = json.dumps(document).encode()
    body = HEADER.pack(MAGIC, len(text)) + text + data[HEADER.size + length : -DIGEST]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize("name", ["parameters", "velocity"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_saved(tmp_path, name, value):
    """Values that came to be between a step's check and the saving do not take the place of the last good file."""
    path = tmp_path / "a.ckpt"
    checkpoint.save(make(), path)
    before = path.read_bytes()
    spoilt = make()
    spoilt.arrays[name][3] = value
    with pytest.raises(DivergenceError, match=f"{name} are finite after 1 epochs and 7 steps: nothing is saved"):
        checkpoint.save(spoilt, path)
    assert path.read_bytes() == before


def test_everything_comes_back(tmp_path):
    """What was saved is what is loaded, to the last bit."""
    saved = make()
    checkpoint.save(saved, tmp_path / "a.ckpt")
    loaded = checkpoint.load(tmp_path / "a.ckpt")
    for name, array in saved.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        assert loaded.arrays[name].tobytes() == array.tobytes()
    for name in ("model", "input_shape", "class_names", "channel_order", "config", "history", "counts"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert (loaded.epoch, loaded.step) == (saved.epoch, saved.step)


def test_the_same_state_is_the_same_file():
    """Two files of one state are equal, so that files can be compared by hash."""
    assert checkpoint.to_bytes(make()) == checkpoint.to_bytes(make())


@given(st.data())
def test_every_damage_is_found(data):
    """A flipped bit, a cut or an added byte anywhere is refused."""
    good = checkpoint.to_bytes(make())
    kind = data.draw(st.sampled_from(["flip", "cut", "add"]))
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    if kind == "flip":
        bad[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        bad = bad[:place]
    else:
        bad.insert(place, 0)
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint"):
        checkpoint.from_bytes(bytes(bad), "x.ckpt")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(version=2), "format version 2"),
        (lambda d: d["arrays"][0].update(shape=[3]), "arrays end at|do not fit"),
        (lambda d: d["arrays"][0].update(shape=[10**12]), "ValueError"),
        (lambda d: d["arrays"][0].update(shape=[-1]), "list of arrays cannot be"),
        (lambda d: d["arrays"][0].update(dtype="|O"), "list of arrays cannot be"),
        (lambda d: d["arrays"].pop(0), "list of arrays cannot be"),
        (lambda d: d.pop("history"), "'history' is missing"),
        (lambda d: d.update(class_names=3), "class names cannot be"),
        (lambda d: d.update(class_names=list("abcd")), "do not fit its model"),
        (lambda d: d["model"]["layer"][0].update(kind="eval"), "unknown kind"),
        (lambda d: d.update(input_shape=[1, 1, 1]), "does not fit"),
        (lambda d: d.update(input_shape=["a", "b", "c"]), "input shape cannot be"),
        (lambda d: d.update(epoch=None), "epoch cannot be"),
        (lambda d: d.update(epoch=float("inf")), "Infinity is not a finite number"),
        (lambda d: d.update(step=-1), "cannot be"),
        (lambda d: d.update(counts=[1]), "cannot be"),
        (lambda d: d.update(counts=[1, 2, 3, 4, 10**40]), "cannot be"),
        (lambda d: d.update(step=10**20), "cannot be"),
        (lambda d: d.update(epoch=3), "cannot be"),
        (lambda d: d.update(channel_order="XYZ"), "cannot be"),
        (lambda d: d.update(normalize="zz"), "pixel range cannot be"),
        (lambda d: d["history"][0].update(loss="x"), "cannot be"),
        (lambda d: d["history"][0].update(extra=1), "cannot be"),
        (lambda d: d["history"][0].pop("loss"), "history cannot be"),
        (lambda d: d["history"][0].update(loss=None), "history cannot be"),
        (lambda d: d["arrays"][0].update(shape=[10**30]), "OverflowError|ValueError"),
        # What a careless reader converts: the file says one thing, the program would take another.
        (lambda d: d.update(version=True), "format version True"),
        (lambda d: d["model"]["layer"][0].update({"a\nb\x1b[31m": 1}), r"no setting 'a\\nb\\x1b\[31m'"),
        (lambda d: d.update(epoch=True), "epoch cannot be"),
        (lambda d: d.update(step=7.5), "step cannot be"),
        (lambda d: d.update(step="7"), "step cannot be"),
        (lambda d: d.update(counts=[1.5, 7, 0, 3, 4]), "counts cannot be"),
        (lambda d: d.update(class_names=["a b", 3, "c"]), "class names cannot be"),
        (lambda d: d.update(class_names=["a", "a", "c"]), "class names cannot be"),
        (lambda d: d.update(resampling="fast"), "filter cannot be"),
        (lambda d: d.update(channel_order="RGB"), "channel order cannot be"),
        (lambda d: d.update(input_shape=[5.0, 4, 1]), "input shape cannot be"),
        (lambda d: d.update(extra=1), "'extra' is unknown"),
        (lambda d: d["arrays"].append(d["arrays"][0]), "list of arrays cannot be"),
        (lambda d: d["arrays"][1].update(name="parameters"), "list of arrays cannot be"),
        (lambda d: d["arrays"][0].update(name="../x"), "list of arrays cannot be"),
        (lambda d: d["history"][0].update(seconds=1e308), "history cannot be"),
        (lambda d: d["history"][0].update(epoch=2), "history cannot be"),
        (lambda d: d["history"][0].update(loss=float("nan")), "NaN is not a finite number"),
    ],
)
def test_hostile_contents_are_refused(change, complaint):
    """A file whose hash fits but whose content does not is refused in one line."""
    with pytest.raises(CheckpointError, match=complaint) as error:
        checkpoint.from_bytes(rewritten(checkpoint.to_bytes(make()), change), "x.ckpt")
    assert "\n" not in str(error.value)
    assert "x.ckpt" in str(error.value)


def test_figures_that_an_older_run_lacks_are_none():
    """A row of a run that did not measure the validation loss yet is read, without one."""
    old = rewritten(checkpoint.to_bytes(make()), lambda d: d["history"][0].pop("val_loss"))
    assert checkpoint.from_bytes(old, "x.ckpt").history[0]["val_loss"] is None


def with_text(data, change):
    """Return the file with the text of its JSON changed and its SHA-256 made to fit."""
    length = HEADER.unpack_from(data)[1]
    text = change(data[HEADER.size : HEADER.size + length])
    body = HEADER.pack(MAGIC, len(text)) + text + data[HEADER.size + length : -DIGEST]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.replace(b'"step": 7', b'"step": 6, "step": 7'), "'step' is there twice"),
        (lambda t: t.replace(b'"step": 7', b'"step": 1e999'), "1e999 is not a finite number"),
        (lambda t: t.replace(b'"step": 7', b'"step": ' + b"[" * 100_000), "RecursionError"),
        (lambda t: t.replace(b'"step": 7', b'"step": ' + b"7" * 5000), "ValueError"),
        (lambda t: t.replace(b'"config": {', b'"config": {"a": [' + b"1," * 2_100_000 + b"1],"), "2,000,000 values"),
        (lambda t: t.decode().encode("utf-16"), "ValueError|UnicodeDecodeError"),
        (lambda _: b"[]", "no JSON object"),
    ],
    ids=["twice", "beyond floats", "deep", "digits", "many", "UTF-16", "list"],
)
def test_hostile_texts_are_refused(change, complaint):
    """JSON that is ambiguous, no number, too deep or too much is refused in one line, whatever its hash."""
    with pytest.raises(CheckpointError, match=complaint) as error:
        checkpoint.from_bytes(with_text(checkpoint.to_bytes(make()), change), "x.ckpt")
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    """A file that is not there is told by name."""
    with pytest.raises(CheckpointError, match=r"none\.ckpt: No such file"):
        checkpoint.load(tmp_path / "none.ckpt")


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    """When the disk fails while saving, the previous checkpoint stays and nothing else is left."""
    path = tmp_path / "a.ckpt"
    checkpoint.save(make(), path)

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match=r"a\.ckpt: No space left on device; free some space"):
        checkpoint.save(make(step=8), path)
    monkeypatch.undo()
    assert checkpoint.load(path).step == 7
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
