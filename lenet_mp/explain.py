"""``lenet-mp explain``: where one number of a network comes from, by formula and by C."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import cli, tables
from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lenet_mp.explaining.derivations import Gradient, Output
    from lenet_mp.explaining.explanation import Scene
    from lenet_mp.results.classifier import Classifier

EPILOG = """\
Rows, columns and channels count from 0. With --weight: its gradient by formula,
by the C step and by finite difference; LAYER.bias:CHANNEL names a bias.

examples:
  lenet-mp explain runs/model-1-1 cat.jpg --layer C1 --at 10,12,3
  lenet-mp explain runs/model-1-1 cat.jpg --weight C1:0,2,1,3 -o c1.html
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "explain",
        description="Take one output of a layer apart: the patch that it sees, the kernel, the\n"
        "products and their sum, beside the value of the C kernel.",
        epilog=EPILOG,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder (its best weights) or .ckpt file")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    parser.add_argument("--layer", metavar="NAME", help="name of a layer (default: the first)")
    parser.add_argument("--at", type=place, metavar="PLACE", help="ROW,COLUMN,CHANNEL (default: largest output)")
    parser.add_argument("--weight", type=weight, metavar="WEIGHT", help="LAYER:KH,KW,CI,CO: its gradient too")
    parser.add_argument("--label", metavar="CLASS", help="class for the loss (default: the predicted one)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write an HTML page instead of text")
    return parser


def place(text: str) -> tuple[int, int, int]:
    """Read ``10,12,3``; a single number is the channel of a layer with 1 x 1 outputs."""
    numbers = _numbers(text)
    if numbers is None or len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"'{text}' is no place: write ROW,COLUMN,CHANNEL as in 10,12,3")
    row, column, channel = (0, 0, *numbers) if len(numbers) == 1 else numbers
    return row, column, channel


def weight(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``C1:0,2,1,3`` or ``C1.bias:3``: name of the array and place in it."""
    name, _, index = text.partition(":")
    numbers = _numbers(index)
    if not name or numbers is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no weight: write LAYER:KH,KW,CI,CO as in C1:0,2,1,3")
    return (name if name.endswith((".weight", ".bias")) else f"{name}.weight"), numbers


def _numbers(text: str) -> tuple[int, ...] | None:
    return tuple(map(int, text.split(","))) if re.fullmatch(r"\d{1,6}(,\d{1,6})*", text, re.ASCII) else None


@cli.command("explain")
def main(argv: Sequence[str] | None = None) -> int:
    """Print the explanation, or write the page and print its path; return 0."""
    options = build_parser().parse_args(argv)
    from lenet_mp.results.classifier import Classifier  # noqa: PLC0415 - loads the C core, which --help can do without

    classifier = Classifier.load(options.run)
    scene = classifier.scene(classifier.read_image(options.image))
    output = gradient = None
    if options.layer or options.at or not options.weight:
        layer = options.layer or scene.network.layers[0].name
        output = scene.output(layer, options.at or scene.strongest(layer))
    if options.weight:
        label = scene.prediction if options.label is None else _label(options.label, classifier.class_names)
        name, index = options.weight
        gradient = scene.gradient(name, index, label)
    if options.out:
        from lenet_mp.explaining.explanation_page import render  # noqa: PLC0415 - jinja2, only for the page

        tables.write_text(options.out, render(classifier, scene, output, gradient))
        print(options.out)
    else:
        tables.print_text(_text(classifier, scene, output, gradient))
    return 0


def _text(classifier: Classifier, scene: Scene, output: Output | None, gradient: Gradient | None) -> Iterator[str]:
    from lenet_mp.explaining import explanation_text  # noqa: PLC0415 - see above

    if output:
        yield from explanation_text.describe_output(output, classifier.channel_names(scene.find(output.layer.name)))
    if output and gradient:
        yield "\n"
    if gradient:
        yield from explanation_text.describe_gradient(gradient, classifier.class_names[gradient.label])


def _label(text: str, class_names: Sequence[str]) -> int:
    """Return the class that ``text`` names, or whose number it is."""
    if text in class_names:
        return class_names.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(class_names):
        return int(text)
    raise UsageError(f"there is no class '{text}': give a name of the data set or a number below {len(class_names)}")


if __name__ == "__main__":
    raise SystemExit(main())
