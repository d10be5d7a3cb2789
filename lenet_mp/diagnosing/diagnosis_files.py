"""What ``lenet-mp doctor`` looks at in files: H5, the folders to read and write, shared memory."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

from lenet_mp.diagnosing.diagnosis import Finding, note, ok, problem
from lenet_mp.errors import LenetError
from lenet_mp.files import write_atomically

PROBE_BYTES = 8 << 20
LITTLE_SPACE = 1 << 30
SLOW_WRITE = 2.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where MPI libraries put their segments
LITTLE_SHARED_MEMORY = 64 << 20
SEGMENTS = ("mpich_shm_", "sm_segment.", "vader_segment.", "Intel_MPI_", "psm2_shm", "ucx_shm_posix")
"""Beginnings of the names that MPI libraries give to shared memory."""
FILTERS: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
}
"""What h5py calls the filters that shards may use."""


def check_h5() -> list[Finding]:
    """Write and read an H5 file in memory, through every filter that shards may use."""
    try:
        import h5py  # noqa: PLC0415 - it may be broken
        import numpy as np  # noqa: PLC0415 - the same
    except ImportError as error:
        return [problem(f"h5py does not load ({error})", "pip install --force-reinstall h5py")]
    data = np.arange(4096, dtype=np.uint8).reshape(64, 64)
    working = []
    for name, options in FILTERS.items():
        try:
            with h5py.File(io.BytesIO(), "w") as file:
                file.create_dataset("x", data=data, chunks=(16, 64), **options)
                if (file["x"][...] == data).all():
                    working.append(name)
        except (OSError, ValueError, RuntimeError):
            continue  # a filter that this HDF5 was built without
    locking = os.environ.get("HDF5_USE_FILE_LOCKING")
    told = f"; HDF5_USE_FILE_LOCKING={locking} (shards are read without locks anyway)" if locking else ""
    return [ok(f"HDF5 {h5py.version.hdf5_version}, filters {', '.join(working)}{told}")]


def check_data(folder: Path) -> list[Finding]:
    """Open the data set as training would."""
    try:
        from lenet_mp.data.shards import open_dataset  # noqa: PLC0415 - needs h5py, which may be broken

        dataset = open_dataset(folder)
    except LenetError as error:
        text, _, remedy = str(error).rpartition("; ")
        return [problem(text or str(error), remedy if text else "see 'lenet-mp prepare --help'")]
    images = sum(split.count for split in dataset.train)
    shape = " x ".join(map(str, dataset.image_shape))
    findings = [ok(f"data {folder}: {images:,} training images of {shape} in {len(dataset.train)} shards")]
    if not all(split.mapped for split in dataset.train):
        remedy = "prepare the data again with 'lenet-mp prepare'"
        findings.append(note("some shards are chunked or compressed: read slowly, into memory", remedy))
    return findings


def check_output(folder: Path) -> list[Finding]:
    """Write a file as checkpoints are written, see how long it takes, and how much room there is."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not there.is_dir():
        return [problem(f"{there} is no folder", "choose another --out")]
    start = time.monotonic()
    try:
        write_atomically(there / "lenet-mp-doctor.tmp", bytes(PROBE_BYTES))
        (there / "lenet-mp-doctor.tmp").unlink()
    except LenetError as error:
        text, _, remedy = str(error).rpartition("; ")
        return [problem(text, remedy)]
    seconds, free = time.monotonic() - start, shutil.disk_usage(there).free
    kind = file_system(there)
    megabytes = PROBE_BYTES >> 20
    findings = [ok(f"{there} ({kind}): {megabytes} MB synced in {seconds:.2f} s; {free / 1e9:,.1f} GB free")]
    if free < LITTLE_SPACE:
        findings.append(note(f"{there} has only {free / 1e6:,.0f} MB free", "free some space or choose another folder"))
    if kind in ("tmpfs", "ramfs"):
        findings.append(note(f"{there} is in memory: a restart of the machine loses it", "choose a folder on a disk"))
    if seconds > SLOW_WRITE:
        findings.append(note(f"{there} is slow: every checkpoint waits for it", "choose a faster disk for --out"))
    return findings


def file_system(path: Path) -> str:
    """Kind of the file system that ``path`` lies on, such as ``ext4``; ``unknown`` where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    mounts = [(Path(mount), kind) for _, mount, kind, *_ in (line.split() for line in lines)]
    resolved = path.resolve()
    holding = [(mount, kind) for mount, kind in mounts if resolved.is_relative_to(mount)]
    # The longest one; of several on one place, the last covers the others.
    return max(enumerate(holding), key=lambda item: (len(item[1][0].parts), item[0]))[1][1] if holding else "unknown"


def check_shared_memory(folder: Path = SHARED_MEMORY) -> list[Finding]:
    """Look for room, and for segments that killed MPI jobs left behind."""
    if not folder.is_dir():
        return [note(f"there is no {folder}: ranks on one machine talk slowly or not at all", "mount a tmpfs there")]
    free = shutil.disk_usage(folder).free
    findings = [ok(f"{folder}: {free / 1e6:,.0f} MB free")]
    if free < LITTLE_SHARED_MEMORY:
        remedy = "in a container: --shm-size=1g"
        findings = [note(f"{folder} has only {free / 1e6:,.0f} MB free: MPI may fail to start", remedy)]
    left = leftovers(folder)
    if left:
        size = sum(path.stat().st_size for path in left if path.exists())
        names = " ".join(sorted({f"{folder}/{next(s for s in SEGMENTS if p.name.startswith(s))}*" for p in left}))
        text = f"{len(left)} files ({size / 1e6:,.0f} MB) in {folder} are left of killed MPI jobs"
        findings.append(note(text, f"while no MPI job runs: rm {names}"))
    return findings


def leftovers(folder: Path) -> list[Path]:
    """Return this user's shared memory of MPI libraries that no process has mapped."""
    mine = [
        path for path in folder.iterdir() if path.name.startswith(SEGMENTS) and path.lstat().st_uid == os.geteuid()
    ]  # fmt: skip
    used = _mapped(str(folder)) if mine else ""
    return [path for path in mine if str(path) not in used]


def _mapped(start: str) -> str:
    """Return the lines of all processes' maps that name ``start``, as far as they may be read."""
    lines = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines += [line for line in maps.read_text(encoding="utf-8", errors="replace").splitlines() if start in line]
        except OSError:
            continue  # gone by now, or another user's
    return "\n".join(lines)
