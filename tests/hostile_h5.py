"""Shards that try to do harm: each function fills an open H5 file; what it names outside lies in ``folder``."""

import h5py
import numpy as np

SHAPE = (4, 6, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
LABELS = np.arange(4)


def soft_link(file, _folder):
    file["other"] = IMAGES
    file["image_train"] = h5py.SoftLink("/other")


def external_link(file, folder):
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["pixels"] = IMAGES
    file["image_train"] = h5py.ExternalLink(str(folder / "secret.h5"), "/pixels")


def external_storage(file, folder):
    (folder / "secret").write_bytes(IMAGES.tobytes())
    file.create_dataset("image_train", SHAPE, np.uint8, external=[(str(folder / "secret"), 0, IMAGES.nbytes)])


def virtual(file, folder):
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["pixels"] = IMAGES
    layout = h5py.VirtualLayout(SHAPE, np.uint8)
    layout[...] = h5py.VirtualSource(str(folder / "secret.h5"), "pixels", SHAPE)
    file.create_virtual_dataset("image_train", layout)


def group(file, _folder):
    file.create_group("image_train")


def named_type(file, _folder):
    file["image_train"] = np.dtype("u1")


def terabytes(file, _folder):
    file.create_dataset("image_train", (10**9, 32, 32, 3), np.uint8, chunks=(1, 32, 32, 3))


def terabytes_in_one_piece(file, _folder):
    file.create_dataset("image_train", (10**9, 32, 32, 3), np.uint8)


def gzip_bomb(file, _folder):
    file.create_dataset("image_train", (40, 1024, 1024, 3), np.uint8, chunks=(1, 1024, 1024, 3), compression="gzip")
    file["image_train"][0] = 0


def giant_chunk(file, _folder):
    file.create_dataset(
        "image_train", SHAPE, np.uint8, chunks=(1024, 1024, 512, 3), maxshape=(None,) * 4, compression="gzip"
    )


def foreign_filter(file, _folder):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(SHAPE)
    properties.set_filter(32_001, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(SHAPE)
    h5py.h5d.create(file.id, b"image_train", h5py.h5t.STD_U8LE, space, properties)


def scale_offset(file, _folder):
    file.create_dataset("image_train", data=IMAGES, scaleoffset=0)


def variable_length(file, _folder):
    file.create_dataset("image_train", (4,), h5py.vlen_dtype(np.uint8))


def compound(file, _folder):
    file.create_dataset("image_train", (4,), np.dtype([("r", "u1"), ("g", "u1")]))


def reference(file, _folder):
    file.create_dataset("image_train", (4,), h5py.ref_dtype)


def scalar(file, _folder):
    file["image_train"] = np.uint8(3)


def null_space(file, _folder):
    file["image_train"] = h5py.Empty("u1")


HOSTILE = (
    soft_link, external_link, external_storage, virtual, group, named_type, terabytes, terabytes_in_one_piece,
    gzip_bomb, giant_chunk, foreign_filter, scale_offset, variable_length, compound, reference, scalar, null_space,
)  # fmt: skip
