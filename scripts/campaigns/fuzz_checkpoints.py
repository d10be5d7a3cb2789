"""Checkpoint files with bits, lengths, hashes and JSON of all kinds changed are refused, or are another valid state.

Half of the mutants get a SHA-256 that fits, so that what lies behind it is reached. A file that is accepted must say
exactly what was read: written again, it gives the same document and the same arrays.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from campaigns import mutators
from campaigns.fuzzing import fuzz

from lenet_mp.networks import model_files
from lenet_mp.training import checkpoint, checkpoint_document
from lenet_mp.training.checkpoint import DIGEST, HEADER, MAGIC, Checkpoint
from lenet_mp.training.config import Config

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from campaigns.tally import Tally

SMALL, FULL = 10_000, 2_000_000

LAYERS = [{"kind": "conv", "channels": 2, "kernel": 3}, {"kind": "relu"}, {"kind": "dense"}]
DICTIONARY = [
    b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"0", b"-0", b"-1", b"1", b"2", b"0.5",
    b"1e308", b"1e309", b"-1e400", b"65536", b"4294967296", b"18446744073709551616", b"1" * 400, b"1" * 5000,
    b'""', b'"\\u0000"', b'"\\ud800"', b'"<f4"', b'">f4"', b'"|O"', b'"<f8"', b'"a"', b"[]", b"{}", b"[[[[[[",
    b'{"a":' * 40, b"[" * 2000, b"]", b"}", b",", b":", b'"parameters"', b'"velocity"', b'"class_weights"',
    b'"../../x"', b'"kind"', b'"dense"', b'"subsample"', b'"epoch"', b'"version"', b'"__class__"', b'"class_names"',
    b"[1]", b"[0]", b"[-1]", b"[1e3]", b'["a","b"]', b'{"name":"x"}', b"\xff\xfe", b"\xef\xbb\xbf",
]  # fmt: skip


def run(size: int, seed: int, folder: Path) -> Tally:
    """Feed mutants to the reader of checkpoints."""
    return fuzz("fuzz_checkpoints", size, seed, folder)


def make(_folder: Path) -> Target:
    """Return the target of one process."""
    return Target()


def originals() -> list[bytes]:
    """Three files: fresh, in mid-epoch with weights of the classes, and after some epochs."""
    row = dict.fromkeys(checkpoint_document.METRICS, 0.5) | {"epoch": 1, "val_top1": None}
    states: list[dict[str, Any]] = [
        {},
        {"step": 7, "counts": [1 << 80, 7, 0, 3, 4]},
        {"epoch": 2, "history": [row, row | {"epoch": 2, "loss": 0.1 + 0.2}]},
    ]
    return [checkpoint.to_bytes(_state(weighted=number == 1, **state)) for number, state in enumerate(states)]


def _state(*, weighted: bool, **changes: Any) -> Checkpoint:
    state = Checkpoint(
        model=model_files.from_document({"name": "tiny", "layer": LAYERS}, "model"),
        input_shape=(4, 4, 1),
        class_names=("a b", "ü", b"caf\xe9".decode(errors="surrogateescape")),
        channel_order="L",
        resampling="bilinear",
        normalize="n1p1",
        config=asdict(Config()),
        data_fingerprint="f00d",
        **({"counts": [0] * checkpoint_document.COUNTS} | changes),
    )
    count = state.network.parameter_count
    state.arrays = {
        "parameters": np.linspace(-1, 1, count, dtype=np.float32),
        "velocity": np.full(count, np.float32(1e-42)),
    }
    if weighted:
        state.arrays["class_weights"] = np.array([1, 0.5, 2], np.float32)
    return state


class Target:
    """The reader, and what must be true of what it accepts."""

    def __init__(self) -> None:
        self._files = originals()
        self._texts = [(mutators.tokens(_text(data)), _arrays(data)) for data in self._files]

    def mutant(self, rng: random.Random) -> bytes:
        """Change bytes anywhere, or words of the JSON; make the hash fit half of the time."""
        kind = rng.random()
        if kind < 0.5:
            data = mutators.mutate(rng.choice(self._files), rng, self._files)
            return data if kind < 0.35 else _sealed(data[:-DIGEST])
        words, arrays = rng.choice(self._texts)
        text = mutators.mutate_tokens(words, rng, DICTIONARY)
        length = len(text) if rng.random() < 0.95 else rng.choice(mutators.NUMBERS)
        return _sealed(HEADER.pack(MAGIC, length) + text + arrays)

    def read(self, mutant: bytes) -> None:
        """Read it; what is accepted must be what the file says."""
        state = checkpoint.from_bytes(mutant, "x.ckpt")
        if mutant in self._files:
            return
        if _sealed(mutant[:-DIGEST]) != mutant:
            raise AssertionError("wrong data accepted: the SHA-256 does not fit")
        again = checkpoint.to_bytes(state)
        if _said(again) != _said(mutant) or _arrays(again) != _arrays(mutant):
            raise AssertionError(f"wrong data accepted: read {_said(again)[:150]}, but it says {_said(mutant)[:150]}")


def _sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def _text(data: bytes) -> bytes:
    return data[HEADER.size : HEADER.size + HEADER.unpack_from(data)[1]]


def _arrays(data: bytes) -> bytes:
    return data[HEADER.size + HEADER.unpack_from(data)[1] : -DIGEST]


def _said(data: bytes) -> str:
    """Return what the JSON says in one spelling, with defaults of the table and figures that older runs lack."""
    document = json.loads(_text(data), object_pairs_hook=_without_repeats)
    document["model"] = model_files.to_document(model_files.from_document(document["model"], "model"))
    document["history"] = [dict.fromkeys(checkpoint_document.METRICS) | row for row in document["history"]]
    return json.dumps(document, sort_keys=True)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise AssertionError("wrong data accepted: a name is there twice")
    return dict(pairs)
