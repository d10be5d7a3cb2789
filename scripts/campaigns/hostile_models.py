"""Hostile checkpoints, run folders, model tables, options and weights, each given to a command with its exit code.

A builder gets the folder that the command may look into, and one outside that it must not; it returns the command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import small_run
from campaigns import fuzz_checkpoints

from lenet_mp.training.checkpoint import DIGEST, HEADER, MAGIC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Builder = Callable[[Path, Path], list[str]]

TERABYTES = 3 << 40


class Payload:
    """What runs when a pickle of it is read."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch /tmp/lenet-mp-was-here",)


def builders() -> dict[str, tuple[Builder, int]]:
    """Every kind by name, with the exit code that it must end with."""
    made: dict[str, tuple[Builder, int]] = {}
    made |= {f"checkpoint: {name}": (_checkpoint(make), 4) for name, make in CHECKPOINTS.items()}
    made |= {f"run: {name}": (_run(make), 4) for name, make in RUNS.items()}
    made |= {f"model: {name}": (_toml("summary", "--model", make), 2) for name, make in TABLES.items()}
    made |= {f"options: {name}": (_toml("train", "--config", make), 2) for name, make in OPTIONS.items()}
    return made | {f"weights: {name}": (_weights(name, make), 4) for name, make in WEIGHTS.items()}


def _checkpoint(make: Callable[[Path], bytes | None]) -> Builder:
    def build(given: Path, _: Path) -> list[str]:
        data = make(given / "x.ckpt")
        if data is not None:
            (given / "x.ckpt").write_bytes(data)
        return ["export", str(given / "x.ckpt")]

    return build


def _sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def _document(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], bytes]:
    """A checkpoint whose JSON was changed, and whose hash fits."""

    def make(_: Path) -> bytes:
        good = fuzz_checkpoints.originals()[2]
        end = HEADER.size + HEADER.unpack_from(good)[1]
        document = json.loads(good[HEADER.size : end])
        change(document)
        text = json.dumps(document).encode()
        return _sealed(HEADER.pack(MAGIC, len(text)) + text + good[end:-DIGEST])

    return make


def _text(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        good = fuzz_checkpoints.originals()[2]
        end = HEADER.size + HEADER.unpack_from(good)[1]
        text = change(good[HEADER.size : end])
        return _sealed(HEADER.pack(MAGIC, len(text)) + text + good[end:-DIGEST])

    return make


def _arrays(value: float) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        good = fuzz_checkpoints.originals()[0]
        return _sealed(good[: -DIGEST - 4] + struct.pack("<f", value))

    return make


def _sparse(path: Path) -> None:
    path.write_bytes(MAGIC)
    os.truncate(path, TERABYTES)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Payload()))


def _layers(document: dict[str, Any]) -> None:
    document["model"]["layer"] = [{"kind": "conv", "channels": 65_536, "kernel": 1}] * 63 + [{"kind": "dense"}]


def _deep_config(document: dict[str, Any]) -> None:
    document["config"] = {"a": [[[[[1]]]]] * 400_000}


CHECKPOINTS: dict[str, Callable[[Path], bytes | None]] = {
    "a pickle": lambda _: pickle.dumps(Payload()),
    "a PyTorch file": _zip,
    "a length beyond the file": lambda _: _sealed(HEADER.pack(MAGIC, (1 << 64) - 1) + b"{}"),
    "a length of nothing": lambda _: _sealed(HEADER.pack(MAGIC, 0) + b"{}"),
    "the wrong hash": lambda _: fuzz_checkpoints.originals()[0][:-1] + b"\0",
    "cut short": lambda _: fuzz_checkpoints.originals()[0][:100],
    "a name twice": _text(lambda text: text.replace(b'"epoch": 2', b'"epoch": 1, "epoch": 2')),
    "deep": _text(lambda text: text.replace(b'"config": {', b'"config": {"a": ' + b"[" * 500_000)),
    "millions of values": _document(_deep_config),
    "1e308": _document(lambda d: d["history"][0].update(seconds=1e308)),
    "1e999": _text(lambda text: text.replace(b'"step": 0', b'"step": 1e999')),
    "NaN in the text": _document(lambda d: d["history"][0].update(loss=float("nan"))),
    "NaN in the weights": _arrays(float("nan")),
    "infinite weights": _arrays(float("inf")),
    "an array of terabytes": _document(lambda d: d["arrays"][0].update(shape=[TERABYTES])),
    "an array of objects": _document(lambda d: d["arrays"][0].update(dtype="|O")),
    "another array": _document(lambda d: d["arrays"][0].update(name="../../x")),
    "layers of terabytes": _document(_layers),
    "a million classes": _document(lambda d: d.update(class_names=[str(n) for n in range(1_000_000)])),
    "an endless number": _text(lambda text: text.replace(b'"step": 0', b'"step": ' + b"1" * 10_000)),
    "of 3 TB": _sparse,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


def _run(make: Callable[[Path, Path], object]) -> Builder:
    """A run folder that somebody sent, to go on with."""

    def build(given: Path, outside: Path) -> list[str]:
        run = given / "run"
        run.mkdir()
        (run / "last.ckpt").write_bytes(fuzz_checkpoints.originals()[2])
        (outside / "secret").write_bytes(fuzz_checkpoints.originals()[2])
        make(run, outside / "secret")
        return ["train", "--resume", str(run), "--progress", "off"]

    return build


def _link(name: str) -> Callable[[Path, Path], object]:
    def make(run: Path, secret: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(secret)

    return make


def _folder(run: Path, _: Path) -> None:
    (run / "last.ckpt").unlink()
    (run / "last.ckpt").mkdir()


RUNS: dict[str, Callable[[Path, Path], object]] = {
    "last.ckpt is a link": _link("last.ckpt"),
    "log.txt is a link": _link("log.txt"),
    "the lock is a link": _link(".lock"),
    "features is a link": _link("features"),
    "last.ckpt is a folder": _folder,
    "last.ckpt is a pickle": lambda run, _: (run / "last.ckpt").write_bytes(pickle.dumps(Payload())),
    "unknown options": lambda run, _: (run / "last.ckpt").write_bytes(
        _document(lambda d: d["config"].update(__class__="os.system"))(run)
    ),
}


def _toml(command: str, option: str, make: Callable[[Path], bytes | None]) -> Builder:
    def build(given: Path, _: Path) -> list[str]:
        data = make(given / "x.toml")
        if data is not None:
            (given / "x.toml").write_bytes(data)
        return [command, option, str(given / "x.toml")]

    return build


LAYER = b"[[layer]]\nkind = 'conv'\nchannels = 1\nkernel = 1\n"
TABLES: dict[str, Callable[[Path], bytes | None]] = {
    "300,000 layers": lambda _: LAYER * 20_000,
    "a number of 5,000 digits": lambda _: LAYER.replace(b"1", b"9" * 5000),
    "a number of 300 digits": lambda _: LAYER.replace(b"1", b"9" * 300),
    "a text of 10 MB": lambda _: b'name = "' + b"x" * 10_000_000 + b'"\n' + LAYER,
    "deep lists": lambda _: b"image = " + b"[" * 100_000,
    "deep tables": lambda _: b"image = " + b"{a=" * 100_000,
    "a key of 30,000 parts": lambda _: b"a." * 30_000 + b"a = 1",
    "infinite": lambda _: LAYER.replace(b"1", b"inf"),
    "not UTF-8": lambda _: b"\xff\xfe" + LAYER,
    "a pickle": lambda _: pickle.dumps(Payload()),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
OPTIONS: dict[str, Callable[[Path], bytes | None]] = {
    "a key of 30,000 parts": lambda _: b"[" + b"a." * 30_000 + b"a]",
    "unknown": lambda _: b'__import__ = "os"\n',
    "a rate of 300 digits": lambda _: b"momentum = " + b"9" * 300,
    "a million rates": lambda _: b'lr = "1*999999999999"\nepochs = 1000001\n',
    "a model of the system": lambda _: b'model = "/etc/passwd"\n',
    "a pipe": os.mkfifo,
}


def _weights(name: str, make: Callable[[Path], bytes | None]) -> Builder:
    """Weights to begin with, for a small network on good data."""
    suffix = name.partition(" ")[0]

    def build(given: Path, _: Path) -> list[str]:
        small_run.write_data(given / "data")
        (given / "small.toml").write_text(small_run.MODEL)
        path = given / f"weights.{suffix}"
        data = make(path)
        if data is not None:
            path.write_bytes(data)
        words = ["train", "--data", given / "data", "--model", given / "small.toml", "--init-from", path]
        return [*map(str, words), "--out", str(given / "run"), "--progress", "off"]

    return build


def _npz(*members: tuple[str, bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            warnings.simplefilter("ignore")  # names that are there twice
            for name, data in members:
                archive.writestr(name, data)

    return make


def _pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{"C1.weight": np.array([Payload()], object)})


def _npy(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)


def _safetensors(header: bytes, length: int = -1) -> Callable[[Path], bytes]:
    return lambda _: struct.pack("<Q", len(header) if length < 0 else length) + header + bytes(16)


ENTRY = b'"C1.weight":{"dtype":"F32","shape":[%s],"data_offsets":[0,%s]}'
WEIGHTS: dict[str, Callable[[Path], bytes | None]] = {
    "npz with a pickle": _pickled,
    "npz that is a bomb": _npz(("C1.weight.npy", bytes(300 << 20))),
    "npz of terabytes": _npz(("C1.weight.npy", _npy("(3000000000000,)"))),
    "npz with code for a shape": _npz(("C1.weight.npy", _npy("(__import__('os').system('id'),)"))),
    "npz with a path out": _npz(("../../C1.weight.npy", _npy("(4,)"))),
    "npz with an array twice": _npz(("C1.weight.npy", _npy("(4,)")), ("C1.weight", _npy("(4,)"))),
    "npz that is a pickle": lambda _: pickle.dumps(Payload()),
    "npz that is a pipe": os.mkfifo,
    "safetensors with an overlong header": _safetensors(b"{}", 1 << 62),
    "safetensors of terabytes": _safetensors(b"{%s}" % (ENTRY % (b"3000000000000", b"12000000000000"))),
    "safetensors with an array twice": _safetensors(b"{%s,%s}" % (ENTRY % (b"4", b"16"), ENTRY % (b"4", b"16"))),
    "safetensors that is deep": _safetensors(b'{"__metadata__":' + b"[" * 100_000),
    "safetensors that is a pipe": os.mkfifo,
    "ckpt that is a pickle": lambda _: pickle.dumps(Payload()),
}
