"""Train on several hosts of one machine: the same bits as in one process, and a clean end when a cable is cut.

Each host is a network namespace with a name and shared memory of its own; ranks of different hosts have nothing but
a bridge between them, as slow as asked for. Needs root, and iproute2 (Debian: apt install iproute2).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from same_bits import CHECKOUT, digest, small_data

from lenet_mp.launch import MPICH, find_launcher

if TYPE_CHECKING:
    from collections.abc import Iterator

NETWORK = "10.77.0"
"""Addresses exist inside the namespaces alone."""
FRONT = 100
"""Number of the namespace in which the launcher runs, as on a cluster's front end."""
REMOTE_SHELL = """#!/bin/sh
# Called like ssh, [-OPTION...] ADDRESS COMMAND: runs the command on the host of that address.
while [ "${{1#-}}" != "$1" ]; do shift; done
host={prefix}-${{1##*.}}
shift
exec ip netns exec "$host" unshare --mount --uts --ipc sh -c "mount -t tmpfs tmpfs /dev/shm; hostname $host; $*"
"""
TIME_LIMIT = 120.0
WATCHDOG = 3.0
"""Seconds without a finished step after which a rank ends; short, so that this script is."""
LONG_RUN, CUT_AFTER = 20, 3
"""Epochs of the run whose cable is cut, and of those the ones that it may finish."""


def ip(*words: object) -> None:
    """Run ``ip WORDS``; SystemExit with its complaint."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


class Hosts:
    """Namespaces ``PREFIX-1``, ``PREFIX-2``, ..., the launcher's, and one with the bridge between them.

    Parameters
    ----------
    count : int
    folder : Path
        For the remote shell's script.
    rate, delay : str
        What ``tc`` shall make of every cable: ``200mbit``, ``1ms``; empty for the plain cable.
    """

    def __init__(self, count: int, folder: Path, rate: str = "", delay: str = "") -> None:
        self.numbers = range(1, count + 1)
        self.shaping = "plain cables"
        self._prefix = f"lmp{os.getpid()}"
        self._rate, self._delay = rate, delay
        self._shell = folder / "remote-shell"
        self._shell.write_text(REMOTE_SHELL.format(prefix=self._prefix))
        self._shell.chmod(0o755)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._destroy()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._destroy()

    def start(self, ranks: int, *arguments: object) -> subprocess.Popen[str]:
        """Start ``python ARGUMENTS`` on ``ranks`` ranks, dealt to the hosts in equal parts."""
        launcher = find_launcher()
        if launcher is None or launcher.family != MPICH:
            raise SystemExit("this needs MPICH: pip install 'lenet-mp[mpi]'")
        a_host = -(-ranks // len(self.numbers))
        hosts = ",".join(f"{NETWORK}.{number}:{a_host}" for number in self.numbers)
        command = ["ip", "netns", "exec", self._name(FRONT), str(launcher.path), "-localhost", f"{NETWORK}.{FRONT}"]
        command += ["-launcher", "ssh", "-launcher-exec", str(self._shell), "-hosts", hosts, "-n", str(ranks)]
        command += [sys.executable, *map(str, arguments)]
        environment = launcher.environment() | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)

    def cut(self, number: int) -> None:
        """Pull the cable of a host."""
        ip("-n", self._bridge, "link", "set", f"port{number}", "down")

    def processes(self) -> list[int]:
        """Return the ids of all processes in the namespaces."""
        found = []
        for name in self._names():
            done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            found += [int(pid) for pid in done.stdout.split()]
        return found

    @property
    def _bridge(self) -> str:
        return f"{self._prefix}-net"

    def _name(self, number: int) -> str:
        return f"{self._prefix}-{number}"

    def _names(self) -> list[str]:
        return [self._bridge, self._name(FRONT), *(self._name(number) for number in self.numbers)]

    def _build(self) -> None:
        for name in self._names():
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
        ip("-n", self._bridge, "link", "set", "bridge", "up")
        for number in (FRONT, *self.numbers):
            name, port = self._name(number), f"port{number}"
            ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", self._bridge)
            ip("-n", self._bridge, "link", "set", port, "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        if self._rate or self._delay:
            self.shaping = self._shape()

    def _shape(self) -> str:
        """Make the hosts' cables slow in both directions; tell what could be done: not every kernel has all of it."""
        ends = [(self._name(number), "eth0") for number in self.numbers]
        ends += [(self._bridge, f"port{number}") for number in self.numbers]
        netem = f"netem {f'delay {self._delay}' if self._delay else ''} {f'rate {self._rate}' if self._rate else ''}"
        if all(self._queue(name, device, netem) for name, device in ends):
            return f"{self._rate} {self._delay} by netem"
        if self._rate and all(self._queue(*end, f"tbf rate {self._rate} burst 32kb latency 200ms") for end in ends):
            return f"{self._rate} by tbf" + (", no delay: this kernel has no netem" if self._delay else "")
        return "plain cables: this kernel can not slow them down"

    @staticmethod
    def _queue(namespace: str, device: str, discipline: str) -> bool:
        command = ["tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *discipline.split()]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _destroy(self) -> None:
        """End what still runs in the namespaces and delete them; whatever is missing already is passed over."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in self._names():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


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


def why_not() -> str:
    """Return the reason why this machine can not have such hosts; empty where it can."""
    missing = [name for name in ("ip", "tc", "unshare") if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here: install iproute2 and util-linux"
    probe = f"lmp{os.getpid()}-probe"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return f"network namespaces are refused here: {done.stderr.strip()}" if done.returncode else ""


def steps(checks: Checks, hosts: Hosts) -> Iterator[str]:
    """Yield what was found, line by line."""
    yield f"cables     {hosts.shaping}"
    yield f"hosts      {checks.ranks_are_apart()}"
    yield f"same bits  {checks.same_bits()}"
    yield f"cut        {checks.a_cut_cable_ends_the_job()}"


def main() -> int:
    """Build the hosts, show the promises, take the hosts down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2, metavar="N", help="hosts (default: 2)")
    parser.add_argument("--ranks", type=int, default=4, metavar="N", help="ranks over all hosts (default: 4)")
    parser.add_argument("--rate", default="200mbit", help="bandwidth of a cable, as tc writes it (default: 200mbit)")
    parser.add_argument("--delay", default="1ms", help="delay of a cable in each direction (default: 1ms)")
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
