"""Cut the power while a run saves: no checkpoint that it had said to be saved may be lost.

The run writes to an ext4 file system in an image file. The cut is a copy of the image, made while the run is stopped:
what the kernel had not brought to the disk is not in it. The copy is mounted, which replays its journal, and its last
checkpoint must be sound and no older than the last one for which saving had returned; every other file must be whole.
Mount options take turns, among them those that leave the order of writes to the program.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from campaigns import processes, small_job, whole_files
from campaigns.tally import Tally

from lenet_mp.training import checkpoint, run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL, FULL = 3, 60
CUTS_A_RUN = 5
MOUNTS = ("defaults", "noauto_da_alloc", "data=writeback")
IMAGE_BYTES = 32 << 20
LONGEST_PAUSE = 0.5
START_LIMIT = 60.0
SAVING = """
import os
from lenet_mp.training.run_folder import RunFolder
told = os.open({told!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
save = RunFolder.save
def save_and_tell(self, state, **options):
    save(self, state, **options)
    os.write(told, f"{{state.epoch}} {{state.step}}\\n".encode())
RunFolder.save = save_and_tell
from lenet_mp.train import main
raise SystemExit(main())
"""
"""A run that tells, in a file elsewhere, of every checkpoint that is saved."""


@contextlib.contextmanager
def mounted(image: Path, point: Path, options: str = "defaults") -> Iterator[None]:
    """Mount an image inside the block."""
    point.mkdir(exist_ok=True)
    _command("mount", "-o", f"loop,{options}", str(image), str(point))
    try:
        yield
    finally:
        _command("umount", str(point))


def cut(writer: int, image: Path, copy: Path, told: Path) -> tuple[int, int]:
    """Copy an image as it is at one moment, its writer stopped; return epoch and step that were saved until then.

    A copy that the kernel wrote into is made again.
    """
    os.kill(writer, signal.SIGSTOP)
    try:
        while processes.state(writer) not in "Tt":
            time.sleep(0.001)
        for _ in range(10):
            _command("cp", "--sparse=always", str(image), str(copy))
            if filecmp.cmp(image, copy, shallow=False):
                epoch, step = told.read_text(encoding="ascii").split()[-2:]
                return int(epoch), int(step)
    finally:
        os.kill(writer, signal.SIGCONT)
    raise SystemExit("the image never rests")


def run(size: int, seed: int, folder: Path) -> Tally:
    """Cut the power ``size`` times."""
    image, disk, tally = folder / "disk.img", folder / "disk", Tally()
    small_job.prepare(folder)
    chance = random.Random(seed)
    for begun, first in enumerate(range(0, size, CUTS_A_RUN)):
        options = MOUNTS[begun % len(MOUNTS)]
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        try:
            _command("mkfs.ext4", "-q", "-F", str(image))
            with mounted(image, disk, options):
                pass
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            return Tally(skipped=f"no file system can be mounted here: {reason.strip()}")
        with mounted(image, disk, options):
            for failure in _cuts(folder, disk / "run", image, min(CUTS_A_RUN, size - first), chance):
                tally.attempt(f"{failure} ({options}, seed {seed})" if failure else "")
                tally.count(options)
    return tally


def _cuts(folder: Path, out: Path, image: Path, count: int, chance: random.Random) -> Iterator[str]:
    """Train into ``out``, cut the power ``count`` times and yield what was wrong after each."""
    told = folder / "told.txt"
    told.unlink(missing_ok=True)
    more = ("--epochs", "100000", "--batch-size", "1", "--lr", "1e-5", "--train-accuracy", "running")
    arguments = ["-c", SAVING.format(told=str(told)), *small_job.arguments(folder, out, *more)[2:]]
    (place,) = small_job.places((1,))
    writer = place.start(arguments, folder)
    deadline = time.monotonic() + START_LIMIT
    try:
        while not told.exists() or not told.stat().st_size:
            if writer.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the run saves nothing:\\n{(folder / 'output.txt').read_text(encoding='utf-8')}")
            time.sleep(0.01)
        for _ in range(count):
            time.sleep(chance.uniform(0, LONGEST_PAUSE))
            copy = folder / "copy.img"
            acknowledged = cut(writer.pid, image, copy, told)
            yield _judge(copy, folder / "copy", out.name, acknowledged)
    finally:
        writer.kill()
        writer.wait()


def _judge(copy: Path, point: Path, name: str, acknowledged: tuple[int, int]) -> str:
    """Look at what the cut has left."""
    with mounted(copy, point):
        try:
            state = checkpoint.load(point / name / run_folder.LAST)
        except (OSError, ValueError) as error:
            return f"{acknowledged} was saved, but {error}"
        names = whole_files.visible(point / name)
        wrong = [f"{file}: {damage}" for file in names if (damage := whole_files.damage(point / name / file))]
    if (state.epoch, state.step) < acknowledged:
        wrong.append(f"{acknowledged} was saved, {(state.epoch, state.step)} is there")
    return "; ".join(wrong)


def _command(*words: str) -> None:
    subprocess.run(words, text=True, capture_output=True, check=True)
