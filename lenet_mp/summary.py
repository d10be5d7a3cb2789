"""``lenet-mp summary``: the parameter calculator, a table of what each layer of a model costs.

With ``--set`` it shows the changed network below the original, so that one sees what a hyper-parameter does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import arguments, cli, tables
from lenet_mp.networks.costs import AMOUNTS, COLUMNS, Cost, layer_costs, total_cost
from lenet_mp.networks.model_files import find_model
from lenet_mp.networks.models import change
from lenet_mp.networks.network import compile_network

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lenet_mp.networks.network import Network

HEADINGS = ("layer", "kind", "kernel", "stride", "pad", "output", "parameters", "connections", "FLOPs", "bytes")
CHANGED = "*"

EXAMPLE = """\
examples:
  lenet-mp summary --model 1
  lenet-mp summary --model 2 --size 128 --classes 10
  lenet-mp summary --model 1 --set C1.stride=2 --set C2.kernel=3 -o changed.csv
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "summary",
        description="Show size, parameters and work of every layer, and what a changed\nhyper-parameter does to them.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--model", default="1", metavar="NAME", help="1, 2, lenet5 or a .toml file (default: 1)")
    parser.add_argument("--size", type=arguments.size, metavar="N|HxW", help="image size (default: the model's)")
    parser.add_argument(
        "--channels", type=arguments.positive, metavar="N", help="image channels (default: the model's)"
    )
    parser.add_argument(
        "--classes", type=arguments.positive, metavar="N", help="number of classes (default: the model's)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="LAYER.KEY=N",
        help="change channels, kernel, stride or padding of a layer and compare; repeatable",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the table there; a .csv file gets CSV")
    return parser


@cli.command("summary")
def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the table; return 0."""
    options = build_parser().parse_args(argv)
    model = find_model(options.model)
    height, width = options.size or model.input_shape[:2]
    shape = (height, width, options.channels or model.input_shape[2])
    networks = [compile_network(model, shape, options.classes)]
    if options.set:
        networks.append(compile_network(change(model, options.set), shape, options.classes))
    as_csv = options.out is not None and options.out.suffix.lower() == ".csv"
    text = to_csv(networks) if as_csv else to_text(networks, options.set)
    if options.out is None:
        tables.print_text([text])
    else:
        tables.write_text(options.out, text)
        print(f"wrote {options.out}", file=sys.stderr)
    return 0


def to_text(networks: Sequence[Network], settings: Sequence[str] = ()) -> str:
    """Table of one network; of two, also the second's with its changes marked, and the difference of the totals."""
    original, *others = networks
    rows = layer_costs(original)
    parts = [f"model {original.model.name}, {original.classes} classes\n", _table(rows)]
    for network in others:
        changed = layer_costs(network)
        parts += [f"\nwith {', '.join(settings)} ({CHANGED} marks what changed)\n", _table(changed, rows)]
        parts += ["\n", _difference(rows, changed)]
    parts.append(
        "\nFor one sample, forward. Connections: output area x parameters. A multiply-add is 2 FLOPs. Bytes: float32\n"
        "activations after the layer.\n"
    )
    return "".join(parts)


def to_csv(networks: Sequence[Network]) -> str:
    """Table of one network or of two, one after the other; the last column names what differs from the first."""
    rows = layer_costs(networks[0])
    lines = []
    for label, network in zip(("original", "changed"), networks, strict=False):
        for before, now in zip(rows, layer_costs(network), strict=True):
            lines.append([label, *(getattr(now, c) for c in COLUMNS), " ".join(_changes(before, now))])
    return tables.as_csv(["network", *COLUMNS, "differs"], lines)


def _table(rows: Sequence[Cost], before: Sequence[Cost] | None = None) -> str:
    """Aligned rows and totals; where ``before`` is given, a cell that differs from it ends in a mark."""
    unmarked = " " if before else ""  # keeps digits below digits
    lines = []
    pairs = zip([*(before or rows), total_cost(before or rows)], [*rows, total_cost(rows)], strict=True)
    for old, row in pairs:
        changes = _changes(old, row)
        lines.append([_cell(row, column) + (CHANGED if column in changes else unmarked) for column in COLUMNS])
    return tables.as_text([heading + unmarked for heading in HEADINGS], lines, left=2)


def _cell(row: Cost, column: str) -> str:
    value = getattr(row, column)
    if isinstance(value, str):
        return value
    return f"{value:,}" if value else ""


def _changes(before: Cost, now: Cost) -> list[str]:
    return [column for column in COLUMNS if getattr(before, column) != getattr(now, column)]


def _difference(before: Sequence[Cost], now: Sequence[Cost]) -> str:
    """Totals of both networks and how far they are apart."""
    sums = total_cost(before), total_cost(now)
    lines = []
    for name, heading in zip(COLUMNS, HEADINGS, strict=True):
        if name not in AMOUNTS:
            continue
        old, new = (getattr(row, name) for row in sums)
        share = f"{(new - old) / old:+.1%}" if old else ""
        lines.append([heading, f"{old:,}", f"{new:,}", f"{new - old:+,}", share])
    return tables.as_text(("total", "original", "changed", "difference", ""), lines)


if __name__ == "__main__":
    raise SystemExit(main())
