"""Memory: how much there is, and that reading a large data set takes little of it."""

import subprocess
import sys

import numpy as np
import pytest
import small_data

from lenet_mp.data import shards
from lenet_mp.data.memory import available_bytes
from lenet_mp.data.pixels import MappedImages
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.parallel.comm import Solo
from lenet_mp.plan import Plan
from lenet_mp.training import assembly
from lenet_mp.training.config import Config
from lenet_mp.training.recorder import Silent

MEMINFO = "MemTotal:       2000000 kB\nMemAvailable:    1000000 kB\n"


def system(root, groups, **limits):
    """Write a /proc and /sys with free memory of 1,024,000,000 bytes and limits by path of control group."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(MEMINFO)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for path, limit in limits.items():
        file = root / "sys/fs/cgroup" / path.replace("__", "/").replace("_max", ".max").replace("_limit", ".limit")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("", {}, 1_024_000_000),
        ("0::/job/step\n", {"job__memory_max": 5000, "job__step__memory_max": "max"}, 5000),
        ("0::/job\n", {"memory_max": 7000, "job__memory_max": 2**63}, 7000),
        ("4:memory:/job\n", {"memory__job__memory_limit_in_bytes": 6000}, 6000),
        ("0::/job\n", {"job__memory_max": "nonsense"}, 1_024_000_000),
    ],
)
def test_available_memory(tmp_path, groups, limits, expected):
    """The smallest of free memory and the limits of the process's control groups counts, in both versions of them."""
    assert available_bytes(system(tmp_path, groups, **limits)) == expected


def test_unknown_memory(tmp_path):
    """Where the system does not tell, nothing is taken for granted."""
    assert available_bytes(tmp_path) == 0


def test_this_machine_has_memory():
    """On a real system the figure is plausible."""
    assert available_bytes() > 2**20


WALK = """
import sys
from lenet_mp.data import shards
shards.available_bytes = lambda: int(sys.argv[2])
def resident():
    text = open("/proc/self/status").read()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("RssAnon", "RssFile")))
dataset = shards.open_dataset(sys.argv[1])
before = resident()
most = total = 0
for epoch in range(2):
    for number, split in enumerate(dataset.train):
        if number + 1 < len(dataset.train):
            dataset.train[number + 1].prefetch()
        total += int(split.images.sum())
        most = max(most, resident())
        split.release()
print(most - before, total)
"""


@pytest.mark.parametrize("free", [0, 2**40])
def test_resident_memory_is_bounded(tmp_path, free):
    """Walking through a data set larger than memory keeps two shards resident; where it fits, all may stay."""
    rng = np.random.default_rng(0)
    kinds = {"image_shape": (128, 128, 3), "channel_order": "RGB"}
    expected = 0
    for number in range(30):
        images = rng.integers(0, 256, (64, 128, 128, 3), np.uint8)  # 3.1 MB
        expected += 2 * int(images.sum())
        labels = np.zeros(64, np.int32)
        write_shard(tmp_path / f"{number}.h5", [("train", images, labels)], **kinds)
    strip_attributes(tmp_path)
    done = subprocess.run([sys.executable, "-c", WALK, tmp_path, str(free)], capture_output=True, text=True, check=True)
    grown, total = map(int, done.stdout.split())
    assert total == expected
    if free:
        assert grown > 20 * 3072  # KiB: nearly all 30 shards are in the page table
    else:
        assert grown < 8 * 3072  # two or three shards, and what Python itself takes meanwhile


def strip_attributes(folder):
    """Make our shards look like the original's, which need no manifest."""
    import h5py  # noqa: PLC0415 - here alone

    for path in folder.glob("*.h5"):
        with h5py.File(path, "a") as file:
            for name in list(file.attrs):
                del file.attrs[name]


@pytest.mark.parametrize(("free", "ahead"), [(2**40, 5), (0, 1)])
def test_shards_are_fetched_before_they_are_wanted(tmp_path, monkeypatch, free, ahead):
    """A shard is fetched as many steps ahead as a shard lasts, over the end of an epoch too; one step without room."""
    steps, fetched, ages = [0], {}, []

    def prefetch(images):
        fetched.setdefault(images._path.name, steps[0])

    def array(images):
        if images._path.name != "data.h5":
            ages.append(steps[0] - fetched.pop(images._path.name, steps[0]))
        return real_array(images)

    def step(*arguments, **options):
        steps[0] += 1
        return real_step(*arguments, **options)

    real_array, real_step = MappedImages.array, Plan.step
    monkeypatch.setattr(MappedImages, "prefetch", prefetch)
    monkeypatch.setattr(MappedImages, "array", array)
    monkeypatch.setattr(Plan, "step", step)
    monkeypatch.setattr(shards, "available_bytes", lambda: free)
    small_data.write_shards(tmp_path, counts=(80,) * 12)
    small_data.write_model(tmp_path / "small.toml")
    names = {"model": str(tmp_path / "small.toml"), "data": str(tmp_path), "train_accuracy": "running"}
    assembly.make_trainer(Solo(), Config(**names, batch_size=32, streams=2, epochs=3, lr="1e-3")).fit(Silent())
    # Two streams with half of twelve shards each, three epochs: the first two openings are waited for, all others were
    # announced; one step later where it was the shard just worked, of another stream or epoch, still open.
    assert len(ages) == 36
    assert ages[:2] == [0, 0]
    assert set(ages[2:]) <= {ahead, ahead - 1}
    assert ages.count(ahead) > 30
