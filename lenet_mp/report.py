"""``lenet-mp report``: one HTML file that tells all about a run, or compares several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import cli, tables
from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EPILOG = """\
The page needs no network and no other file. Several runs are compared.

examples:
  lenet-mp report runs/model-1-1
  lenet-mp report runs/model-1-1 runs/model-2-1 -o both.html
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser("report", description="Write an HTML page about training runs.", epilog=EPILOG)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data set (default: the one of the training)")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write (default: report.html, or of several runs comparison.html, in the first one's folder)",
    )
    return parser


@cli.command("report")
def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and print its path; return 0."""
    options = build_parser().parse_args(argv)
    from lenet_mp.results.report_page import describe, render  # noqa: PLC0415 - loads the C core, which --help can do without

    repeated = [run for n, run in enumerate(options.runs) if run.resolve() in map(Path.resolve, options.runs[:n])]
    if repeated:
        raise UsageError(f"{repeated[0]} is given twice: name other runs to compare")
    # A comparison must not take the place of the page that the first run has of its own.
    out = options.out or options.runs[0] / ("comparison.html" if len(options.runs) > 1 else "report.html")
    alike = len({run.name for run in options.runs}) < len(options.runs)
    chapters = [describe(run, options.data, name=str(run) if alike else "") for run in options.runs]
    tables.write_text(out, render(chapters))
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
