"""Hosts of one machine: network namespaces with names and shared memory of their own, joined by slow cables."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from same_bits import CHECKOUT

from lenet_mp.parallel.launch import MPICH, find_launcher

if TYPE_CHECKING:
    from pathlib import Path

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
    rate, delay : float
        Mbit/s and ms of every host's cable, in each direction.
    """

    def __init__(self, count: int, folder: Path, rate: float, delay: float) -> None:
        self.numbers = range(1, count + 1)
        self.cables = f"{rate:g} Mbit/s, {delay:g} ms"
        self._prefix = f"lmp{os.getpid()}"
        self._rate, self.delay = rate, delay
        self._switch: subprocess.Popen[str] | None = None
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
        if launcher is None:
            raise SystemExit("there is no mpirun any longer")
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
        if self._switch and self._switch.stdin:
            print("cut", number, file=self._switch.stdin, flush=True)
        else:
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
        if self._join_by_bridge():
            self.cables += ", by tc"
        else:
            self._join_by_switch()
            self.cables += ", by a switch of our own: this kernel's tc has no netem"
        for number in (FRONT, *self.numbers):
            ip("-n", self._name(number), "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            ip("-n", self._name(number), "link", "set", "eth0", "up")

    def _join_by_bridge(self) -> bool:
        """Join the hosts by veth pairs and a bridge; False, and nothing left, where tc can not slow them down."""
        ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
        ip("-n", self._bridge, "link", "set", "bridge", "up")
        for number in (FRONT, *self.numbers):
            name, port = self._name(number), f"port{number}"
            ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", self._bridge)
            ip("-n", self._bridge, "link", "set", port, "master", "bridge", "up")
        ends = [(self._name(number), "eth0") for number in self.numbers]
        ends += [(self._bridge, f"port{number}") for number in self.numbers]
        netem = f"netem delay {self.delay:g}ms rate {self._rate:g}mbit"
        slow = all(self._queue(name, device, netem) for name, device in ends)
        if not slow:
            for number in (FRONT, *self.numbers):
                ip("-n", self._name(number), "link", "del", "eth0")
        return slow

    @staticmethod
    def _queue(namespace: str, device: str, discipline: str) -> bool:
        command = ["tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *discipline.split()]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _join_by_switch(self) -> None:
        command = [sys.executable, CHECKOUT / "scripts" / "cables.py", "--prefix", self._prefix]
        command += ["--hosts", FRONT, *self.numbers, "--slow", *self.numbers]
        command += ["--rate", self._rate * 1e6 / 8, "--delay", self.delay / 1e3]
        pipe = subprocess.PIPE
        self._switch = subprocess.Popen(list(map(str, command)), stdin=pipe, stdout=pipe, text=True)
        if not self._switch.stdout or self._switch.stdout.readline() != "ready\n":
            raise SystemExit("no TAP devices here, and tc has no netem: cables can not be slow")

    def _destroy(self) -> None:
        """End what still runs in the namespaces and delete them; whatever is missing already is passed over."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._switch:
            self._switch.communicate()  # it ends with its stdin
        for name in self._names():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def why_not() -> str:
    """Return the reason why this machine can not have such hosts; empty where it can."""
    missing = [name for name in ("ip", "tc", "unshare") if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here: install iproute2 and util-linux"
    launcher = find_launcher()
    if launcher is None or launcher.family != MPICH:
        return "this needs MPICH's launcher: pip install 'lenet-mp[mpi]'"
    probe = f"lmp{os.getpid()}-probe"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return f"network namespaces are refused here: {done.stderr.strip()}" if done.returncode else ""
