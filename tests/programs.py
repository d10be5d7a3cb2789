"""Running the program as a user does: in processes of its own, alone or under mpirun."""

import os
import pty
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import small_data

BIN = Path(sys.executable).parent
MPIRUN = shutil.which("mpirun", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
needs_mpi = pytest.mark.skipif(MPIRUN is None, reason="no mpirun here: pip install 'lenet-mp[mpi]'")
TIME_LIMIT = 240
# Open MPI alone reads these: as root, and with more ranks than cores, it starts nothing without being told to; and its
# probing for network cards takes a second a start.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,sm",
}


def environment(**variables):
    """Return the environment without what would change threads or ranks, and with ``variables``."""
    launched = ("OMP_", "PMI", "OMPI_", "PRTE_", "SLURM_", "LENET_MP_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(launched)}
    return clean | OPEN_MPI | {k: str(v) for k, v in variables.items()}


def run(*arguments, ranks=0, cwd=None, **variables):
    """Run ``python ARGUMENTS``, under ``mpirun -n ranks`` if ranks is given; return the finished process."""
    command = [sys.executable, *map(str, arguments)]
    if ranks:
        command = [MPIRUN, "-n", str(ranks), *command]
    return subprocess.run(
        command, cwd=cwd, env=environment(**variables), text=True, capture_output=True, timeout=TIME_LIMIT, check=False
    )


def train(*arguments, **options):
    """Run ``python -m lenet_mp.train ARGUMENTS``."""
    return run("-m", "lenet_mp.train", *arguments, **options)


def trained_place(folder):
    """Make ``folder`` a place of small data and a model, with a run of one epoch in one process in ``run``."""
    small_data.write_place(folder)
    done = train(*small_data.options(folder, folder / "run", epochs=1))
    assert done.returncode == 0, done.stderr
    return folder


def terminal():
    """Return both ends of a terminal of 100 columns."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (30, 100))
    return master, slave


def read_terminal(master):
    """Return what a process showed on a terminal, until it ends."""
    text = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:  # Linux says so where the other end is closed
            return text.decode()
        if not more:
            return text.decode()
        text += more
