"""``manifest.json``: what a prepared data set consists of, written last, so that its presence means "complete".

It names every shard with its counts, size and hashes, the classes, the options it was made with and every image
that was left out, and ends with the SHA-256 of all that. It holds no date and no path of the machine: the same images
and options give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lenet_mp import documents, files
from lenet_mp.data import classes
from lenet_mp.data.images import DEFAULT_FILTER, FILTERS
from lenet_mp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "manifest.json"
FORMAT = "lenet_mp data set"
VERSION = 1
SPLITS = ("train", "validation", "test")
HELD_OUT = "data.h5"
"""The file of the validation and the test split, as the original names it."""
SHEET, BALANCE = "contact_sheet.png", "class_balance.png"
"""Pictures of the data set that ``lenet-mp verify`` draws beside it."""
CHANNEL_ORDERS = {1: ("L",), 3: ("RGB", "BGR")}

_FILE_NAME = re.compile(r"(?:0|[1-9][0-9]*)\.h5")
_CHECKSUM = "sha256"


@dataclass(frozen=True)
class ShardEntry:
    """One H5 file: its name in the folder, samples by split, size in bytes, SHA-256 and XXH3 (hex).

    ``xxh3`` is empty where the manifest of an earlier version states none.
    """

    name: str
    counts: dict[str, int]
    bytes: int
    sha256: str
    xxh3: str


@dataclass(frozen=True)
class Manifest:
    """A data set's contents.

    Attributes
    ----------
    image_shape : (H, W, C)
    channel_order : "RGB", "BGR" or "L"
    class_names : one name a class; the position is the label
    shards : the training shards in order, then ``data.h5`` if there is one
    options : what ``prepare`` was asked for, as JSON values
    rejected : samples that were left out, each with ``where`` (list and line, or path) and ``reason``
    extra : anything else of the passport (statistics, duplicates), as JSON values
    """

    image_shape: tuple[int, int, int]
    channel_order: str
    class_names: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    options: dict[str, Any] = field(default_factory=dict)
    rejected: tuple[dict[str, str], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """ASCII JSON, the same bytes for the same contents; its last field is the SHA-256 of all others."""
        document = self._document()
        return _text(document | {_CHECKSUM: _checksum(document)})

    def fingerprint(self) -> str:
        """SHA-256 (hex): two data sets with the same one hold the same bytes.

        XXH3 is left out: of the same bytes an earlier version stated none.
        """
        document = self._document()
        for entry in document["shards"]:
            del entry["xxh3"]
        return _checksum(document)

    def _document(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def load(folder: Path) -> Manifest | None:
    """Read the manifest of a data folder; None if it has none.

    Raises
    ------
    DataError
        If it is damaged, or of a newer version; the text names the file and the field.
    """
    path = folder / NAME
    try:
        document = documents.parse_json(files.read(path, documents.LARGEST_TEXT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions and the disk") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged ({error}); copy it again or prepare the data set again") from error
    return _parsed(document, path)


def _parsed(document: Any, path: Path) -> Manifest:
    _require(isinstance(document, dict) and document.get("format") == FORMAT, path, "format")
    if document.get("version") != VERSION or type(document["version"]) is not int:
        raise DataError(
            f"{path}: version {document.get('version')!r}, this program reads {VERSION}; prepare it again"
        )
    shape = document.get("image_shape")
    fits = documents.is_list(shape, int) and len(shape) == 3 and min(shape) > 0  # noqa: PLR2004 - H, W, C
    _require(fits and shape[2] in CHANNEL_ORDERS, path, "image_shape")
    order = document.get("channel_order")
    _require(order in CHANNEL_ORDERS[shape[2]], path, "channel_order")
    names = document.get("class_names")
    _require(documents.is_list(names, str) and len(names) > 0, path, "class_names")
    wrong = classes.fault(names)
    if wrong:
        raise DataError(f"{path}: class_names: {wrong}")
    entries = document.get("shards")
    _require(documents.is_list(entries, dict) and len(entries) > 0, path, "shards")
    options = document.get("options")
    _require(isinstance(options, dict) and options.get("resampling", DEFAULT_FILTER) in FILTERS, path, "options")
    _require(documents.is_list(document.get("rejected"), dict), path, "rejected")
    _require(isinstance(document.get("extra"), dict), path, "extra")
    shards = tuple(_entry(entry, path) for entry in entries)
    _require(len({shard.name for shard in shards}) == len(shards), path, "shards")
    stated = document.pop(_CHECKSUM, None)  # earlier versions wrote none
    if stated is not None and stated != _checksum(document):
        raise DataError(
            f"{path}: damaged or changed by hand, its SHA-256 is {_checksum(document)}, but it says {stated}; copy it "
            "again or prepare the data set again"
        )
    return Manifest(
        (shape[0], shape[1], shape[2]),
        order,
        tuple(names),
        shards,
        document["options"],
        tuple(document["rejected"]),
        document["extra"],
    )


def _entry(entry: dict[str, Any], path: Path) -> ShardEntry:
    name: Any = entry.get("name")
    counts: Any = entry.get("counts")
    # Only plain names of shards: a manifest from elsewhere must not make anybody read ../../something.
    _require(isinstance(name, str) and bool(_FILE_NAME.fullmatch(name) or name == HELD_OUT), path, "shards.name")
    allowed = {"validation", "test"} if name == HELD_OUT else {"train"}
    _require(isinstance(counts, dict) and set(counts) <= allowed and len(counts) > 0, path, "shards.counts")
    _require(documents.is_list(list(counts.values()), int) and min(counts.values()) > 0, path, "shards.counts")
    _require(type(entry.get("bytes")) is int, path, "shards.bytes")
    _require(isinstance(entry.get("sha256"), str), path, "shards.sha256")
    xxh3 = entry.get("xxh3", "")
    _require(isinstance(xxh3, str), path, "shards.xxh3")
    return ShardEntry(name, counts, entry["bytes"], entry["sha256"], xxh3)


def _text(document: dict[str, Any]) -> bytes:
    # Surrogates (file names that are not UTF-8) stay readable as \\udcXX escapes.
    return (json.dumps(document, indent=1) + "\n").encode("ascii")


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(_text(document)).hexdigest()


def _require(condition: bool, path: Path, field_name: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise DataError(f"{path}: field {field_name!r} is missing or wrong; prepare the data set again")
