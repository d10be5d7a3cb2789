"""Put a small mistake into the C core, and see that a test finds it.

A mutant is the C core with one mistake (c_mutations.py), drawn by the seed from all of csrc/ but what only measures
time. It is compiled for one instruction set, also drawn, and killed where a test fails, crashes or does not end; if
none does, for the others as well, and at last, from 20 mutants on, with all instances of the convolutions. Mutants that
do not compile, or whose object is the same byte for byte, are drawn again. What survives is told, line by line; it is a
failure if more than two, and more than one in twenty, do. Survivors that were looked at and found to change no result
are listed with the reason in mutants_equivalent.txt and do not count.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns import c_mutations, mutant_tests
from campaigns.c_builds import Builder, BuildError
from campaigns.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaigns.c_mutations import Mutation

SMALL, FULL = 3, 500
CHECKOUT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
MEASURING = {"bench.c", "bench.h", "peak.h", "clock.h"}
"""They compute nothing that is kept."""
BORNE = 0.05
CHANCE = 2
"""So many survivors of a few mutants say nothing."""
WORTH_ALL = 20
"""From so many mutants on, all instruction sets are taken: to build and try one takes longer than some mutants."""
TOLD = 25  # mutants, after which the count so far is printed
KILLED, SURVIVED = "killed", "survived"
TOOLS = ("gcc", "nm", "objcopy")


def run(size: int, seed: int, folder: Path) -> Tally:
    """Try ``size`` mutants."""
    tally = Tally()
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        tally.skipped = f"no {missing[0]} here"
        return tally
    laboratory = Laboratory(folder)
    if size < WORTH_ALL:
        laboratory.isas = laboratory.isas[-1:]
    reasons = known_equivalents()
    survived = []
    for name, mutation in candidates(laboratory.builder.copy, seed):
        if tally.tried == size:
            break
        text = (laboratory.builder.copy / name).read_text("utf-8")
        what = mutation.describe(text)
        place = f"{name}:{text.count(chr(10), 0, mutation.begin) + 1}: {what}"
        rng = random.Random(f"{seed} {place}")
        known = f"{name}: {what}" in reasons
        verdict = "known to be equivalent" if known else laboratory.judge(name, mutation.apply(text), rng)
        tally.count(verdict)
        if verdict in (KILLED, SURVIVED):
            tally.attempt()
        if verdict == SURVIVED:
            survived.append(f"{place} survived")
            print(f"mutants: {survived[-1]}", flush=True)
        if sum(tally.details.values()) % TOLD == 0:
            print(f"mutants: {tally.line('so far', seed, 0)}", flush=True)
    if len(survived) > max(CHANCE, BORNE * tally.tried):
        tally.failed, tally.failures = len(survived), survived
    return tally


def candidates(sources: Path, seed: int) -> Iterator[tuple[str, Mutation]]:
    """Yield names of files with mutations of them, all in an order of the seed."""
    found = [
        (path.name, mutation)
        for path in sorted(sources.glob("*.[ch]"))
        if path.name not in MEASURING
        for mutation in c_mutations.find(path.read_text("utf-8"))
    ]
    random.Random(seed).shuffle(found)
    yield from found


def known_equivalents() -> dict[str, str]:
    """Return the reason by ``FILE: LINE  ->  LINE``, of the mutants that were found to change nothing."""
    lines = EQUIVALENT.read_text("utf-8").splitlines() if EQUIVALENT.exists() else []
    reasons, reason = {}, ""
    for line in lines:
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            reasons[line] = reason
    return reasons


class Laboratory:
    """Where mutants are built and tested: a copy of the package, its tests and its sources."""

    def __init__(self, folder: Path) -> None:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        self.checkout, work = folder / "checkout", folder / "work"
        self.checkout.mkdir()
        work.mkdir()
        for name in ("csrc", "lenet_mp", "tests"):
            ignored = shutil.ignore_patterns("_kernels*", "__pycache__")
            shutil.copytree(CHECKOUT / name, self.checkout / name, ignore=ignored)
        for name in ("pyproject.toml", "build_ffi.py"):
            shutil.copy(CHECKOUT / name, self.checkout / name)
        self.builder = Builder(CHECKOUT / "csrc", work)
        self._folder = folder / "whole"
        self.isas = list(self.builder.isas)
        self.module, self.notes = work / "kernels.so", work / "notes.json"
        self.killers: dict[str, Counter[str]] = {}
        self.seconds: dict[str, float] = {}
        self.sound: dict[tuple[bool, str], frozenset[str]] = {}

    def judge(self, name: str, text: str, rng: random.Random) -> str:
        """Return what became of the mutant with ``text`` for file ``name``."""
        try:
            killer = self.kill(name, text, rng)
        except BuildError:
            return "not compiled"
        if killer is None:
            return "the same object"
        return KILLED if killer else SURVIVED

    def kill(self, name: str, text: str, rng: random.Random) -> str | None:
        """Return the first test that fails with ``text`` for file ``name``, on one instruction set after the other.

        An empty string where all pass; None where the objects of all are the unchanged ones.
        """
        killer = None
        for builder, isa in self._builds(rng):
            found = self._kill(builder, name, text, isa)
            killer = killer if found is None else found
            if killer:
                break
        return killer

    def _builds(self, rng: random.Random) -> Iterator[tuple[Builder, str]]:
        """Yield what to try a mutant in, the next where it survived."""
        isas = list(self.isas)
        rng.shuffle(isas)
        yield from ((self.builder, isa) for isa in isas)
        if len(isas) > 1:
            yield self.whole, self.isas[-1]

    @cached_property
    def whole(self) -> Builder:
        """What builds all instances: a mutant of what only some of them use is not in the others."""
        self._folder.mkdir()
        return Builder(CHECKOUT / "csrc", self._folder, whole=True)

    def _kill(self, builder: Builder, name: str, text: str, isa: str) -> str | None:
        """Run the tests until one fails; return it, or nothing where all pass; None where the object is the same."""
        self._prepare(builder, isa)
        if not builder.build(self.module, isa, name, text):
            return None
        killers = self.killers.setdefault(name, Counter())
        alike = sum((counts for other, counts in self.killers.items() if other != name), Counter())
        outcome = self._test(
            isa,
            files=mutant_tests.FILES if self.builder.is_common(name) else mutant_tests.QUICK,
            order=lambda test: (-killers[test], self.seconds.get(test, 10.0) / (1 + alike[test])),
            left_out=self.sound[builder is self.builder, isa],
        )
        killers[outcome.failed] += bool(outcome.failed)
        return outcome.failed

    def _prepare(self, builder: Builder, isa: str) -> None:
        """Run the quick tests on the unchanged core, once: those that fail on it tell nothing."""
        which = builder is self.builder, isa
        if which in self.sound:
            return
        builder.build(self.module, isa)
        outcome = self._test(isa, stop=False, files=mutant_tests.QUICK)
        if not outcome.seconds or outcome.failed.startswith("a child"):
            raise RuntimeError(f"the tests do not run on the unchanged core of {isa}: {outcome.failed}")
        self.seconds |= outcome.seconds
        self.sound[which] = frozenset(outcome.failed.splitlines())

    def _test(self, isa: str, **options: object) -> mutant_tests.Outcome:
        return mutant_tests.session(self.module, isa, self.checkout, self.notes, **options)  # type: ignore[arg-type]
