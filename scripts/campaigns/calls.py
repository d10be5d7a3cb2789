"""Let every system call that writes fail or kill, one at a time, in every command that writes.

Each attempt is one command in which strace lets one call that touches its results, or its standard output, end with
ENOSPC or EIO, or kills it there. Afterwards every file must be whole, old or new; an error must have ended with exit
code 74 (or, for a picture, with a warning) and left nothing half-written; and the same command again must reach the
same results.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import small_data
from campaigns import small_job, whole_files
from campaigns.tally import Tally
from campaigns.warm_commands import WarmCommands

from lenet_mp.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL, FULL = 3, 10_000
"""Full is all there are; more than a thousand."""
CALLS = (
    "write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate",
    "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "openat",
    "copy_file_range", "sendfile",
)  # fmt: skip
TOLD = 100  # attempts, after which the count so far is printed
FAULTS = ("error=ENOSPC", "error=EIO", "signal=SIGKILL")
KILLED = -signal.SIGKILL
OPENED_TO_WRITE = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
WARNING = "warning: no "


@dataclass(frozen=True)
class Case:
    """A command and what it works on.

    Attributes
    ----------
    arguments : tuple of str
        ``{out}`` stands for the folder of its results.
    begins : Path or None
        What that folder holds before; None where it does not exist.
    """

    command: str
    arguments: tuple[str, ...]
    begins: Path | None = None

    @property
    def locks(self) -> bool:
        """Whether it holds the folder, and so may sweep it."""
        return self.command in ("prepare", "train")


@dataclass(frozen=True)
class Fault:
    """One attempt: which call of a command, counted by name from 1, meets with what."""

    case: Case
    call: str
    number: int
    what: str

    def __str__(self) -> str:
        """Return what a failure is called by."""
        return f"{self.case.command}: {self.call} number {self.number}, {self.what}"


class Campaign:
    """Finds the calls of every case in a clean run, then lets them fail.

    Parameters
    ----------
    folder : Path
        An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._out, self._log = folder, folder / "out", folder / "strace.log"
        self._output = folder / "output.txt"
        self._ours = re.compile(rf'{re.escape(str(self._out))}["/>]')
        self._warm = WarmCommands(folder)
        self._expected: dict[Case, dict[str, object]] = {}
        self.tally = Tally()

    def close(self) -> None:
        """End what was started."""
        self._warm.close()

    def faults(self) -> Iterator[Fault]:
        """Run every case once without a fault and yield what can go wrong in it."""
        for case in self._cases():
            self._begin(case)
            code = self._run(case)
            if code:
                raise SystemExit(f"{case.command} fails without a fault: {code}\n{self._said()}")
            self._expected[case] = self._results(case)
            for call, number in self._touching():
                yield from (Fault(case, call, number, what) for what in FAULTS)

    def attempt(self, fault: Fault) -> None:
        """Let one call fail, look at what is left, and run the command again."""
        case = fault.case
        before = self._begin(case)
        code = self._run(case, f"inject={fault.call}:{fault.what}:when={fault.number}")
        if not self._hit(fault):
            self.tally.count("not met")
            return
        self.tally.count(case.command)
        wrong = [*self._ending(fault, code), *self._left(before, killed=code == KILLED)]
        again = self._warm.run(case.command, self._arguments(case), self._output)
        if again:
            wrong.append(f"once more: exit code {again}: {self._said()}")
        else:
            different = small_job.differences(self._expected[case], self._results(case))
            wrong += [f"once more: {name} differs" for name in different]
            wrong += [f"once more: {name} is left" for name in small_job.leftovers(self._out) if case.locks]
        self.tally.attempt(f"{fault}: {'; '.join(wrong)}" if wrong else "")

    def _cases(self) -> Iterator[Case]:
        images = small_data.write_images(self._folder / "images", 16)
        options = ("--size", "10x12", "--shard-size", "8", "--workers", "1")
        yield Case("prepare", ("--folder", str(images), "--split", "70,15,15", "--out", "{out}", *options))
        small_job.prepare(self._folder)
        once = ("--epochs", "1", "--batch-size", "65", "--save-every", "0.000001s")
        train = Case("train", tuple(small_job.arguments(self._folder, Path("{out}"), *once)[2:]))
        yield train
        finished = shutil.copytree(self._out, self._folder / "finished")
        for command, more in (
            ("evaluate", ()),
            ("report", ()),
            ("export", ("--format", "npz")),
            ("export", ("--format", "c")),
        ):
            yield Case(command, ("{out}", *more), finished)

    def _begin(self, case: Case) -> dict[str, bytes]:
        """Make the folder as it was before the command; return its visible files."""
        shutil.rmtree(self._out, ignore_errors=True)
        if case.begins:
            shutil.copytree(case.begins, self._out)
        return whole_files.visible(self._out)

    def _run(self, case: Case, *injection: str) -> int:
        options = ["-y", "-s", "0", "-o", str(self._log), "-e", f"trace={','.join(CALLS)}"]
        options += [word for text in injection for word in ("-e", text)]
        return self._warm.run(case.command, self._arguments(case), self._output, options)

    def _arguments(self, case: Case) -> list[str]:
        return [word.replace("{out}", str(self._out)) for word in case.arguments]

    def _lines(self) -> Iterator[tuple[str, int, str]]:
        """Yield every call of the last run: its name, its number among those of the name, and strace's line."""
        numbers: Counter[str] = Counter()
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            name, parenthesis, _ = line.partition("(")
            if parenthesis and name in CALLS:
                numbers[name] += 1
                yield name, numbers[name], line

    def _touching(self) -> list[tuple[str, int]]:
        return [(name, number) for name, number, line in self._lines() if self._is_meant(name, line)]

    def _is_meant(self, name: str, line: str) -> bool:
        """Whether a call writes to the results or to standard output."""
        ours = self._ours.search(line) or (name == "write" and f"{self._output}>" in line)
        return bool(ours) and (name != "openat" or bool(OPENED_TO_WRITE.search(line)))

    def _hit(self, fault: Fault) -> bool:
        """Whether the fault met a call that it is meant for: what comes before depends on what is cached where."""
        met = [line for name, number, line in self._lines() if (name, number) == (fault.call, fault.number)]
        return bool(met) and self._is_meant(fault.call, met[0])

    def _ending(self, fault: Fault, code: int) -> list[str]:
        """Return what is wrong with how the command ended."""
        said = self._said()
        wrong = ["a traceback"] if "Traceback" in said else []
        if fault.what.startswith("signal"):
            expected = code == KILLED
        elif code == 0:
            different = small_job.differences(self._expected[fault.case], self._results(fault.case))
            expected = not different or WARNING in said
        else:
            expected = code == OutputError.exit_code and "error: " in said
        return wrong if expected else [*wrong, f"exit code {code}: {said}"]

    def _left(self, before: dict[str, bytes], *, killed: bool) -> list[str]:
        """Return what is wrong with the files that the command left."""
        wrong = []
        for name, data in whole_files.visible(self._out).items():
            if data != before.get(name) and (reason := whole_files.damage(self._out / name)):
                wrong.append(f"{name}: {reason}")
        if not killed:
            wrong += [f"{path.name} is left" for path in self._out.rglob(".*.tmp*")]
        return wrong + [f"{name} is lost" for name in before if not (self._out / name).exists()]

    def _results(self, case: Case) -> dict[str, object]:
        if case.command == "train":
            return small_job.results(self._out) if (self._out / "test.json").exists() else {}
        return dict(whole_files.visible(self._out))

    def _said(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")[-1500:]


def run(size: int, seed: int, folder: Path) -> Tally:
    """Try ``size`` faults drawn from all there are, or all."""
    if not shutil.which("strace"):
        return Tally(skipped="there is no strace here (Debian: apt install strace)")
    if subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, check=False).returncode:
        return Tally(skipped="strace may not trace here")
    campaign = Campaign(folder)
    faults = list(campaign.faults())
    if size < len(faults):
        faults = random.Random(seed).sample(faults, size)
    for number, fault in enumerate(faults, 1):
        campaign.attempt(fault)
        if number % TOLD == 0:
            print(f"calls: {campaign.tally.line(f'so far, of {len(faults):,}', seed, 0)}", flush=True)
    campaign.close()
    return campaign.tally
