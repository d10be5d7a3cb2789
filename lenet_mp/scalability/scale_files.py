"""The files of ``lenet-mp scale``: tables as CSV, the picture, the report as it was printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp import tables
from lenet_mp.scalability.scale_plot import draw
from lenet_mp.scalability.scaling import PARTS, efficiency, karp_flatt, speedup

if TYPE_CHECKING:
    from pathlib import Path

    from lenet_mp.scalability.scale_report import Report


def write(report: Report, text: str, out: Path) -> None:
    """Write the tables as CSV, the plot and the text into the folder ``out``."""
    tables.write_text(out / "steps.csv", _steps_csv(report))
    rows = [(size, seconds) for size, values in report.measured.messages.items() for seconds in values]
    tables.write_text(out / "allreduce.csv", tables.as_csv(("bytes", "seconds"), rows))
    pairs = [p for pair in report.predictions() for p in zip(("strong", "weak"), pair, strict=True)]
    header = ("scaling", "nodes", "batch_size", "seconds", "images_per_second", "efficiency", "noisy_efficiency",
              "bytes_per_second_read")  # fmt: skip
    lines = [
        (kind, p.ranks, p.batch_size, p.seconds, p.rate, p.efficiency, p.noisy_efficiency, p.reading)
        for kind, p in pairs
    ]
    tables.write_text(out / "prediction.csv", tables.as_csv(header, lines))
    draw(report, out / "scale.png")
    tables.write_text(out / "report.txt", text)


def _steps_csv(report: Report) -> str:
    header = ["scaling", "ranks", "threads", "cores_shared", "batch_size", "steps", "median_s", "quartile1_s"]
    header += ["quartile3_s", "images_per_second", "speedup", "efficiency", "karp_flatt", "cores_got"]
    header += [f"{part}_s" for part in PARTS]
    lines = []
    for kind, results in (("strong", report.strong), ("weak", report.weak)):
        for r in results:
            setup, one = r.setup, report.one
            shared = setup.cores > report.cores
            cells: list[str | int | float] = [kind, setup.ranks, setup.threads, int(shared), setup.batch_size]
            cells += [len(r.seconds), r.median, *r.quartiles, r.rate, speedup(r, one)]
            serial = karp_flatt(r, one)
            cells += ["", ""] if shared else [efficiency(r, one), "" if np.isnan(serial) else serial]
            lines.append([*cells, r.granted, *(r.parts[part] for part in PARTS)])
    return tables.as_csv(header, lines)
