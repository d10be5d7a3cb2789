"""Train on several hosts of one machine: the same bits as in one process, and a clean end when a cable is cut.

Each host is a network namespace with a name and shared memory of its own; ranks of different hosts have nothing but
a bridge between them, as slow as asked for. Needs root, and iproute2 (Debian: apt install iproute2).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from namespaces import Hosts, why_not
from same_bits import CHECKOUT, digest, small_data

if TYPE_CHECKING:
    from collections.abc import Iterator

TIME_LIMIT = 120.0
ALLREDUCE = """
import json, time, numpy
from lenet_mp.parallel.comm import connect
world, mean = connect(), {}
for size in (8, 524_288):
    buffer = numpy.zeros(size // 8, numpy.int64)
    world.allreduce(buffer)
    start = time.perf_counter()
    for _ in range(10):
        world.allreduce(buffer)
    mean[size] = 1e3 * (time.perf_counter() - start) / 10
if world.rank == 0:
    print(json.dumps(mean))
"""
WATCHDOG = 6.0
"""Seconds without a finished step after which a rank ends; short, so that this script is, but a busy machine must
not be taken for a cut cable."""
LONG_RUN, CUT_AFTER = 20, 3
"""Epochs of the run whose cable is cut, and of those the ones that it may finish."""


class Checks:
    """The things to be shown, one after the other; each raises SystemExit where it does not hold.

    Parameters
    ----------
    folder : Path
        For data and runs.
    hosts : Hosts
    ranks : int
    """

    def __init__(self, folder: Path, hosts: Hosts, ranks: int) -> None:
        self._folder, self._hosts, self._ranks = folder, hosts, ranks
        small_data.write_shards(folder / "data", counts=(20, 21, 22, 19, 20, 20, 20, 7, 20, 20))
        small_data.write_model(folder / "small.toml")

    def ranks_are_apart(self) -> str:
        """Ranks of different hosts see other names, and as many hosts as there are."""
        found = self._end(self._hosts.start(self._ranks, "-m", "lenet_mp.doctor", "--out", self._folder))
        hosts = f"{self._ranks} ranks on {len(self._hosts.numbers)} hosts"
        require(hosts in found, f"the ranks are not where they should be:\n{found}")
        return hosts

    def cables_are_used(self) -> str:
        """An allreduce takes at least the time of the cables between two hosts: nothing goes past them."""
        milliseconds: dict[str, float] = json.loads(self._end(self._hosts.start(self._ranks, "-c", ALLREDUCE)))
        # Out through one cable, in through the other. A single call may be quicker where this rank is late for it, but
        # two of them never: each needs what another host sent after the one before. Of ten, two may be so.
        least = 0.8 * 2 * self._hosts.delay
        require(min(milliseconds.values()) >= least, f"an allreduce took less than {least} ms: {milliseconds}")
        return "; ".join(f"{size} bytes in {time:.1f} ms" for size, time in milliseconds.items())

    def same_bits(self) -> str:
        """A run over the cables ends with the weights of one process."""
        self._alone("alone", 2)
        self._end(self._hosts.start(self._ranks, *self._train("together", 2)))
        alone, together = (digest(self._folder / run / "last.ckpt") for run in ("alone", "together"))
        require(alone == together, f"{together} over the cables, {alone} in one process")
        return f"{together}, as in one process"

    def a_cut_cable_ends_the_job(self) -> str:
        """All ranks end soon, the exit code tells, nothing is left, and the checkpoint leads to the same bits."""
        job = self._hosts.start(self._ranks, *self._train("cut", LONG_RUN), "--timeout", f"{WATCHDOG:g}s")
        self._wait_for_epochs(self._folder / "cut" / "metrics.csv", job)
        self._hosts.cut(self._hosts.numbers[-1])
        start = time.monotonic()
        _, errors = job.communicate(timeout=TIME_LIMIT)
        seconds = time.monotonic() - start
        require(job.returncode != 0, "the job whose cable was cut ended with exit code 0")
        left = self._wait_for_end()
        require(not left, f"processes {left} are left of the job whose cable was cut")
        reason = next((line for line in errors.splitlines() if "nothing finished" in line), errors.strip())
        self._alone("never-cut", LONG_RUN)
        self._alone("cut", LONG_RUN, "--resume")
        cut, never = (digest(self._folder / run / "last.ckpt") for run in ("cut", "never-cut"))
        require(cut == never, f"{cut} after the cut and a resume, {never} without")
        return f"ended after {seconds:.1f} s with {job.returncode} ({reason}); resumed to {cut}, as if never cut"

    def _train(self, run: str, epochs: int) -> list[object]:
        options = ["-m", "lenet_mp.train", "--data", self._folder / "data", "--model", self._folder / "small.toml"]
        options += ["--out", self._folder / run, "--epochs", str(epochs), "--batch-size", "80", "--lr", "0.002"]
        return [*options, "--progress", "off"]

    def _alone(self, run: str, epochs: int, *more: str) -> None:
        command = [sys.executable, *map(str, self._train(run, epochs)), *more]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        require(done.returncode == 0, done.stderr)

    @staticmethod
    def _end(job: subprocess.Popen[str]) -> str:
        output, errors = job.communicate(timeout=TIME_LIMIT)
        require(job.returncode == 0, f"exit code {job.returncode}\n{output}{errors}")
        return output

    @staticmethod
    def _wait_for_epochs(metrics: Path, job: subprocess.Popen[str]) -> None:
        """Wait until a few epochs are in the run's table."""
        end = time.monotonic() + TIME_LIMIT
        while not metrics.exists() or len(metrics.read_text().splitlines()) <= CUT_AFTER:
            require(job.poll() is None and time.monotonic() < end, "the run ended, or hung, before its cable was cut")
            time.sleep(0.02)

    def _wait_for_end(self) -> list[int]:
        """Give the processes of the hosts two seconds more; return those that are still there."""
        end = time.monotonic() + 2
        while (left := self._hosts.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        return left


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like assert
    """End with ``otherwise`` where something does not hold."""
    if not holds:
        raise SystemExit(f"FAILED: {otherwise}")


def steps(checks: Checks, hosts: Hosts) -> Iterator[str]:
    """Yield what was found, line by line."""
    yield f"cables     {hosts.cables}"
    yield f"hosts      {checks.ranks_are_apart()}"
    yield f"allreduce  {checks.cables_are_used()}"
    yield f"same bits  {checks.same_bits()}"
    yield f"cut        {checks.a_cut_cable_ends_the_job()}"


def main() -> int:
    """Build the hosts, show the promises, take the hosts down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2, metavar="N", help="hosts (default: 2)")
    parser.add_argument("--ranks", type=int, default=4, metavar="N", help="ranks over all hosts (default: 4)")
    parser.add_argument("--rate", type=float, default=200, help="Mbit/s of a host's cable (default: 200)")
    parser.add_argument("--delay", type=float, default=1, help="its ms in each direction (default: 1)")
    args = parser.parse_args()
    reason = why_not()
    if reason:
        raise SystemExit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the namespaces are taken down then, too
    with tempfile.TemporaryDirectory() as name, Hosts(args.hosts, Path(name), args.rate, args.delay) as hosts:
        for line in steps(Checks(Path(name), hosts, args.ranks), hosts):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
