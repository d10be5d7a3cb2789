"""Every sample exactly once an epoch, as seen in real runs: what each rank hands to the engine is written down."""

import json
import zlib
from collections import Counter

import h5py
import programs
import pytest
import small_data
from programs import needs_mpi

from lenet_mp.training import checkpoint

pytestmark = needs_mpi

EPOCHS = 2
RECORDING = """
import ctypes, json, math, os, signal, sys, zlib
from lenet_mp.data import batches
from lenet_mp.training import evaluation, exchange, recorder, trainer

log = open(os.path.join({folder!r}, f"{{os.getpid()}}.jsonl"), "w")
now = None


class Exchange(exchange.Exchange):
    def step(self, parameters, part, *, number, **options):
        global now
        now = number
        return super().step(parameters, part, number=number, **options)


def recording(purpose):
    class Batches(batches.Batches):
        def __init__(self, splits):
            super().__init__(splits)
            self.splits = splits

        def gather(self, shards, rows):
            batch = super().gather(shards, rows)
            size = math.prod(self.splits[0].image_shape)
            for shard, row, address, label in zip(shards, rows, batch.images, batch.labels):
                name = os.path.basename(self.splits[shard].name)
                pixels = zlib.crc32(ctypes.string_at(int(address), size))
                print(json.dumps([purpose, now, name, int(row), pixels, int(label)]), file=log, flush=True)
            return batch

    return Batches


trainer.Exchange, exchange.Batches = Exchange, recording("train")
evaluation.Batches = recording("evaluate")
show = recorder.RunRecorder.step_done


def step_done(self, trainer):
    show(self, trainer)
    if (trainer.epoch, trainer.step) == {stop}:
        os.kill(os.getpid(), signal.SIGUSR1)


recorder.RunRecorder.step_done = step_done
from lenet_mp.train import main
raise SystemExit(main(sys.argv[1:]))
"""


def train(place, ranks, *options, stop=None, expected=0):
    """Train under mpirun and return the records of all ranks."""
    log = place / f"log-{len(list(place.glob('log-*')))}"
    log.mkdir()
    script = place / "recording.py"
    script.write_text(RECORDING.format(folder=str(log), stop=stop))
    fixed = ["--data", place / "data", "--model", place / "small.toml", "--epochs", EPOCHS, "--out", place / "run"]
    done = programs.run(script, *fixed, "--lr", "0.002", "--progress", "off", *options, ranks=ranks, OMP_NUM_THREADS=1)
    assert done.returncode == expected, done.stderr
    assert len(list(log.iterdir())) == ranks
    return [tuple(json.loads(line)) for file in log.iterdir() for line in file.read_text().splitlines()]


def samples(place):
    """Return (split, row, checksum of the pixels, label) of every sample in the files, by split."""
    found = {}
    for path in sorted((place / "data").iterdir()):
        with h5py.File(path) as file:
            for short, split in (("train", "train"), ("val", "validation"), ("test", "test")):
                if f"image_{short}" in file:
                    pairs = zip(file[f"image_{short}"][...], file[f"label_{short}"][...], strict=True)
                    name = f"{path.name}:{split}"
                    rows = [(name, row, zlib.crc32(image.tobytes()), int(y)) for row, (image, y) in enumerate(pairs)]
                    found.setdefault(split, []).extend(rows)
    return found


def check_epochs(records, place, batch_size):
    """Every training sample is worked exactly once in every epoch, with its own pixels and label, in full steps."""
    expected = samples(place)["train"]
    steps = -(-len(expected) // batch_size)
    worked = {epoch: Counter() for epoch in range(EPOCHS)}
    sizes = Counter()
    for purpose, number, *sample in records:
        if purpose == "train":
            worked[number // steps][tuple(sample)] += 1
            sizes[number] += 1
    assert all(epoch == Counter(expected) for epoch in worked.values())
    full = {number: batch_size for number in range(EPOCHS * steps) if (number + 1) % steps}
    assert {number: size for number, size in sizes.items() if (number + 1) % steps} == full


@pytest.mark.parametrize(
    ("shards", "ranks", "batch_size", "streams"),
    [
        ((37,), 3, 16, 0),
        ((3, 60), 8, 100, 0),
        ((20, 21, 7, 19, 33), 2, 40, 0),
        ((9, 1, 30, 2, 8, 16, 17, 5, 11, 31, 1, 4, 25), 4, 64, 7),
        ((48, 48, 48), 5, 48, 3),
    ],
)
def test_every_sample_once_an_epoch(tmp_path, shards, ranks, batch_size, streams):
    """1 to 13 shards on 2 to 8 ranks; more ranks than streams or groups; evaluation counts each sample once, too."""
    small_data.write_shards(tmp_path / "data", counts=shards)
    small_data.write_model(tmp_path / "small.toml")
    records = train(tmp_path, ranks, "--batch-size", batch_size, "--streams", streams)
    check_epochs(records, tmp_path, batch_size)
    scored = Counter(record[2:] for record in records if record[0] == "evaluate")
    times = {split: {scored[sample] for sample in rows} for split, rows in samples(tmp_path).items()}
    assert times["train"] == times["validation"] == {EPOCHS}
    assert len(times["test"]) == 1
    assert len(scored) == sum(map(len, samples(tmp_path).values()))


def test_every_sample_once_in_an_interrupted_run(tmp_path):
    """Stopped in the middle of an epoch on three ranks and resumed on two: no sample is left out or worked twice."""
    small_data.write_shards(tmp_path / "data", counts=(30, 31, 7, 44))
    small_data.write_model(tmp_path / "small.toml")
    options = ["--batch-size", 24, "--streams", 3, "--resume", "auto"]
    first = train(tmp_path, 3, *options, stop=(0, 2), expected=143)
    saved = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert (saved.epoch, saved.step) == (0, 3)
    check_epochs(first + train(tmp_path, 2, *options), tmp_path, batch_size=24)
