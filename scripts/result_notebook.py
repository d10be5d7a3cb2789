"""Train one model on a data set and write a notebook about it, with all its outputs.

    python scripts/result_notebook.py data/ --model 2 -o mine.ipynb

docs/results-model-1.ipynb is the text that is run, with other names in its first cell. No image of the data set gets
into the notebook, so it may be passed on. Needs nbclient and ipykernel: pip install ".[notebook]".
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import nbformat
    from nbclient import NotebookClient
except ImportError as error:
    raise SystemExit(f"{error}: install what runs notebooks with 'pip install \".[notebook]\"'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE = Path(__file__).resolve().parents[1] / "docs" / "results-model-1.ipynb"
TIME_LIMIT = 24 * 3600
PARAMETERS = """\
MODEL = "{model}"
DATA = "data"  # made by lenet-mp prepare
RUN = "runs/model-{model}"
ABOUT = {about!r}"""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder made by lenet-mp prepare")
    parser.add_argument("--model", choices=("1", "2"), default="1", help="(1)")
    parser.add_argument("--about", default="", metavar="TEXT", help="a line about the data and their licence")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the run here (a temporary folder)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the notebook")
    return parser.parse_args()


def run(data: Path, work: Path, parameters: str) -> nbformat.NotebookNode:
    """Execute the template in ``work``, where the data set is called ``data``; no path of this machine gets in."""
    notebook = nbformat.read(TEMPLATE, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = parameters
    work.mkdir(parents=True, exist_ok=True)
    link = work / "data"
    link.unlink(missing_ok=True)
    link.symlink_to(data.resolve(), target_is_directory=True)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    place = {"metadata": {"path": str(work)}}
    NotebookClient(notebook, timeout=TIME_LIMIT, resources=place, extra_arguments=["--log-level=40"]).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = list(tidied(cell.outputs))
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def tidied(outputs: list[nbformat.NotebookNode]) -> Iterator[nbformat.NotebookNode]:
    """Yield the outputs, printed lines that follow each other as one."""
    for kind, group in itertools.groupby(outputs, lambda output: output.get("name", "")):
        together = list(group)
        if kind == "stdout":
            together[0].text = "".join(output.text for output in together)
            del together[1:]
        for output in together:
            # Pillow offers every picture as JPEG too, which would double the size.
            output.get("data", {}).pop("image/jpeg", None)
        yield from together


def main() -> None:
    """Run the notebook and write it."""
    args = parse()
    if not args.data.is_dir():
        raise SystemExit(f"{args.data}: no such folder; prepare a data set with 'lenet-mp prepare'")
    parameters = PARAMETERS.format(model=args.model, about=args.about)
    with tempfile.TemporaryDirectory() as temporary:
        notebook = run(args.data, args.work or Path(temporary), parameters)
    nbformat.write(notebook, args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
