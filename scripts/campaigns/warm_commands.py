"""Commands run in forks of a process that has imported them: each starts at once, and strace sees its work alone.

As a script it is that process. It reads a job a line from stdin, as JSON, and answers each with a line: the exit code,
or minus the signal.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = ("prepare", "train", "evaluate", "report", "export")
IMPORTED = (
    "matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2", "PIL.PngImagePlugin",
    "lenet_mp.training.recorder", "lenet_mp.training.trainer", "lenet_mp.results.report_page",
    *(f"lenet_mp.{name}" for name in COMMANDS),
)  # fmt: skip
ATTACHED = " attached"
TIME_LIMIT = 120.0


class WarmCommands:
    """The client's side: starts the process and sends it jobs.

    Parameters
    ----------
    folder : Path
        Where the commands run.
    """

    def __init__(self, folder: Path) -> None:
        paths = [str(path) for path in Path(__file__).resolve().parents[1:3]]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=os.environ | threads | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers = cast("TextIO", self._process.stdout)

    def run(self, command: str, arguments: Sequence[str], output: Path, strace: Sequence[str] = ()) -> int:
        """Run a command, under ``strace`` with these options if there are any; return its exit code or -signal."""
        job = {"command": command, "arguments": list(arguments), "output": str(output), "strace": list(strace)}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return int(self._answers.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(jobs: TextIO, answers: TextIO) -> None:
    """Import everything, then fork for every job."""
    for name in IMPORTED:
        importlib.import_module(name)
    for line in jobs:
        job = json.loads(line)
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            _work(job, ready)
        os.close(ready)
        answers.write(f"{_watch(child, go, job['strace'])}\n")
        answers.flush()


def _work(job: dict[str, str], ready: int) -> None:
    """In the fork: wait until strace is there, run the command and end."""
    for descriptor, path, flags in ((0, os.devnull, os.O_RDONLY), (1, job["output"], os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(path, flags | os.O_TRUNC, 0o666), descriptor)
    os.dup2(1, 2)
    os.read(ready, 1)
    os.close(ready)
    code = 1
    try:
        code = importlib.import_module(f"lenet_mp.{job['command']}").main(job["arguments"])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - as the interpreter would end
        traceback.print_exc()
    os._exit(code)


def _watch(child: int, go: int, options: Sequence[str]) -> int:
    """Attach strace, let the child go and wait for both."""
    tracer = None
    if options:
        command = ["strace", "-p", str(child), *options]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        words = cast("TextIO", tracer.stderr)
        while ATTACHED not in (line := words.readline()):
            if not line:
                raise SystemExit("strace cannot attach to a process of its own user")
    guard = threading.Timer(TIME_LIMIT, _end, [child])
    guard.start()
    os.close(go)
    status = os.waitpid(child, 0)[1]
    guard.cancel()
    if tracer:
        tracer.communicate()
    return os.waitstatus_to_exitcode(status)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
