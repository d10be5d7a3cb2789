"""``lenet-mp doctor``: what this installation and machine are like, and how to mend what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import cli
from lenet_mp.diagnosing import diagnosis, diagnosis_engine, diagnosis_files, diagnosis_mpi
from lenet_mp.diagnosing.diagnosis import Finding, Status, problem
from lenet_mp.errors import UsageError
from lenet_mp.parallel import comm
from lenet_mp.parallel.last_words import ending_together

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from lenet_mp.parallel.comm import Comm

RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
EPILOG = """\
examples:
  lenet-mp doctor
  lenet-mp doctor --data data/ --out runs/
  mpirun -n 4 lenet-mp doctor       the ranks too: hosts, cores, versions

Each line is ok, a note (works, but) or a problem; exit code 1 if there is any
problem.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser("doctor", description="Check installation, machine and MPI.", epilog=EPILOG)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="shards to open")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="to test writing (default: here)")
    return parser


@cli.command("doctor")
def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings; 1 if any is a problem."""
    options = build_parser().parse_args(argv)
    try:
        world = comm.connect()
    except UsageError as error:
        return _show([_launch_problem(error)]) if _started_first() else 1
    with ending_together(world, "lenet-mp doctor"):
        everyone = world.gather(diagnosis_mpi.facts()) if world.size > 1 else []
        code = _show(_findings(options, world, everyone)) if world.rank == 0 else 0
        world.rest()
    return code


def _findings(options: argparse.Namespace, world: Comm, everyone: list[dict[str, object]]) -> Iterator[Finding]:
    """Yield what every check finds, as soon as it is found."""
    yield from diagnosis.check_python()
    yield from diagnosis_engine.check_engine()
    yield from diagnosis.check_threads(world)
    # A launcher does not start a second one inside its job, so MPI is looked at from inside then.
    yield from diagnosis_mpi.check_ranks(world, everyone) if everyone else diagnosis_mpi.check_mpi()
    yield from diagnosis_files.check_h5()
    if options.data:
        yield from diagnosis_files.check_data(options.data)
    yield from diagnosis_files.check_output(options.out)
    yield from diagnosis_files.check_shared_memory()
    yield from diagnosis.check_pictures()


def _show(findings: Iterator[Finding] | list[Finding]) -> int:
    problems = 0
    for finding in findings:
        print(finding, flush=True)
        problems += finding.status is Status.PROBLEM
    return int(problems > 0)


def _launch_problem(error: UsageError) -> Finding:
    text, _, remedy = str(error).partition("; " if "; " in str(error) else ": ")
    return problem(text, remedy)


def _started_first() -> bool:
    """Whether the launcher calls this process its first: each of them believes to be rank 0."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


if __name__ == "__main__":
    raise SystemExit(main())
