"""What a run ran on: versions, machine, ranks and threads; for ``env.json`` and the first lines."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lenet_mp

if TYPE_CHECKING:
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.plan import Plan

PACKAGES = ("numpy", "h5py", "pillow", "cffi", "matplotlib", "mpi4py")


def describe(comm: Comm, plan: Plan) -> dict[str, Any]:
    """Return versions, processor, instruction set, ranks, threads and the command line."""
    return {
        "lenet_mp": lenet_mp.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "mpi": comm.library or None,
        "system": platform.platform(),
        "processor": processor(),
        "cores": comm.cores,
        "isa": plan.isa,
        "ranks": comm.size,
        "threads_per_rank": plan.threads,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "variables": {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "LENET_MP_", "SLURM_JOB_ID"))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
