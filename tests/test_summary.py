"""The parameter calculator's figures and its comparison of a changed network."""

from __future__ import annotations

import csv

import pytest

from lenet_mp import summary, tables
from lenet_mp.networks import models
from lenet_mp.networks.costs import layer_costs, total_cost
from lenet_mp.networks.network import compile_network

# Layer: output, parameters, from the tables of the original program.
MODEL_1 = {
    "C1": ("84 x 84 x 6", 456),
    "S1": ("28 x 28 x 6", 0),
    "C2": ("10 x 10 x 16", 2_416),
    "S2": ("5 x 5 x 16", 0),
    "C5": ("1 x 1 x 120", 48_120),
    "F7": ("1 x 1 x 84", 10_164),
    "F8": ("1 x 1 x 50", 4_250),
}
MODEL_2 = {
    "C1": ("84 x 84 x 6", 168),
    "S1": ("28 x 28 x 6", 0),
    "C2": ("26 x 26 x 16", 880),
    "S2": ("13 x 13 x 16", 0),
    "C3": ("6 x 6 x 30", 4_350),
    "S3": ("3 x 3 x 30", 0),
    "C5": ("1 x 1 x 120", 32_520),
    "F7": ("1 x 1 x 84", 10_164),
    "F8": ("1 x 1 x 50", 4_250),
}
LENET5 = {
    "C1": ("28 x 28 x 6", 156),
    "S2": ("14 x 14 x 6", 0),
    "C3": ("10 x 10 x 16", 2_416),
    "S4": ("5 x 5 x 16", 0),
    "C5": ("1 x 1 x 120", 48_120),
    "F6": ("1 x 1 x 84", 10_164),
    "F7": ("1 x 1 x 10", 850),
}


@pytest.mark.parametrize(
    ("model", "expected", "total"),
    [(models.MODEL_1, MODEL_1, 65_406), (models.MODEL_2, MODEL_2, 52_332), (models.LENET5, LENET5, 61_706)],
    ids=lambda value: value.name if isinstance(value, models.Model) else "",
)
def test_every_layer_has_the_published_size_and_parameters(model, expected, total):
    """Output size and parameters of each layer, and their sum, are those of the original's tables."""
    rows = layer_costs(compile_network(model))
    assert {row.layer: (row.output, row.parameters) for row in rows[1:]} == expected
    assert total_cost(rows).parameters == total


def test_connections_and_operations_follow_from_the_geometry():
    """C1 of LeNet-5 has the paper's 122,304 connections; FLOPs count a multiply-add as 2 and no bias."""
    rows = {row.layer: row for row in layer_costs(compile_network(models.LENET5))}
    assert rows["C1"].connections == 28 * 28 * 156 == 122_304
    assert rows["C1"].flops == 2 * 28 * 28 * 6 * 25
    assert rows["S2"].flops == 14 * 14 * 6 * 4
    assert rows["F6"].flops == 2 * 120 * 84
    assert rows["C1"].activation_bytes == 28 * 28 * 6 * 4


def test_trainable_subsampling_costs_a_multiply_and_an_add_more():
    """A subsampling layer has two parameters a channel and two operations an output above plain pooling."""
    rows = (models.Row(kind=models.Kind.SUBSAMPLE, name="S1", kernel=2), models.dense("F2"))
    row = layer_costs(compile_network(models.Model("sub", rows, (4, 4, 3), 2)))[1]
    assert (row.parameters, row.flops) == (6, 2 * 2 * 3 * (4 + 2))


def test_table_shows_totals_and_merges_activations(capsys):
    """The printed table ends in the totals and shows an activation with the layer that it follows."""
    assert summary.main([]) == 0
    out = capsys.readouterr().out
    assert "conv + squash" in out
    total = next(line for line in out.splitlines() if line.startswith("total"))
    assert total.split() == ["total", "65,406", "3,521,670", "6,998,896", "197,176"]


def test_size_channels_and_classes_change_the_network(capsys):
    """Options for the image and the classes reach the geometry, height before width."""
    assert summary.main(["--size", "250x200", "--channels", "1", "--classes", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "250 x 200 x 1" in next(line for line in lines if line.startswith("input"))
    assert "1 x 1 x 7" in next(line for line in lines if line.startswith("F8"))


def test_set_marks_what_changed_and_adds_up_the_difference(capsys):
    """With --set the original comes first, then the changed network with marks, then both totals."""
    assert summary.main(["--set", "C1.channels=8"]) == 0
    out = capsys.readouterr().out
    assert out.index("model 1, 50 classes") < out.index("with C1.channels=8")
    changed = out[out.index("with C1") :].splitlines()
    c1 = next(line for line in changed if line.startswith("C1"))
    assert "84 x 84 x 8*" in c1
    assert "608*" in c1
    assert "5 x 5*" not in c1
    assert "*" not in next(line for line in changed if line.startswith("F7"))
    # C1: 5*5*3*8 + 8 in place of 456; C2: 5*5*8*16 + 16 in place of 2,416
    parameters = next(line for line in changed if line.startswith("parameters"))
    assert parameters.split() == ["parameters", "65,406", "66,358", "+952", "+1.5%"]


def test_csv_holds_plain_numbers_and_names_the_differences(tmp_path, capsys):
    """A .csv file has one row a layer and network, numbers without separators, and the changed columns."""
    path = tmp_path / "table.csv"
    assert summary.main(["--model", "2", "--set", "C2.stride=2", "-o", str(path)]) == 0
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert sum(int(row["parameters"]) for row in rows if row["network"] == "original") == 52_332
    changed = {row["layer"]: row for row in rows if row["network"] == "changed"}
    assert changed["C2"]["output"] == "13 x 13 x 16"
    assert changed["C2"]["differs"] == "stride output connections flops activation_bytes"
    assert changed["C1"]["differs"] == ""
    assert capsys.readouterr().out == ""


def test_text_file_holds_what_would_be_printed(tmp_path, capsys):
    """Any other file name gets the same text as the screen."""
    summary.main(["--model", "lenet5"])
    printed = capsys.readouterr().out
    summary.main(["--model", "lenet5", "-o", str(tmp_path / "table.txt")])
    assert (tmp_path / "table.txt").read_text() == printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "20"], ["S2", "smallest image that works is 34 x 34"]),
        (["--set", "C1.stride=40"], ["S2", "reduce a kernel or stride"]),
        (["--set", "C9.stride=2"], ["no layer C9"]),
        (["--set", "C1.stride"], ["cannot read setting"]),
        (["--model", "nosuch"], ["unknown model 'nosuch'", "lenet5"]),
        (["-o", "/nonexistent/table.txt"], ["/nonexistent/table.txt", "folder does not exist"]),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(arguments, words, capsys):
    """What cannot be done ends in one line on stderr that names it, and a non-zero code."""
    code = summary.main(arguments)
    captured = capsys.readouterr()
    assert code == (74 if "-o" in arguments else 2)
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize("size", ["0", "250x", "x250", "-3", "1.5"])
def test_bad_size_is_a_usage_error(size, capsys):
    """A size that is no size ends in code 2 and shows how to write one."""
    assert summary.main([f"--size={size}"]) == 2
    assert "write 250 or 250x200" in capsys.readouterr().err


def test_text_columns_line_up():
    """Every cell of a right-aligned column ends where its heading ends."""
    lines = tables.as_text(("name", "value"), [("a", "1"), ("long name", "1,000")]).splitlines()
    assert lines == ["name       value", "a              1", "long name  1,000"]


def test_csv_text_quotes_what_needs_it():
    """Commas, quotes and line breaks in a cell survive the way through a CSV reader."""
    cells = ["a,b", 'say "x"', "two\nlines"]
    assert list(csv.reader(tables.as_csv(["x", "y", "z"], [cells]).splitlines(keepends=True)))[1] == cells
