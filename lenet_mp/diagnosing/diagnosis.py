"""What ``lenet-mp doctor`` looks at in this process's surroundings: Python, packages, threads, pictures.

Each check returns findings and raises nothing: a broken installation is what it is for.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp.errors import UsageError
from lenet_mp.parallel import threads
from lenet_mp.parallel.comm import Solo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.parallel.comm import Comm

OLDEST_PYTHON = (3, 11)
NEEDED = ("numpy", "h5py", "pillow", "cffi", "matplotlib", "tqdm", "tomli-w", "jinja2")
PICTURES = "import matplotlib; print(matplotlib.get_cachedir())"
BUSY = 0.5
"""Cores that others may use before it is worth a note."""


class Status(StrEnum):
    """How a finding is meant."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes
    ----------
    status : Status
    text : str
        What was found.
    remedy : str
        What to do; empty where all is well.
    """

    status: Status
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.status:8} {self.text}" + (f" -> {self.remedy}" if self.remedy else "")


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(Status.OK, text)


def note(text: str, remedy: str) -> Finding:
    """Works, but not as well as it might."""
    return Finding(Status.NOTE, text, remedy)


def problem(text: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(Status.PROBLEM, text, remedy)


def ask(
    arguments: Sequence[str], environment: dict[str, str] | None = None, seconds: float = 60
) -> tuple[int, str, str]:
    """Run a program and return its exit code, its output, and the last line of its complaints.

    In a process of its own, because what is looked at may crash or hang. The code is -1 for a program that cannot be
    started, -2 for one that does not end.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this Python, or the user's own launcher
            arguments, env=environment, stdin=subprocess.DEVNULL, text=True, errors="replace", capture_output=True,
            timeout=seconds, check=False,
        )  # fmt: skip
    except OSError as error:
        return -1, "", str(error.strerror)
    except subprocess.TimeoutExpired:
        return -2, "", f"no answer in {seconds:g} s"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip(" -*")]
    return done.returncode, done.stdout.strip(), lines[-1] if lines else f"exit code {done.returncode}"


def check_python() -> list[Finding]:
    """Look at version and packages."""
    version = platform.python_version()
    missing = [name for name in NEEDED if _version(name) is None]
    if sys.version_info < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        return [problem(f"Python {version} is too old", f"make the environment with Python {needed} or later")]
    packages = ", ".join(f"{name} {_version(name)}" for name in (*NEEDED, "mpi4py") if _version(name))
    findings = [ok(f"Python {version} in {sys.prefix}; {packages}")]
    if missing:
        findings.append(problem(f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"))
    return findings


def check_threads(comm: Comm | None = None) -> list[Finding]:
    """Look at cores, the variables that choose threads, and who else uses the cores."""
    comm = comm or Solo()
    cores, local_ranks = comm.cores, comm.local_size
    before = os.environ.get("OMP_WAIT_POLICY")
    try:
        count = threads.choose(comm)
    except UsageError as error:
        text, _, remedy = str(error).partition(": ")
        return [problem(text, remedy)]
    finally:
        _restore("OMP_WAIT_POLICY", before)
    set_here = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(("OMP_", "GOMP_"))]
    told = f" ({', '.join(set_here)})" if set_here else ""
    findings = [ok(f"threads a rank: {count}, on {cores} of {os.cpu_count()} cores{told}")]
    if count > 1 and count * local_ranks > cores:  # of ranks with one thread each, the ranks' own check tells
        text = f"{local_ranks} x {count} threads share {cores} cores"
        findings.append(note(text, "unset OMP_NUM_THREADS and SLURM_CPUS_PER_TASK, or start fewer ranks"))
        if before and before.lower() == "active":
            findings.append(problem("OMP_WAIT_POLICY=active on shared cores: steps 10 to 100 times slower", "unset it"))
    return [*findings, *_check_quota(cores), *_check_load(cores)]


def _check_quota(cores: int) -> list[Finding]:
    """A container may grant less time than its cores have."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        granted = float(quota) / float(period)
    except (OSError, ValueError):  # no cgroup of version 2 or no limit ("max")
        return []
    if granted >= cores:
        return []
    remedy = f"OMP_NUM_THREADS={max(1, int(granted))}, or give the container more"
    return [note(f"the container may use {granted:.1f} of its {cores} cores at a time", remedy)]


def _check_load(cores: int) -> list[Finding]:
    load = os.getloadavg()[0]
    if load < BUSY:
        return []
    return [note(f"other programs run: load {load:.1f} on {cores} cores", "measure when they are done")]


def check_pictures() -> list[Finding]:
    """Look whether matplotlib has a place for its cache."""
    code, output, reason = ask([sys.executable, "-c", PICTURES])
    if code:
        return [problem(f"matplotlib does not load ({reason})", "pip install --force-reinstall matplotlib")]
    if output.startswith("/tmp/matplotlib-"):  # noqa: S108 - what matplotlib makes where it may not write
        return [note("matplotlib cannot write its cache: every first picture is slow", "set MPLCONFIGDIR to a folder")]
    return [ok(f"pictures: cache in {output}")]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
