"""Files made to do harm are refused by the command that gets them: at once, in one line, with the right exit code.

Each kind costs less than a second of processor time and 200 MB beyond an idle import. Where strace is there, it shows
that nothing outside of the given folder was opened but the interpreter's own files, nothing was written elsewhere,
no program was started but the interpreter for decoding images, and no socket was made.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from campaigns import hostile_images, hostile_models, hostile_shards
from campaigns.hostile_driver import END, MARK
from campaigns.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SMALL, FULL = 12, 1000
SECONDS, MEGABYTES = 1.0, 200.0
BAD_DATA = 3
ONE_GOOD = "a good image"
CALLS = "open,openat,openat2,creat,execve,execveat,socket,connect,bind"
CHECKOUT = Path(__file__).resolve().parents[2]
SYSTEM = (
    "/usr/", "/lib/", "/lib64/", "/proc/", "/sys/", "/dev/null/", "/dev/zero/", "/dev/urandom/", "/etc/ld.so.",
)  # fmt: skip
"""Where the interpreter and its libraries look."""
WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
_CALL = re.compile(r'^\d+ +(\w+)\((?:[^"]*?)"((?:[^"\\]|\\.)*)"(.*)$')
_SOCKET = re.compile(r"^\d+ +(socket|connect|bind)\(")
_OPENED = re.compile(r"= \d+<(/.*?)(?: \(deleted\))?>$")
_START = "import sys; sys.path[:0] = sys.argv[1].split(':'); from campaigns.hostile_driver import main; main()"


class Job(NamedTuple):
    """A kind of hostile file, the command that gets it, and the exit code that it must end with."""

    name: str
    words: list[str]
    folder: Path
    code: int


def run(size: int, seed: int, folder: Path) -> Tally:
    """Build up to ``size`` kinds, chosen by the seed, and give each to its command."""
    tally = Tally()
    jobs = _build(size, seed, folder)
    traced = _drive(jobs, folder / "traced", strace=shutil.which("strace"))
    if not traced.calls:
        tally.count("without strace")
    good = traced.outcomes[0]
    slow = [n for n, found in enumerate(traced.outcomes) if not _cheap(found, good)]
    # strace stops a process at every call: what seems slow gets another go without it.
    again = dict(zip(slow, _drive([jobs[n] for n in slow], folder / "again", strace=None).outcomes, strict=True))
    usual = set(_opened(jobs[0], traced.calls.get(0, [])))
    for number, job in enumerate(jobs):
        found = traced.outcomes[number]
        said = (folder / "traced" / f"{number}.2").read_text(errors="replace")
        wrong = _wrong(job, found, said) or _dear(again.get(number, found), good)
        wrong = wrong or _strays(job, traced.calls.get(number, []), usual)
        if job.name != ONE_GOOD or wrong:
            tally.attempt(f"{job.name}: {wrong}" if wrong else "")
    for what in ("seconds", "MB"):
        tally.count(f"most {what}", round(max(again.get(n, found)[what] for n, found in enumerate(traced.outcomes))))
    return tally


def _build(size: int, seed: int, folder: Path) -> list[Job]:
    data = hostile_images.builders() | hostile_shards.builders()
    kinds = {name: (builder, BAD_DATA) for name, builder in data.items()}
    kinds |= hostile_models.builders()
    chosen = random.Random(seed).sample(sorted(kinds), min(size, len(kinds)))
    kinds[ONE_GOOD] = hostile_images.good_image, 0
    jobs = []
    for number, name in enumerate([ONE_GOOD, *chosen]):
        given, outside = folder / str(number) / "given", folder / str(number) / "outside"
        given.mkdir(parents=True)
        outside.mkdir()
        builder, code = kinds[name]
        jobs.append(Job(name, builder(given, outside), given, code))
    return jobs


class _Driven(NamedTuple):
    """What became of every job, and the calls of each as strace wrote them."""

    outcomes: list[dict[str, Any]]
    calls: dict[int, list[str]]


def _drive(jobs: Sequence[Job], results: Path, strace: str | None) -> _Driven:
    """Run the jobs in forks of one process."""
    results.mkdir()
    listed = results / "jobs.json"
    listed.write_text(json.dumps([(job.name, job.words, str(job.folder)) for job in jobs]))
    path = ":".join(map(str, (CHECKOUT, CHECKOUT / "tests", CHECKOUT / "scripts")))
    command = [sys.executable, "-c", _START, path, str(listed)]
    record = results / "strace"
    if strace:
        options = ["-f", "-y", "-qq", "-s", "5000", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(record)]
        command = [strace, *options, *command]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_", "PRTE_", "SLURM_"))}
    subprocess.run(command, env=clean | {"OPENBLAS_NUM_THREADS": "1"}, check=True)
    outcomes = [_outcome(results / f"{number}.json") for number in range(len(jobs))]
    return _Driven(outcomes, _calls(record) if strace else {})


def _outcome(path: Path) -> dict[str, Any]:
    text = path.read_text() if path.exists() else ""
    nothing = dict.fromkeys(("seconds", "MB", "worker seconds", "worker MB"), 0)
    return dict(json.loads(text)) if text else {"code": "a signal, or waited for ever", **nothing}


def _calls(record: Path) -> dict[int, list[str]]:
    """Cut strace's record at the marks."""
    found: dict[int, list[str]] = {}
    number = -1
    for line in record.read_text(errors="replace").splitlines():
        if MARK in line:
            text = line.partition(MARK)[2].partition('"')[0]
            number = -1 if text == END else int(text)
            found.setdefault(number, [])
        elif number >= 0:
            found[number].append(line)
    return found


def _wrong(job: Job, found: dict[str, Any], said: str) -> str:
    """What is wrong with the exit code or the last line."""
    if found["code"] != job.code:
        return f"ended with {found['code']}, not {job.code}: {said[-300:]}"
    last = said.strip().splitlines()[-1:] or [""]
    if job.code and ("error:" not in last[0] or "Traceback" in said):
        return f"says {said[-300:]!r}"
    return ""


def _cheap(found: dict[str, Any], good: dict[str, Any]) -> bool:
    return not _dear(found, good)


def _dear(found: dict[str, Any], good: dict[str, Any]) -> str:
    """What costs too much; a decoding process may take what it takes to decode a good image, and as much again."""
    for who in ("", "worker "):
        spare = good if who else {"worker seconds": 0, "worker MB": 0}
        seconds, memory = f"{who}seconds", f"{who}MB"
        if found[seconds] > SECONDS + spare["worker seconds"]:
            return f"takes {found[seconds]:.1f} {seconds}"
        if found[memory] > MEGABYTES + spare["worker MB"]:
            return f"takes {found[memory]:.0f} {memory}"
    return ""


def _strays(job: Job, calls: Sequence[str], usual: set[tuple[str, bool, str]]) -> str:
    """The first call that leads out of the given folder; ``usual`` is what reading a good image opens outside."""
    own = (*SYSTEM, *(f"{Path(place).resolve()}/" for place in (sys.prefix, sys.base_prefix, CHECKOUT / "lenet_mp")))
    known = {place for place, writes, _ in usual if not writes}
    for place, writes, line in _opened(job, calls):
        if writes or not (place in known or place.startswith(own)):
            return f"outside: {line}"
    for line in calls:
        match = _CALL.match(line)
        if _SOCKET.match(line) or (match and match[1].startswith("execve") and Path(match[2]) != Path(sys.executable)):
            return f"a program or a socket: {line}"
    return ""


def _opened(job: Job, calls: Sequence[str]) -> Iterator[tuple[str, bool, str]]:
    """Yield every place outside of the given folder that was opened, whether for writing, and the call."""
    for line in calls:
        match = _CALL.match(line)
        if not match or ("open" not in match[1] and match[1] != "creat"):
            continue
        opened = _OPENED.search(line)
        for place in (match[2], opened[1] if opened else match[2]):
            real = f"{os.path.normpath(job.folder / place)}/"
            if not real.startswith(f"{job.folder}/"):
                yield real, real != "/dev/null/" and any(flag in match[3] for flag in WRITING), line
