"""What all commands share: how an error becomes one line and an exit code."""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from lenet_mp.errors import LenetError, UsageError
from lenet_mp.last_words import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Main = Callable[[Sequence[str] | None], int]

BROKEN_PIPE = 141


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
            # A path or class name need not be valid text; showing it must not end the command.
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")
            try:
                code = main(argv)
                sys.stdout.flush()
            except LenetError as error:
                print(f"lenet-mp {name}: error: {error}", file=sys.stderr)
                return error.exit_code
            except KeyboardInterrupt:
                print(f"lenet-mp {name}: interrupted", file=sys.stderr)
                return INTERRUPTED
            except MemoryError as error:
                reason = str(error) or "use a smaller batch, image or model"
                print(f"lenet-mp {name}: error: out of memory: {reason}", file=sys.stderr)
                return 1
            except BrokenPipeError:
                # The reader (head, less) has seen enough; keep the interpreter from complaining once more.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return BROKEN_PIPE
            return code

        return wrapped

    return decorate
