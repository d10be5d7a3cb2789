"""The tutorial notebook: it runs, and what it shows is small and clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_all_cells_run(cells, capsys):
    """Its code runs from top to bottom, its own assertions included, and says the same of data, model and ranks."""
    names = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        exec(compile("".join(cell["source"]), f"tutorial.ipynb, cell {number}", "exec"), names)  # noqa: S102 - our text
        shown = "".join("".join(output.get("text", [])) for output in cell["outputs"])
        printed = capsys.readouterr().out
        # Figures of the training itself may change with the engine; what comes before may not.
        if "run" not in names and "differ" not in printed:
            assert printed == shown
    assert names["scores"].samples == 500


def test_outputs_are_small_and_clean(cells):
    """It was saved complete, without errors or warnings, in at most 150 kB."""
    assert NOTEBOOK.stat().st_size < 150_000
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
