"""Build lenet_mp/data/sample/fashion-mnist.npz from the IDX files of Fashion-MNIST.

    python scripts/make_sample.py /usr/share/datasets/fashion-mnist

The folder holds train-images-idx3-ubyte.gz and its three companions, for example from Debian's package
dataset-fashion-mnist. The same files give the same sample: of every class the first 530 training images, the next 50
as validation images, and the first 50 test images.
"""

from __future__ import annotations

import argparse
import gzip
import zipfile
from pathlib import Path

import numpy as np

TRAIN, HELD_OUT = 530, 50
CLASSES = 10
TARGET = Path(__file__).parents[1] / "lenet_mp" / "data" / "sample" / "fashion-mnist.npz"


def read_idx(path: Path) -> np.ndarray:
    """Array of unsigned bytes in an IDX file: magic number 0x000008DD with D axes, their sizes, the bytes."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an IDX file of unsigned bytes; give the folder of Fashion-MNIST")
    axes = data[3]
    shape = np.frombuffer(data, ">i4", count=axes, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def by_class(labels: np.ndarray, first: int, last: int) -> np.ndarray:
    """Positions of the images `first` to `last` - 1 of every class, class after class."""
    return np.concatenate([np.flatnonzero(labels == label)[first:last] for label in range(CLASSES)])


def main() -> None:
    """Read the four files and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the four IDX files are")
    parser.add_argument("-o", "--out", type=Path, default=TARGET, help="file to write")
    args = parser.parse_args()
    images = {name: read_idx(args.folder / f"{name}-images-idx3-ubyte.gz") for name in ("train", "t10k")}
    labels = {name: read_idx(args.folder / f"{name}-labels-idx1-ubyte.gz") for name in ("train", "t10k")}
    chosen = {
        "train": ("train", by_class(labels["train"], 0, TRAIN)),
        "validation": ("train", by_class(labels["train"], TRAIN, TRAIN + HELD_OUT)),
        "test": ("t10k", by_class(labels["t10k"], 0, HELD_OUT)),
    }
    # LZMA packs a seventh smaller than numpy's own deflate, and numpy.load reads it as well.
    with zipfile.ZipFile(args.out, "w", zipfile.ZIP_LZMA) as archive:
        for split, (source, places) in chosen.items():
            for kind, array in (("images", images[source]), ("labels", labels[source])):
                entry = zipfile.ZipInfo(f"{split}_{kind}.npy")  # dated 1980, so that the bytes do not tell the time
                entry.compress_type = zipfile.ZIP_LZMA
                with archive.open(entry, "w") as file:
                    np.lib.format.write_array(file, array[places], allow_pickle=False)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
