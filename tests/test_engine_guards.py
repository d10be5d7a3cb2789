"""The step's door: what is refused, and with which words; the choice of instruction set."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lenet_mp import engine
from lenet_mp.errors import ArrayError, GeometryError, UsageError
from lenet_mp.networks.geometry import Kind, Layer

DENSE = Layer(name="F1", kind=Kind.DENSE, input_shape=(2, 2, 1), output_shape=(1, 1, 3), kernel_size=(2, 2))


def arguments(**changes):
    """A call that is right but for the changes."""
    images = np.zeros((2, 2, 2, 1), np.uint8)
    call = {
        "parameters": np.zeros(15, np.float32),
        "images": images.ctypes.data + np.arange(2, dtype=np.uintp) * 4,
        "labels": np.array([0, 2], np.int32),
        "group_starts": np.array([0, 2], np.int32),
        "limit": 1e6,
        "totals": np.zeros(20, np.int64),
    } | changes
    return images, call


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(("changes", "text"), [
    ({"parameters": np.zeros(15)}, r"parameters: expected float32 \(15,\), got float64 \(15,\)"),
    ({"parameters": np.zeros(14, np.float32)}, r"parameters: expected float32 \(15,\), got float32 \(14,\)"),
    ({"parameters": np.zeros(30, np.float32)[::2]}, r"parameters: expected .* C-contiguous, got strides \(8,\)"),
    ({"labels": np.zeros(2, np.int64)}, r"labels: expected int32 \(2,\), got int64 \(2,\)"),
    ({"labels": np.zeros(3, np.int32)}, r"labels: expected int32 \(2,\), got int32 \(3,\)"),
    ({"labels": np.array([0, 3], np.int32)}, r"labels: expected 0 to 2, got 3 at index 1"),
    ({"labels": np.array([-1, 0], np.int32)}, r"labels: expected 0 to 2, got -1 at index 0"),
    ({"totals": np.zeros(20, np.float64)}, r"totals: expected int64 \(20,\), got float64 \(20,\)"),
    ({"totals": np.zeros(19, np.int64)}, r"totals: expected int64 \(20,\), got int64 \(19,\)"),
    ({"totals": read_only(np.zeros(20, np.int64))}, r"totals: expected int64 \(20,\) writable, got a read-only"),
    ({"group_starts": np.array([0, 1], np.int32)}, r"group_starts: expected numbers rising from 0 to 2 .*\[0, 1\]"),
    ({"group_starts": np.array([0, 2, 1, 2], np.int32)}, r"group_starts: expected numbers rising"),
    ({"group_starts": np.zeros(0, np.int32)}, r"group_starts: expected numbers rising"),
    ({"group_starts": np.array([0, 2])}, r"group_starts: expected int32"),
    ({"images": np.zeros(2, np.uintp)}, r"images: expected addresses, got 0 at index 0"),
])
def test_wrong_arguments_of_a_step(changes, text):
    """Every argument of a wrong dtype, size, layout or value is named, with what was expected and what came."""
    plan = engine.Plan([DENSE], scale=1.0, offset=0.0, threads=1)
    images, call = arguments(**changes)
    with pytest.raises(ArrayError, match=text):
        plan.step(call.pop("parameters"), call.pop("images"), call.pop("labels"), call.pop("group_starts"), **call)
    assert not images.any()


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf"), 2.0**23])
def test_limit_must_leave_room(limit):
    """A limit beyond what 64-bit totals hold is refused."""
    plan = engine.Plan([DENSE], scale=1.0, offset=0.0, threads=1)
    _, call = arguments(limit=limit)
    with pytest.raises(UsageError, match="limit: expected"):
        plan.step(call.pop("parameters"), call.pop("images"), call.pop("labels"), call.pop("group_starts"), **call)


def test_groups_hold_at_most_16():
    """A group of 17 is refused before C would run past its lanes."""
    plan = engine.Plan([DENSE], scale=1.0, offset=0.0, threads=1)
    images = np.zeros((17, 2, 2, 1), np.uint8)
    _, call = arguments(images=images.ctypes.data + np.arange(17, dtype=np.uintp) * 4, labels=np.zeros(17, np.int32),
                        group_starts=np.array([0, 17], np.int32))
    with pytest.raises(ArrayError, match="in steps of at most 16"):
        plan.step(call.pop("parameters"), call.pop("images"), call.pop("labels"), call.pop("group_starts"), **call)


def test_evaluation_checks_its_outputs():
    """Evaluation refuses totals and logits that it could not fill."""
    plan = engine.Plan([DENSE], scale=1.0, offset=0.0, threads=1)
    _, call = arguments()
    common = call["parameters"], call["images"], call["labels"]
    with pytest.raises(ArrayError, match=r"totals: expected int64 \(5,\)"):
        plan.evaluate(*common, totals=np.zeros(20, np.int64))
    with pytest.raises(ArrayError, match=r"logits: expected float32 \(2, 3\) writable"):
        plan.evaluate(*common, totals=np.zeros(5, np.int64), logits=read_only(np.zeros((2, 3), np.float32)))


def test_layers_must_fit_together():
    """A plan refuses layers that do not hand over what the next one takes, or do not end in classes."""
    other = Layer(name="F2", kind=Kind.DENSE, input_shape=(1, 1, 4), output_shape=(1, 1, 2), offset=15)
    with pytest.raises(GeometryError, match=r"layer F2: expected input \(1, 1, 3\) from F1, got \(1, 1, 4\)"):
        engine.Plan([DENSE, other], scale=1.0, offset=0.0)
    pool = Layer(name="S1", kind=Kind.MAX_POOL, input_shape=(4, 4, 1), output_shape=(2, 2, 1), kernel_size=(2, 2),
                 stride=2)
    with pytest.raises(GeometryError, match=r"layer S1: the last output must be \(1, 1, classes\)"):
        engine.Plan([pool], scale=1.0, offset=0.0)
    with pytest.raises(GeometryError, match="layer F1: expected parameters at offset 0, got 3"):
        engine.Plan([Layer(**{**vars(DENSE), "offset": 3})], scale=1.0, offset=0.0)
    with pytest.raises(GeometryError, match="at least one layer"):
        engine.Plan([], scale=1.0, offset=0.0)
    with pytest.raises(UsageError, match="threads: expected at least 1, got 0"):
        engine.Plan([DENSE], scale=1.0, offset=0.0, threads=0)


def test_instruction_set_can_be_forced(monkeypatch):
    """LENET_MP_ISA forces any instruction set of this CPU; the plan says which one it has."""
    for name in engine.available():
        monkeypatch.setenv("LENET_MP_ISA", name)
        assert engine.isa() == name
        assert engine.Plan([DENSE], scale=1.0, offset=0.0, threads=1).isa == name
    monkeypatch.delenv("LENET_MP_ISA")
    assert engine.isa() == engine.available()[-1]


def test_unknown_instruction_set_is_refused(monkeypatch):
    """A misspelt name never falls back silently: the error lists the names that work."""
    monkeypatch.setenv("LENET_MP_ISA", "avx1024")
    with pytest.raises(UsageError, match=r"LENET_MP_ISA=avx1024: no such instruction set; choose one of generic"):
        engine.Plan([DENSE], scale=1.0, offset=0.0)


def test_build_without_compiler_says_what_to_install(tmp_path):
    """Where no compiler can be found, building stops with one line that names the package."""
    code = "import os, sys; os.environ['PATH'] = sys.argv[1]; os.environ.pop('CC', None); import build_ffi"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "apt install gcc" in done.stderr
