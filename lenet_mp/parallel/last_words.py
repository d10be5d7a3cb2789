"""An exception on one rank ends the whole job: its text, with rank and phase, and its exit code."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from lenet_mp import crashes
from lenet_mp.errors import LenetError, PeerError
from lenet_mp.parallel import guardian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lenet_mp.parallel.comm import Comm

INTERRUPTED, BROKEN_PIPE = 130, 141
HEAD_START = 0.7  # Open MPI takes half a second to end a job
TO_PASS_IT_ON = 0.1


@contextlib.contextmanager
def ending_together(comm: Comm, program: str) -> Iterator[None]:
    """Let an exception inside the block, or in any thread, end all ranks.

    Without this the other ranks would wait for ever in their next collective call. Where rank 0 fails in the same
    way, as for a missing file, its message alone is shown: the others give it a head start. In a single process
    exceptions pass through.
    """
    if comm.size == 1:
        yield
        return
    faulthandler.enable()
    crashes.speak_as(f"{_who(comm)}{program}", comm.abort)
    threading.excepthook = lambda failure: _end(comm, program, failure.exc_value or SystemExit(1))
    try:
        yield
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code and comm.phase == guardian.START:
            raise  # --help, which all ranks read
        _end(comm, program, error)
        raise


def _end(comm: Comm, program: str, error: BaseException) -> None:
    if comm.rank:
        time.sleep(HEAD_START)
    try:
        say(_text(comm, program, error))
    finally:
        comm.abort(exit_code(error) or PeerError.exit_code)  # the job is not done, whatever this rank says


def say(words: str) -> None:
    """Print to stderr and let a launcher pass it on: it may drop what is in its pipes when it ends the job."""
    with contextlib.suppress(OSError, ValueError):  # a full disk or closed pipe must not keep the job from ending
        print(words, file=sys.stderr, flush=True)
    time.sleep(TO_PASS_IT_ON)


def _text(comm: Comm, program: str, error: BaseException) -> str:
    who = _who(comm)
    if isinstance(error, LenetError):
        return f"{who}{program}: error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return f"{who}{program}: interrupted"
    if isinstance(error, SystemExit):
        return f"[rank {comm.rank}] exits with {error.code} in {comm.phase}: all ranks end"
    trace = "".join(traceback.format_exception(error)).rstrip()
    return f"[rank {comm.rank}] fails in {comm.phase}: all ranks end\n{trace}"


def _who(comm: Comm) -> str:
    return f"[rank {comm.rank}] " if comm.rank else ""


def exit_code(error: BaseException) -> int:
    """Exit code of a process that ``error`` ends."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    return error.exit_code if isinstance(error, LenetError) else 1
