"""What a finished data set tells about itself: counts, mean and standard deviation, repeated images."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from lenet_mp.data.moments import mean_and_deviation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.data.jobs import Job, Options
    from lenet_mp.data.journal import FileRecord
    from lenet_mp.data.samples import Sample

_MOST_DUPLICATES = 1000

Used = tuple[str, "Sample", str]  # split, sample, SHA-256 of its file


def passport(jobs: Sequence[Job], records: Sequence[FileRecord], options: Options, classes: int) -> dict[str, Any]:
    """Everything that the manifest tells beside its own fields.

    Returns
    -------
    dict
        ``class_counts`` by split; ``mean`` and ``std`` of the training pixels by channel, 0..255; ``duplicates``; and
        by file ``sources``, the SHA-256 over the SHA-256 of the image files it was made from.
    """
    used = [
        (split, sample, digest)
        for job, record in zip(jobs, records, strict=True)
        for (split, sample), digest, taken in zip(job.placed, record.digests, record.used, strict=True)
        if taken
    ]
    height, width, _ = options.image_shape
    train = sum(record.entry.counts.get("train", 0) for record in records)
    sums = [sum(column) for column in zip(*(record.sums for record in records if record.sums), strict=True)]
    squares = [sum(column) for column in zip(*(record.squares for record in records if record.squares), strict=True)]
    mean, deviation = mean_and_deviation(sums, squares, train * height * width)
    return {
        "class_counts": class_counts(used, classes),
        "mean": mean,
        "std": deviation,
        "duplicates": duplicates(used),
        "sources": {record.entry.name: source_digest(record) for record in records},
    }


def class_counts(used: Sequence[Used], classes: int) -> dict[str, list[int]]:
    """Images of every class, by split."""
    counts = Counter((split, sample.label) for split, sample, _ in used)
    splits = dict.fromkeys(split for split, _, _ in used)
    return {split: [counts[split, label] for label in range(classes)] for split in splits}


def duplicates(used: Sequence[Used]) -> dict[str, Any]:
    """Images with the same bytes: how many groups there are, of which kind, and where (the first thousand groups)."""
    groups: dict[str, list[Used]] = {}
    for item in used:
        groups.setdefault(item[2], []).append(item)
    repeated = [group for group in groups.values() if len(group) > 1]
    kinds: Counter[str] = Counter()
    for group in repeated:
        splits = list(dict.fromkeys(split for split, _, _ in group))
        kinds[("across " if len(splits) > 1 else "within ") + " and ".join(splits)] += 1
        if len({sample.label for _, sample, _ in group}) > 1:
            kinds["with different classes"] += 1
    shown = [[f"{split}: {sample.path} ({sample.where})" for split, sample, _ in group] for group in repeated]
    return {"groups": len(repeated), "kinds": dict(sorted(kinds.items())), "images": shown[:_MOST_DUPLICATES]}


def source_digest(record: FileRecord) -> str:
    """SHA-256 over the digests of the source files that went into a shard, in their order."""
    used = (digest for digest, taken in zip(record.digests, record.used, strict=True) if taken)
    return hashlib.sha256("\n".join(used).encode()).hexdigest()
