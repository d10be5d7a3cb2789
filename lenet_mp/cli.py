"""What all commands share: how an error becomes one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from lenet_mp import bus_errors
from lenet_mp.errors import LenetError, OutputError, UsageError
from lenet_mp.parallel.last_words import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Main = Callable[[Sequence[str] | None], int]


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults, takes no abbreviations and answers a mistake with one line."""

    def __init__(self, command: str, **options: object) -> None:
        super().__init__(
            prog=f"lenet-mp {command}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> NoReturn:
        """Raise ``message``, and where help is to be had, as a usage error."""
        raise UsageError(f"{message}; see '{self.prog} --help'")


def command(name: str) -> Callable[[Main], Callable[..., int]]:
    """Decorate a command's ``main``: errors of this package become one line on stderr and their exit code."""

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def wrapped(argv: Sequence[str] | None = None) -> int:
            _prepare_streams()
            bus_errors.speak_as(f"lenet-mp {name}")
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
        if error.errno != errno.ENOSPC:
            raise error
        _drop_output()
        code, reason = OutputError.exit_code, "cannot write the output: no space left on device; free some space"
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
