"""Run random networks under AddressSanitizer and UndefinedBehaviorSanitizer, and compare instruction sets meanwhile.

The core is compiled with gcc's sanitizers for each instruction set of this CPU (where fewer than 200 networks are
wanted, for the fastest alone and with few of the convolutions' instances: compiling takes longer than that). A network
(random_plans.py) is an attempt: no sanitizer may report anything, and all builds, with and without sanitizers, must
give the same bits, unless a convolution's instance is left out. First a caller's two mistakes, images that are too
short and an odd address, must be reported, in the core's own code: else nothing is shown. Data races, and a race that
is planted, are the part of ``scripts/sanitize thread planted``, which runs too where clang is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from campaigns.c_builds import Builder
from campaigns.tally import Tally

SMALL, FULL = 60, 20_000
CHECKOUT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("random_plans.py")
FLAGS = ("-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
WORTH_ALL = 200
CHUNK = 500
BEYOND = re.compile(
    # Where the read begins inside of the image and ends outside, the kind is called an unknown one.
    r"ERROR: AddressSanitizer: (?:heap-buffer-overflow|unknown-crash) on .*\nREAD of size \d+ at .*\n"
    # Images are read by the first layer, and for the mean that jitter starts from: whichever comes first.
    r"(?: +#\d+ .*\n)*? +#\d+ \w+ in \w+ \S*/csrc/(?:front|augment)\.c:\d+.*\n"
    r"(?: +#\d+ .*\n)*\n\w+ is located \d+ bytes (?:to the right of|after) \d+-byte region"
)
ODD = re.compile(r"\bstep\.c:\d+:\d+: runtime error: store to misaligned address \w+ for type 'u?int64_t'")
REPORTS = {"bounds": BEYOND, "undefined": ODD}
"""What must be said of each mistake: which kind it is, and where in the core it shows."""
TIME_LIMIT = 3600
Ended = subprocess.CompletedProcess[str]


def run(size: int, seed: int, folder: Path) -> Tally:
    """Try ``size`` networks."""
    tally = Tally()
    preloaded = runtimes()
    if not preloaded:
        tally.skipped = "gcc with libasan and libubsan is not here"
        return tally
    builder = Builder(CHECKOUT / "csrc", folder, FLAGS, whole=size >= WORTH_ALL)
    isas = list(builder.isas) if size >= WORTH_ALL else list(builder.isas)[-1:]
    modules = {isa: folder / f"{isa}.so" for isa in isas}
    for isa, module in modules.items():
        builder.build(module, isa)
    for bug in REPORTS:
        done = drive(modules[isas[-1]], isas[-1], seed, 0, 20, preloaded, bug)
        if not reported(bug, done.stderr):
            tally.attempt(f"planted: {bug} was not reported as what it is: {done.stderr[:600]}")
        tally.count("planted mistakes found", reported(bug, done.stderr))
    if shutil.which("clang") and size >= WORTH_ALL:
        command, python = [CHECKOUT / "scripts" / "sanitize", "thread", "planted"], {"PYTHON": sys.executable}
        done = subprocess.run(command, env=os.environ | python, capture_output=True, text=True, check=False)
        tally.attempt(f"threads: {done.stdout[-300:]} {done.stderr[-500:]}" if done.returncode else "")
        tally.count("thread sanitizer", 1)
    for first in range(0, size, CHUNK):
        count = min(CHUNK, size - first)
        expected = drive(None, isas[-1], seed, first, count, [])
        if expected.returncode:
            tally.attempt(f"networks {first} ...: {expected.stderr[-300:]}")
            continue
        failures: dict[int, str] = {}
        for isa, module in modules.items():
            done = drive(module, isa, seed, first, count, preloaded)
            compare(done, expected, first, isa, failures, builder.dropped)
        for number in range(first, first + count):
            tally.attempt(failures.get(number, ""))
    tally.count("builds", len(modules))
    return tally


def reported(bug: str, report: str) -> bool:
    """Whether a sanitizer's report is about a planted mistake, and no other."""
    return REPORTS[bug].search(report) is not None


def runtimes() -> list[str]:
    """Return the libraries of gcc's sanitizers, which Python must load first; nothing where one is missing."""
    if not shutil.which("gcc"):
        return []
    asks = [["gcc", f"-print-file-name=lib{name}.so"] for name in ("asan", "ubsan")]
    paths = [subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip() for ask in asks]
    return paths if all(Path(path).is_absolute() for path in paths) else []


def drive(
    module: Path | None, isa: str, seed: int, first: int, count: int, preloaded: list[str], bug: str = ""
) -> Ended:
    """Run random networks in a process of their own; module None is the installed core."""
    variables = os.environ | {
        "LENET_MP_ISA": isa, "PYTHONPATH": str(CHECKOUT), "OPENBLAS_NUM_THREADS": "1", "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1", "LD_PRELOAD": " ".join(preloaded),
    }  # fmt: skip
    command = [sys.executable, DRIVER, module or "-", isa, seed, first, count, *([bug] if bug else [])]
    words = [*map(str, command)]
    return subprocess.run(words, env=variables, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)


def compare(
    done: Ended, expected: Ended, first: int, isa: str, failures: dict[int, str], dropped: set[str]
) -> None:
    """Note which networks gave other results than expected, and the one in which a sanitizer ended the process.

    Those with one of the convolutions ``dropped`` may give other results.
    """
    lines, wanted = done.stdout.splitlines(), expected.stdout.splitlines()
    for line, other in zip(lines, wanted, strict=False):
        if line != other and not dropped & set(line.split()[2:]):
            failures.setdefault(int(line.split()[0]), f"network {line.split()[0]}: other bits on {isa}")
    if len(lines) < len(wanted):
        failures.setdefault(first + len(lines), f"network {first + len(lines)} on {isa}: {done.stderr[:600]}")
