"""Slow cables between network namespaces, for kernels whose ``tc`` can not delay packets (no netem).

Gives every namespace a device ``eth0`` (a TAP) and is the switch between them: frames arrive at the speed and with
the delay of the sender's and the receiver's cable. A line ``cut N`` on stdin pulls the cable of host N.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import select
import struct
import sys
import time
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME = 65536
ADDRESS = 6
"""Bytes of an Ethernet address; a frame begins with the receiver's and the sender's."""


def enter(namespace: str | Path) -> None:
    """Put this process into a network namespace."""
    path = namespace if isinstance(namespace, Path) else Path("/run/netns", namespace)
    with path.open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))


def open_device(namespace: str) -> int:
    """Make ``eth0`` in a namespace and return the end of it that this process holds."""
    enter(namespace)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"eth0", IFF_TAP | IFF_NO_PI))
    return device


class Switch:
    """Passes frames between ports.

    Parameters
    ----------
    ports : dict
        File descriptor by host number.
    slow : set of int
        Hosts with a slow cable; the others' is ideal.
    rate, delay : float
        Bytes a second, and seconds, of a slow cable in each direction.
    """

    def __init__(self, ports: dict[int, int], slow: set[int], rate: float, delay: float) -> None:
        self._ports, self._slow = ports, slow
        self._rate, self._delay = rate, delay
        self._hosts: dict[bytes, int] = {}
        self._free: dict[tuple[int, str], float] = {}
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._number = itertools.count()

    def serve(self) -> None:
        """Work until stdin ends."""
        hosts = {descriptor: host for host, descriptor in self._ports.items()}
        while True:
            wait = max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None
            for ready in select.select([*hosts, sys.stdin], [], [], wait)[0]:
                if ready is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self._ports.pop(int(line.split()[1]), None)
                else:
                    self._take(hosts[ready], os.read(ready, FRAME))
            while self._queue and self._queue[0][0] <= time.monotonic():
                _, _, host, frame = heapq.heappop(self._queue)
                if host in self._ports:
                    with contextlib.suppress(OSError):  # a device that is not up loses what it gets, as a real one
                        os.write(self._ports[host], frame)

    def _take(self, sender: int, frame: bytes) -> None:
        """Queue a frame for its receiver, or for all where it is not known."""
        if sender not in self._ports:
            return  # its cable is cut
        self._hosts[frame[ADDRESS : 2 * ADDRESS]] = sender
        sent = self._pass(sender, "out", time.monotonic(), len(frame))
        known = self._hosts.get(frame[:ADDRESS])
        for receiver in [known] if known else [host for host in self._ports if host != sender]:
            arrival = self._pass(receiver, "in", sent, len(frame))
            heapq.heappush(self._queue, (arrival, next(self._number), receiver, frame))

    def _pass(self, host: int, direction: str, start: float, size: int) -> float:
        """Return when a frame that reaches a cable at ``start`` is through."""
        if host not in self._slow:
            return start
        end = max(start, self._free.get((host, direction), 0.0)) + (size / self._rate if self._rate else 0.0)
        self._free[host, direction] = end
        return end + self._delay


def main() -> int:
    """Open the devices, tell that they are there, and pass frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", required=True, help="of the namespaces' names: PREFIX-1, PREFIX-2, ...")
    parser.add_argument("--hosts", type=int, nargs="+", required=True, help="numbers of all of them")
    parser.add_argument("--slow", type=int, nargs="*", default=[], help="numbers of those with a slow cable")
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second; 0: any number")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds")
    args = parser.parse_args()
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    ports = {host: open_device(f"{args.prefix}-{host}") for host in args.hosts}
    enter(Path(f"/proc/self/fd/{home}"))
    print("ready", flush=True)
    Switch(ports, set(args.slow), args.rate, args.delay).serve()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
