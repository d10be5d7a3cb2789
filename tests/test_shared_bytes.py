"""Bytes that ranks of a machine share: who shares with whom, and what happens where the system allows no sharing."""

import programs
import pytest

DRIVER = """
import os, sys
import numpy as np
from pathlib import Path
from mpi4py import MPI
from lenet_mp.parallel import shared_bytes

{before}
world = MPI.COMM_WORLD
descriptors = len(os.listdir("/proc/self/fd"))
array = shared_bytes.share(world, 5, {subject})
assert array.dtype == np.uint8 and array.tolist() == [0] * 5
assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # Python's mmap keeps one
world.Barrier()
array[world.rank] = world.rank + 1
world.Barrier()
found = [int(value) for value in array]
assert not [path for path in Path("/dev/shm").iterdir() if "lenet" in path.name]
print(world.gather(found) or "", flush=True)
"""
TOGETHER, ALONE = [[1, 2, 3, 0, 0]] * 3, [[1, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 3, 0, 0]]


@programs.needs_mpi
@pytest.mark.parametrize(
    ("subject", "before", "expected"),
    [
        ("'one'", "", TOGETHER),
        ("'one' if world.rank else 'other'", "", [[1, 0, 0, 0, 0], [0, 2, 3, 0, 0], [0, 2, 3, 0, 0]]),
        ("str(world.rank)", "", ALONE),
        # Another process's descriptors cannot be opened, or are other files, as where ranks are in containers.
        ("'one'", "shared_bytes.Path = lambda path: Path('/proc/no/such/place')", ALONE),
        ("'one'", "shared_bytes.Path = lambda path: Path(sys.argv[0])", ALONE),
        ("'one'", "shared_bytes.os.memfd_create = lambda name: os.open('/no/such/place', 0)", ALONE),
    ],
)
def test_ranks_share_what_is_about_the_same(tmp_path, subject, before, expected):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(subject=subject, before=before))
    done = programs.run(script, ranks=3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(expected)
