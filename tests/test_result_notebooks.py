"""The notebooks of results: one text for both, complete, clean, free of photographs; and it runs on other data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import small_data

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCRIPT = DOCS.parent / "scripts" / "result_notebook.py"
MODELS = ("1", "2")
PICTURES = {"1": 4 + 4, "2": 4 + 6}
"""The drawn picture, curves, confusion matrix and kernels; and one of maps for each of C1, S1, C2, ..."""


def cells(model):
    return json.loads((DOCS / f"results-model-{model}.ipynb").read_text(encoding="utf-8"))["cells"]


def sources(model):
    return ["".join(cell["source"]) for cell in cells(model)]


@pytest.mark.parametrize("model", MODELS)
def test_it_is_complete_small_and_clean(model):
    """It was run from top to bottom, without errors or warnings, tells no path of a machine, and is small."""
    path = DOCS / f"results-model-{model}.ipynb"
    assert path.stat().st_size < 700_000
    assert not re.search(r"/(root|home|tmp|work|usr)/", path.read_text(encoding="utf-8"))
    code = [cell for cell in cells(model) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[model]


def test_both_are_one_text():
    """All cells but the names in the first are the same."""
    one, two = sources("1"), sources("2")
    assert one[1:] == two[1:]
    assert one[0] == two[0].replace('MODEL = "2"', 'MODEL = "1"').replace("model-2", "model-1")


def test_the_text_runs_on_other_data(tmp_path, monkeypatch, capsys):
    """On any data set the cells run, and no picture comes from the data: the one whose maps are shown is drawn."""
    monkeypatch.chdir(tmp_path)
    shown = []
    package, stub = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.version_info = (9, 0)  # Matplotlib looks at it
    stub.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", stub)
    small_data.write_shards(tmp_path / "data", size=40)
    names = {}
    for cell in cells("1"):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "results-model-1.ipynb", "exec"), names)  # noqa: S102 - our text
    printed = capsys.readouterr().out
    assert "187 training, 45 validation and 30 test images of 40 x 40 x 3" in printed
    assert "epoch 10/10" in printed
    assert "last weights: top-1" in printed
    assert len(shown) == 4
    assert names["run"].checkpoint.config["feature_image"] == "drawn.png"


def test_the_script_writes_a_notebook(tmp_path):
    """One command makes the notebook of a data set, under the data set's name and with all outputs."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    small_data.write_shards(tmp_path / "photos", size=40)
    command = [sys.executable, SCRIPT, tmp_path / "photos", "--about", "squares", "-o", tmp_path / "mine.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "mine.ipynb").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "187 training, 45 validation and 30 test images" in text
    assert "squares" in text
