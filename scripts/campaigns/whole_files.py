"""Whether the files that commands write are whole, judged by their kind."""

from __future__ import annotations

import csv
import json
import tomllib
from typing import TYPE_CHECKING

import h5py
import numpy as np
from PIL import Image

from lenet_mp.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def visible(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below ``folder`` that is not hidden, by its path from there."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def damage(path: Path) -> str:
    """Return what shows that a file was not written to its end; nothing if nothing does."""
    try:
        _CHECKS.get(path.suffix, lambda _: None)(path)
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _ends(path: Path, end: bytes) -> None:
    if not path.read_bytes().rstrip().endswith(end):
        raise ValueError(f"it does not end with {end.decode()}")


def _table(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        widths = {len(row) for row in csv.reader(file)}
    if len(widths) != 1 or not path.read_bytes().endswith(b"\n"):
        raise ValueError("not all of its rows have the same cells")


def _shard(path: Path) -> None:
    with h5py.File(path, "r") as file:
        for dataset in file.values():
            dataset[()]


def _arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            arrays[name]


def _picture(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".ckpt": checkpoint.load,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
    ".csv": _table,
    ".png": _picture,
    ".h5": _shard,
    ".npz": _arrays,
    ".html": lambda path: _ends(path, b"</html>"),
    ".svg": lambda path: _ends(path, b"</svg>"),
    ".c": lambda path: _ends(path, b"}"),
    ".h": lambda path: _ends(path, b"#endif"),
}
