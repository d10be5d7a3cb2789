"""A control group with little memory, for tests of what does not fit."""

import contextlib
import os
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_limit(size):
    """Yield a group whose processes may use ``size`` bytes, their part of the page cache included; or skip the test."""
    groups = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in _text("/proc/self/cgroup").splitlines()}
    name = f"lenet-mp-test-{os.getpid()}"
    old = ROOT / "memory" / groups.get("memory", "/").lstrip("/") / name
    # A group of version 2 that holds processes itself has no groups with limits below it; the root may.
    new = [ROOT / groups.get("", "/").lstrip("/") / name, ROOT / name]
    for folder, limit in ((old, "memory.limit_in_bytes"), *((folder, "memory.max") for folder in new)):
        with contextlib.suppress(OSError):
            folder.mkdir()
            try:
                if (folder / limit).exists():
                    (folder / limit).write_text(str(size))
                    yield Group(folder)
                    return
            finally:
                folder.rmdir()
    pytest.skip("no control group may be made here that limits memory (root and /sys/fs/cgroup, writable)")


class Group:
    """A control group, of version 1 or 2."""

    def __init__(self, folder):
        self.folder = folder

    def command(self, arguments):
        """Return a command that enters the group and becomes ``arguments``."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *map(str, arguments)]

    def times_at_the_limit(self):
        """How often its processes wanted more than there is, so that something had to go."""
        if (self.folder / "memory.failcnt").exists():
            return int(_text(self.folder / "memory.failcnt"))
        events = dict(line.split() for line in _text(self.folder / "memory.events").splitlines())
        return int(events["max"])


def _text(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""
