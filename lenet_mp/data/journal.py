"""The preparation's journal: which files of a data set are finished, so that a killed run can go on.

One JSON line says what job it is, then one line follows for every file that is in place. A torn last line (the process
died while writing it) does not count: that file is made again, to the same bytes. Under MPI every rank keeps a journal
of its own, and all of them are read.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lenet_mp import documents, files
from lenet_mp.data.manifest import ShardEntry
from lenet_mp.files import output_error, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ".prepare.*.jsonl"


@dataclass
class FileRecord:
    """What a finished file holds and what was found while it was made.

    Attributes
    ----------
    entry : ShardEntry
    inputs : digest of the source files' sizes and times, so that a repaired image is looked at again
    rejected : [where, reason] of every image left out
    digests : SHA-256 (hex) of every source file, empty where it could not be read, in the order of the job
    used : whether each source's image is in the file, in the same order
    sums, squares : exact sums over all pixels of the training images in it, by channel
    """

    entry: ShardEntry
    inputs: str
    rejected: list[list[str]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    used: list[bool] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    squares: list[int] = field(default_factory=list)


class Journal:
    """The records of one job in one folder, kept on disk.

    Parameters
    ----------
    folder : Path
    job : str
        Digest of the job; the journals of any other are deleted.
    rank : int
        Which journal the records go to.
    """

    def __init__(self, folder: Path, job: str, rank: int = 0) -> None:
        self.folder = folder
        self._own = folder / _NAMES.replace("*", str(rank))
        self.records = read(folder, job)
        for path in journals(folder):
            if rank == 0 and _documents(path)[:1] != [{"job": job}]:
                path.unlink(missing_ok=True)
        if not self._own.exists():
            write_atomically(self._own, _line({"job": job}))

    def add(self, record: FileRecord) -> None:
        """Keep a record; it is on the disk when this returns."""
        self.records[record.entry.name] = record
        # Earlier torn lines end here: a line of its own is the only thing that is ever parsed.
        data = b"\n" + _line(asdict(record))
        try:
            with self._own.open("ab", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self._own, error) from error

    def remove(self) -> None:
        """Delete the journals of a job that is complete."""
        remove(self.folder)


def read(folder: Path, job: str) -> dict[str, FileRecord]:
    """Records of a job in a folder, of all ranks, by file name."""
    records = {}
    for path in journals(folder):
        documents = _documents(path)
        if documents[:1] == [{"job": job}]:
            for document in documents[1:]:
                with contextlib.suppress(KeyError, TypeError):
                    record = FileRecord(**{**document, "entry": ShardEntry(**document["entry"])})
                    records[record.entry.name] = record
    return records


def journals(folder: Path) -> list[Path]:
    """Journals of unfinished jobs in a folder."""
    return sorted(folder.glob(_NAMES))


def remove(folder: Path) -> None:
    """Delete all journals of a folder."""
    for path in journals(folder):
        with contextlib.suppress(OSError):
            path.unlink()


def _documents(path: Path) -> list[dict[str, Any]]:
    try:
        lines = files.read(path).splitlines()
    except OSError:
        return []
    return [document for line in lines if (document := _parse(line))]


def _line(document: dict[str, Any]) -> bytes:
    return (json.dumps(document) + "\n").encode("ascii")


def _parse(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, RecursionError):
        document = documents.parse_json(line)
        return document if isinstance(document, dict) else None
    return None
