"""What all commands share: how an error becomes one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import io
import itertools
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lenet_mp import crashes, suggestions
from lenet_mp.errors import LenetError, OutputError, UsageError
from lenet_mp.parallel.last_words import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Main = Callable[[Sequence[str] | None], int]


WIDTH = 80
DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to a redirected standard output may meet."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that fits a screen: 80 columns at most, a line an option where its text is short."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=25, width=min(WIDTH, shutil.get_terminal_size().columns))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return action.option_strings[0].replace("--", "--[no-]", 1)
        return super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and answers a mistake with one line that says what was meant."""

    def __init__(self, command: str, **options: object) -> None:
        super().__init__(
            prog=f"lenet-mp {command}",
            formatter_class=Help,
            allow_abbrev=False,
            add_help=False,
            **options,  # type: ignore[arg-type]
        )
        # Who reads its text knows the option.
        self.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all of ``args``; a ``UsageError`` names what there is no option for, and what may be meant."""
        words = list(sys.argv[1:] if args is None else args)
        # A mistyped option before all else: argparse would rather tell of an argument that is missing because of it.
        for word in itertools.takewhile(lambda word: word != "--", words):
            if word.startswith("--") and word.partition("=")[0] not in self._option_string_actions:
                self._refuse([word])
        found, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self._refuse(unknown)
        return found

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        known = [name[2:] for name in self._option_string_actions if name.startswith("--")]
        name, equals, value = unknown[0].partition("=")
        meant = suggestions.option(name, known)
        if not name.startswith("-"):
            meant, equals, value = "data" if "data" in known and Path(name).is_dir() else "", " ", name
        message = f"unrecognized arguments: {' '.join(unknown)}"
        if meant:
            raise UsageError(f"{message}; did you mean '--{meant}{' ' if equals else ''}{value}'?")
        self.error(message)

    def error(self, message: str) -> NoReturn:
        """Raise ``message``, and where help is to be had, as a usage error."""
        raise UsageError(f"{message}; see '{self.prog} --help'")


def command(name: str) -> Callable[[Main], Callable[..., int]]:
    """Decorate a command's ``main``: errors of this package become one line on stderr and their exit code."""

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def wrapped(argv: Sequence[str] | None = None) -> int:
            _prepare_streams()
            crashes.speak_as(f"lenet-mp {name}")
            try:
                code = main(argv)
                sys.stdout.flush()
            except (LenetError, KeyboardInterrupt, MemoryError, OSError) as error:
                return _end(name, error)
            return code

        return wrapped

    return decorate


def _end(name: str, error: BaseException) -> int:
    """Say what went wrong, if anybody can be told, and return the exit code; raise what is nobody's mistake."""
    code, reason = exit_code(error), str(error)
    if isinstance(error, KeyboardInterrupt):
        reason = "interrupted"
    elif isinstance(error, MemoryError):
        reason = f"out of memory: {reason or 'use a smaller batch, image or model'}"
    elif isinstance(error, BrokenPipeError):
        _drop_output()  # the reader (head, less) has seen enough
        return code
    elif isinstance(error, OSError) and not isinstance(error, LenetError):
        if error.errno not in DISK_FAILS or error.filename is not None:
            raise error
        _drop_output()
        code = OutputError.exit_code
        reason = f"cannot write the output: {error.strerror}; direct it to another disk, or make room"
    with contextlib.suppress(OSError):
        print(f"lenet-mp {name}: error: {reason}", file=sys.stderr, flush=True)
    return code


def _prepare_streams() -> None:
    """Make streams that take any text, and lead nowhere where a process was started with closed ones (``>&-``)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for good
    # A path or class name need not be valid text; showing it must not end the command.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Keep the interpreter from complaining, when it ends, about output that could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
