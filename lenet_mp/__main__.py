"""``lenet-mp COMMAND``: find the command's module and run its ``main``."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import lenet_mp
from lenet_mp import suggestions
from lenet_mp.parallel import guardian

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "prepare": "turn images, by lists or class folders, into shards",
    "verify": "check a data set, show its classes and some of its images",
    "train": "train a model; also under mpirun",
    "find-lr": "a learning rate to start from, by a range test",
    "tune": "search over learning rate, momentum, batch size, ...",
    "evaluate": "accuracy, per-class figures and confusion matrix of a run",
    "predict": "classify images",
    "features": "feature maps of an image",
    "explain": "where one output or gradient comes from, by formula and by C",
    "report": "one HTML page about a run, or several compared",
    "export": "the weights of a run, by layer name",
    "doctor": "check installation, machine and MPI, with remedies",
    "scale": "how training speeds up with ranks and threads here",
    "benchmark": "images a second of a model here, against the machine's peak",
    "summary": "a model's layers, parameters and connections",
    "completion": "a script that lets the shell complete commands and options",
}
RANKED = {"train", "prepare"}
"""Commands that connect ranks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"lenet-mp {lenet_mp.__version__}")
        return 0
    if name not in COMMANDS:
        meant = suggestions.command(name, COMMANDS)
        hint = f"did you mean '{meant}'?" if meant else "'lenet-mp --help' lists the commands"
        if name.startswith("-"):
            hint = f"a command comes first, as in 'lenet-mp train {name}'; " + hint
        print(f"lenet-mp: error: there is no command '{name}'; {hint}", file=sys.stderr)
        return 2
    if name in RANKED:
        guardian.start()  # before the imports that may fail
    module = importlib.import_module(f"lenet_mp.{name.replace('-', '_')}")
    code: int = module.main(arguments[1:])
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join([
        "usage: lenet-mp COMMAND [OPTION...]",
        "",
        "Train small convolutional image classifiers on CPUs, on one process or many.",
        "",
        *lines,
        "",
        "'lenet-mp COMMAND --help' explains a command.",
        "'python -m lenet_mp.COMMAND' is the same as 'lenet-mp COMMAND'.",
    ])  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
