"""Finding the launcher, and what it is told."""

import os
from pathlib import Path

import pytest

from lenet_mp.parallel import launch

HYDRA = "HYDRA build details:\n    Version:                                 5.0.2\n    Release Date: Fri\n"
OPEN = "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.18 Build 20251103 (id: 5a1d)\nCopyright 2003-2025\n"


@pytest.mark.parametrize(
    ("text", "family", "version"),
    [
        (HYDRA, launch.MPICH, "5.0.2"),
        (OPEN, launch.OPEN_MPI, "5.0.11"),
        (INTEL, launch.INTEL_MPI, "2021.18"),
        ("", launch.UNKNOWN, ""),
    ],
)
def test_launchers_are_told_apart(text, family, version):
    """Family and version number are read from what each MPI's launcher prints."""
    assert launch.parse_version(Path("mpirun"), text) == launch.Launcher(Path("mpirun"), family, version)


def make_launcher(folder, text):
    """Write a program that answers --version with ``text``."""
    folder.mkdir()
    program = folder / "mpirun"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    program.chmod(0o755)
    return program


def test_the_launcher_beside_python_comes_first(tmp_path, monkeypatch):
    """An environment's own launcher wins over one on PATH, which wins over none."""
    beside, on_path = make_launcher(tmp_path / "env", HYDRA), make_launcher(tmp_path / "site", OPEN)
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    python = str(beside.parent / "python")
    assert launch.find_launcher(python) == launch.Launcher(beside, launch.MPICH, "5.0.2")
    beside.unlink()
    assert launch.find_launcher(python) == launch.Launcher(on_path, launch.OPEN_MPI, "5.0.11")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.find_launcher(python) is None


def test_a_launcher_that_cannot_run_is_unknown(tmp_path):
    """A launcher that is no program is reported as unknown, not raised."""
    program = tmp_path / "mpirun"
    program.write_text("\x7fELF")
    program.chmod(0o755)
    assert launch.identify(program).family == launch.UNKNOWN


def test_ranks_start_in_a_clean_environment():
    """What a surrounding launcher set is gone; only Open MPI is told of root and of more ranks than cores."""
    base = {"PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMP_NUM_THREADS": "3", "HOME": "/home/a"}
    mpich = launch.Launcher(Path("mpirun"), launch.MPICH, "5")
    assert mpich.environment(base) == {"OMP_NUM_THREADS": "3", "HOME": "/home/a"}
    told = launch.Launcher(Path("mpirun"), launch.OPEN_MPI, "5").environment(base)
    assert told["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in told) == (os.geteuid() == 0)
    assert "OMPI_COMM_WORLD_SIZE" not in told
    assert mpich.command(3, ["a", "b"]) == ["mpirun", "-n", "3", "a", "b"]
