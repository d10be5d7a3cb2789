"""Training on the same images in other stores: contiguous, chunked, compressed, JPEG; read ahead or mapped anew."""

import io

import h5py
import numpy as np
import pytest
import small_data
from PIL import Image

from lenet_mp.data import jpeg_store, shards
from lenet_mp.data.manifest import Manifest
from lenet_mp.data.shard_writer import write_shard
from lenet_mp.parallel.comm import Solo
from lenet_mp.training import assembly
from lenet_mp.training.config import Config
from lenet_mp.training.recorder import Silent

COUNTS = (50, 31, 50, 7)
STORES = {
    "chunked": {"chunks": (4, 20, 20, 3)},
    "compressed": {"chunks": (4, 20, 7, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": True, "compression": "lzf"},
}


def trained(folder, model, **more):
    """Train for two epochs; return weights, momentum and losses."""
    settings = Config(data=str(folder), model=str(model), batch_size=48, streams=3, epochs=2, lr="0.002", **more)
    trainer = assembly.make_trainer(Solo(), settings)
    trainer.fit(Silent())
    losses = [(row["loss"], row["val_loss"], row["val_top1"]) for row in trainer.history]
    return trainer.parameters.tobytes(), trainer.velocity.tobytes(), losses


@pytest.fixture
def place(tmp_path):
    small_data.write_shards(tmp_path / "contiguous", COUNTS)
    small_data.write_model(tmp_path / "small.toml")
    return tmp_path


@pytest.mark.parametrize("store", STORES)
def test_how_a_shard_is_stored_does_not_show(place, store):
    """Chunked and compressed shards give the weights, momentum and losses of contiguous ones, bit for bit."""
    (place / store).mkdir()
    for path in (place / "contiguous").glob("*.h5"):
        with h5py.File(path) as source, h5py.File(place / store / path.name, "w") as file:
            for name in source:
                layout = STORES[store] if name.startswith("image") else {}
                file.create_dataset(name, data=source[name][...], **layout)
    assert not shards.open_dataset(place / store).train[0].mapped
    expected = trained(place / "contiguous", place / "small.toml")
    assert trained(place / store, place / "small.toml") == expected


def test_jpeg_shards_train_as_their_pixels(place):
    """Shards of JPEG images give the weights that the pixels which they decode to give."""
    made = {"jpeg": [], "pixels": []}
    for store, entries in made.items():
        (place / store).mkdir()
        for number, count in enumerate(COUNTS):
            images, labels = small_data.samples(count, number)
            encoded = [jpeg_store.encode(Image.fromarray(image), 90) for image in images]
            decoded = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in encoded])
            blocks = [("train", encoded if store == "jpeg" else decoded, labels.astype(np.int32))]
            kinds = {"image_shape": (20, 20, 3), "channel_order": "RGB"}
            entries.append(write_shard(place / store / f"{number}.h5", blocks, **kinds))
        manifest = Manifest((20, 20, 3), "RGB", ("a", "b", "c", "d"), tuple(entries))
        (place / store / "manifest.json").write_bytes(manifest.encode())
    assert trained(place / "jpeg", place / "small.toml") == trained(place / "pixels", place / "small.toml")


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_how_much_memory_is_free_does_not_show(place, monkeypatch, free):
    """Shards that are mapped anew in each epoch, or fetched far ahead, give the same weights."""
    expected = trained(place / "contiguous", place / "small.toml")
    monkeypatch.setattr(shards, "available_bytes", lambda: free)
    assert trained(place / "contiguous", place / "small.toml") == expected
