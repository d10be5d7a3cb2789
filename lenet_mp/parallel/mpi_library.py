"""Loading and starting the MPI library, where that can succeed."""

from __future__ import annotations

import os
import re
from typing import Any

from lenet_mp.errors import UsageError


def start() -> Any:
    """Return ``mpi4py.MPI`` with MPI begun, which waits for all ranks.

    Raises
    ------
    UsageError
        If there is no library, or if it would not understand the launcher and end the process itself.
    """
    try:
        import mpi4py  # noqa: PLC0415 - one process needs none

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI  # noqa: PLC0415
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            "started by an MPI launcher, but mpi4py finds no MPI library "
            f"({str(error).splitlines()[0]}): pip install 'lenet-mp[mpi]', or load your site's MPI module"
        ) from error
    if not MPI.Is_initialized():
        version = MPI.Get_library_version()
        if "PMIX_RANK" in os.environ and not understands_pmix(version):
            raise UsageError(
                f"the launcher speaks PMIx, which the library in use ({short(version)}) does not: it belongs to "
                "another MPI; use the launcher of that MPI (command -v mpirun shows yours; of srun's ways to start "
                "ranks, srun --mpi=list tells)"
            )
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    return MPI


def understands_pmix(version: str) -> bool:
    """Whether a library of that version text can be started by Open MPI's ``mpirun``, or by ``srun --mpi=pmix``.

    MPICH tells what it was built with; others get the benefit of the doubt.
    """
    built = re.search("^MPICH configure:(.*)", version, re.MULTILINE)
    return built is None or "pmix" in built[1]


def short(version: str) -> str:
    """Return name and number of an MPI library: its full version text may fill a page."""
    first_line = version.partition("\n")[0].partition(",")[0].rstrip("\0")
    return " ".join(first_line.replace("Version:", "").split())
