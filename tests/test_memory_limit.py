"""Training on more data than there is memory."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import small_data
from memory_limit import memory_limit
from programs import environment

from lenet_mp.training import checkpoint

MIB = 1 << 20
LIMIT = 384 * MIB
COUNT, SIZE = 280, 75
SHARD = COUNT * SIZE * SIZE * 3  # 4.5 MiB
STREAMS = 2


def write(folder, shards):
    """Write so many shards, each the same but for its labels, and forget them in the page cache."""
    small_data.write_shards(folder, counts=(COUNT,), size=SIZE)
    for number in range(1, shards):
        path = folder / f"{number}.h5"
        shutil.copyfile(folder / "0.h5", path)
        with h5py.File(path, "r+") as file:
            file["label_train"][...] = np.roll(file["label_train"][...], number)
    for path in folder.iterdir():
        with path.open("rb") as file:
            # What is cached already would be counted to this process, not to the one that trains.
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return folder


def peaks(process):
    """Watch a process to its end; return the most anonymous and the most file memory that it had in use, in bytes."""
    most = {"RssAnon": 0, "RssFile": 0}
    ended = threading.Event()

    def watch():
        while not ended.wait(0.005):
            try:
                text = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            for name, value in (line.split(":", 1) for line in text.splitlines()):
                if name in most:
                    most[name] = max(most[name], int(value.split()[0]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate(timeout=240)
    ended.set()
    watcher.join()
    assert process.returncode == 0, (process.returncode, errors)
    return most["RssAnon"], most["RssFile"]


@pytest.mark.timeout(600)
def test_training_on_more_than_memory(tmp_path):
    """Under a limit that the data exceed by half, training ends well, and memory in use does not grow with the data.

    The weights are those without a limit. In use are libraries (up to 60 MiB), of every stream the shard that is worked
    and the next one, the same of an evaluation, and at most as many whose turn to be unmapped has not come yet.
    """
    small_data.write_model(tmp_path / "small.toml")
    sets = {name: write(tmp_path / name, shards) for name, shards in (("few", 12), ("many", 3 * LIMIT // (2 * SHARD)))}

    def start(data, out, group=None):
        arguments = [sys.executable, "-m", "lenet_mp.train", "--model", tmp_path / "small.toml", "--data", data]
        arguments += ["--out", tmp_path / out, "--epochs", 2, "--batch-size", 280, "--streams", STREAMS, "--lr", "1e-3"]
        arguments = [*map(str, arguments), "--progress", "off"]
        command = group.command(arguments) if group else arguments
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment(), **streams)

    with memory_limit(LIMIT) as group:
        few_anonymous, _ = peaks(start(sets["few"], "few-run", group))
        anonymous, mapped = peaks(start(sets["many"], "limited", group))
        assert group.times_at_the_limit() > 0
    peaks(start(sets["many"], "free"))
    assert anonymous < few_anonymous + 2 * SHARD
    assert mapped < 60 * MIB + 2 * (2 * STREAMS + 2) * SHARD
    limited, free = (checkpoint.load(tmp_path / run / "last.ckpt") for run in ("limited", "free"))
    assert limited.parameters.tobytes() == free.parameters.tobytes()
