"""The benchmark's arithmetic and its two forms of output; what it measures is not asserted but for its sign."""

from __future__ import annotations

import json

import pytest
from instruction_sets import isa  # noqa: F401 - a fixture

from lenet_mp import benchmark, engine, rates
from lenet_mp.networks.models import MODELS
from lenet_mp.networks.network import compile_network


@pytest.mark.parametrize(("name", "megaflops"), [("1", 14.5), ("2", 9.3)])
def test_work_of_a_step(name, megaflops):
    """Forward and backward of the two models are the 14.5 and 9.3 MFLOP a sample that their tables give by hand."""
    assert rates.step_flops(compile_network(MODELS[name]).layers) / 1e6 == pytest.approx(megaflops, abs=0.06)


def test_record_is_complete(capsys):
    """``--json`` prints one record with the step's rates, the peak and every pass that a step makes, and no other."""
    options = "--model lenet5 --batch-size 33 --threads 2 --seconds 1 --json"
    assert benchmark.main(options.split()) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"], record["batch_size"], record["threads"]) == ("lenet5", 33, 2)
    assert record["isa"] == engine.isa()
    assert record["train_images_per_second"] > 0
    assert record["evaluate_images_per_second"] > 0
    assert record["train_flops_per_second"] == record["train_images_per_second"] * record["flops_per_image"]
    passes = {(row["layer"], row["direction"]) for row in record["layers"]}
    assert ("C1", "forward") in passes
    assert ("C1", "backward input") not in passes
    assert ("S2", "backward parameters") not in passes
    assert all(row["microseconds"] > 0 for row in record["layers"])
    assert all((row["flops_per_second"] is None) == (row["kind"] not in ("conv", "dense")) for row in record["layers"])


def test_table_names_model_threads_and_instruction_set(capsys):
    """The text says what was measured and has a line for each pass."""
    assert benchmark.main(["--model", "lenet5", "--batch-size", "16", "--threads", "1", "--seconds", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"model lenet5, 32 x 32 x 1, batch size 16, 1 thread, {engine.isa()}\n")
    assert "of the measured peak" in text
    assert text.count("backward parameters") == 5


def test_augmented_steps_are_measured_in_turn_with_others(capsys):
    """With ``--augment`` there is a second training rate, and the text says what it costs."""
    options = "--model lenet5 --batch-size 16 --threads 1 --seconds 1 --augment flip,crop"
    assert benchmark.main([*options.split(), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["augment"] == "flip,crop"
    assert record["augmented_images_per_second"] > 0
    assert "% less, with flip,crop\n" in benchmark.to_text(record)
    assert benchmark.main([*options.split()[:-1], "crop=32"]) == 2
    assert "crop=32 could leave nothing" in capsys.readouterr().err


@pytest.mark.usefixtures("isa")
def test_peak_of_every_instruction_set():
    """Every variant can be measured on one thread and on two."""
    assert rates.fma_peak(1, trials=1) > 0
    assert rates.fma_peak(2, trials=1) > 0
