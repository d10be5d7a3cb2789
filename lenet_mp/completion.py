"""``lenet-mp completion``: a script that lets the shell complete commands, options, choices and file names."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

from lenet_mp import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELLS = ("bash", "zsh", "fish", "tcsh")
FOLDERS = ("FOLDER", "DIR", "DATA", "OUT")
"""What options and arguments call a folder; other paths are files, or folders too."""
FILES = ("FILE", "IMAGE", "LIST", "RUN")

WORDS = {"model": ("1 2 lenet5", "*.toml"), "class_weights": ("balanced", "*.txt")}
"""Options that take one of some words, or a file with such a name."""
BASH = """
_lenet_mp_{option}_files() {{
  compgen -W "{words}" -- "$1"
  compgen -d -- "$1"
  compgen -f -X '!{files}' -- "$1"
}}"""
ZSH = """
_lenet_mp_{option}_files() {{
  _alternative 'words:{option}:({words})' 'files:file:_files -g "{files}"'
}}"""

EPILOG = """\
examples:
  eval "$(lenet-mp completion bash)"      for this shell; in ~/.bashrc: for all
  eval "$(lenet-mp completion zsh)"       the same, after compinit
  lenet-mp completion fish >~/.config/fish/completions/lenet-mp.fish
  lenet-mp completion tcsh >~/.lenet-mp.tcsh      and 'source' it in ~/.tcshrc
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "completion",
        description="Print a script that completes commands, options, choices and file names.",
        epilog=EPILOG,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh, fish or tcsh")
    return parser


@cli.command("completion")
def main(argv: Sequence[str] | None = None) -> int:
    """Print the script; return 0."""
    options = build_parser().parse_args(argv)
    import shtab  # noqa: PLC0415 - only here

    template = {"bash": BASH, "zsh": ZSH}.get(options.shell, "")
    own = "".join(template.format(option=option, words=words, files=files) for option, (words, files) in WORDS.items())
    print(shtab.complete(everything(), options.shell, preamble=own))
    return 0


def everything() -> argparse.ArgumentParser:
    """Return one parser with all commands and their options, each of which knows what completes it."""
    from lenet_mp.__main__ import COMMANDS  # noqa: PLC0415 - which calls this module

    root = argparse.ArgumentParser("lenet-mp", description="train small convolutional image classifiers")
    root.add_argument("--version", action="store_true", help="show the version")
    commands = root.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        parser = importlib.import_module(f"lenet_mp.{name.replace('-', '_')}").build_parser()
        commands.add_parser(name, help=text, description=text, parents=[parser], add_help=False)
        for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
            _complete(action)
    return root


def _complete(action: argparse.Action) -> None:
    """Say how the values of an option or argument are completed; tell of those that the help leaves out."""
    if action.help == argparse.SUPPRESS:
        action.help = "show the help" if "--help" in action.option_strings else "as of 'train'"
    if action.dest in WORDS:
        words, files = WORDS[action.dest]
        own = f"_lenet_mp_{action.dest}_files"
        fish = f"{words} (__fish_complete_suffix {files[1:]})"
        action.complete = {"bash": own, "zsh": own, "fish": fish, "tcsh": f"f:{files}"}  # type: ignore[attr-defined]
    elif action.metavar in (*FILES, *FOLDERS):
        import shtab  # noqa: PLC0415 - only here

        action.complete = shtab.DIRECTORY if action.metavar in FOLDERS else shtab.FILE  # type: ignore[attr-defined]


if __name__ == "__main__":
    raise SystemExit(main())
