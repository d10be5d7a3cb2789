"""The process of the campaign of hostile files: it imports every command, then runs each job in a fork of itself.

So strace sees what the reading of a file does, and little of the interpreter's start; and each job begins with the same
memory and no processor time spent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
from pathlib import Path

MARK = "/hostile-job/"
END = "end"
"""Paths that are opened, in vain, before and after each job: they divide strace's record."""
LONGEST_WAIT = 240


def main() -> None:
    """Run the jobs in the file ``argv[2]``, a list of [name, words, folder], and write what came of each beside it."""
    import lenet_mp  # noqa: PLC0415 - after the path was set

    for module in pkgutil.walk_packages(lenet_mp.__path__, "lenet_mp."):
        if not module.name.endswith(("__main__", "_kernels")):
            importlib.import_module(module.name)
    jobs = Path(sys.argv[2])
    for number, (_, words, folder) in enumerate(json.loads(jobs.read_text())):
        child = os.fork()
        if not child:
            _run(number, words, Path(folder), jobs.parent)
        os.waitpid(child, 0)


def _run(number: int, words: list[str], folder: Path, results: Path) -> None:
    """In the fork: run a command and write exit code, processor times and memory."""
    signal.alarm(LONGEST_WAIT)
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open(results / f"{number}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
    answer = os.open(results / f"{number}.json", os.O_WRONLY | os.O_CREAT)
    command = sys.modules[f"lenet_mp.{words[0]}"].main
    before = _resident()
    _mark(str(number))
    code: object = None
    try:
        code = command(words[1:])
    except SystemExit as error:
        code = error.code
    except BaseException as error:  # noqa: BLE001 - to be told, whatever it is
        code = f"{type(error).__name__}: {error}"[:500]
    _mark(END)
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found = {
        "code": code,
        "seconds": own.ru_utime + own.ru_stime,
        "MB": (own.ru_maxrss - before) / 1024,
        "worker seconds": workers.ru_utime + workers.ru_stime,
        "worker MB": workers.ru_maxrss / 1024,
    }
    os.write(answer, json.dumps(found).encode())
    os._exit(0)


def _mark(name: str) -> None:
    with contextlib.suppress(OSError):
        os.open(MARK + name, os.O_RDONLY)


def _resident() -> int:
    """Memory of this process now, in KB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024
