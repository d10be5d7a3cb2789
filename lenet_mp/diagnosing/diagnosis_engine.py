"""What ``lenet-mp doctor`` looks at in the C core: whether it is there and loads, what built it, what it runs on."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp.diagnosing.diagnosis import Finding, ask, note, ok, problem
from lenet_mp.training.environment import processor

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE = """
import json
from lenet_mp import _native
print(json.dumps([_native.isa(), _native.available()]))
"""
TOLD = re.compile(r"-O\w+|-march=.*|-fopenmp.*|-ffp-.*|-f.*math.*")
"""Compiler flags on which speed and results depend."""
INEXACT = frozenset({
    "-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-fassociative-math", "-freciprocal-math",
    "-ffinite-math-only", "-ffp-contract=fast", "-ffp-contract=on",
})  # fmt: skip
PORTABLE = frozenset({"-march=x86-64", "-march=armv8-a"})
"""What GCC records where nothing else was asked for."""


def check_engine() -> list[Finding]:
    """Look whether the C core loads, in a process of its own, and what it runs on."""
    specification = importlib.util.find_spec("lenet_mp._kernels")
    if specification is None or specification.origin is None:
        return [problem("the C core is not built", "pip install . in the checkout, with a C compiler (gcc, libc6-dev)")]
    code, output, reason = ask([sys.executable, "-c", ENGINE])
    if code:
        if "LENET_MP_ISA" in reason:
            return [problem(reason.partition(": ")[2], "unset LENET_MP_ISA")]
        return [problem(f"the C core does not load ({reason})", "build it again: pip install --force-reinstall .")]
    used, available = json.loads(output)
    content = Path(specification.origin).read_bytes()
    flags = compiler_flags(content)
    built = f"{_compiler(content)} with {' '.join(flags) or 'flags that are not recorded'}"
    findings = [ok(f"C core by {built}, for {', '.join(available)}; runs on {used}, {processor()}")]
    findings += check_flags(flags)
    if used != available[-1]:
        findings.append(note(f"LENET_MP_ISA forces {used}, the CPU has {available[-1]}", "unset LENET_MP_ISA"))
    return findings


def _compiler(extension: bytes) -> str:
    """Name and version that the compiler left in the file."""
    match = re.search(rb"GCC: \([^)\0]*\) [\d.]+|clang version [\d.]+", extension)
    return match[0].decode(errors="replace") if match else "an unnamed compiler"


def compiler_flags(extension: bytes) -> list[str]:
    """Return the recorded flags on which speed and results depend, each once; none where none were recorded."""
    lines = re.findall(rb"[ -~]*-ffp-contract=[ -~]*", extension)
    words = [word for line in lines for word in line.decode().split()]
    return [word for word in dict.fromkeys(words) if TOLD.fullmatch(word)]


def check_flags(flags: Sequence[str]) -> list[Finding]:
    """Look for flags, from CFLAGS perhaps, that change results or tie the C core to one kind of processor."""
    remedy = "unset CFLAGS and build it again: pip install --force-reinstall --no-cache-dir ."
    inexact = [flag for flag in flags if flag in INEXACT]
    tied = [flag for flag in flags if flag.startswith("-march=") and flag not in PORTABLE]
    findings = []
    if inexact:
        text = f"the C core is built with {' '.join(inexact)}: its results depend on the machine"
        findings.append(problem(text, remedy))
    if tied:
        text = f"the C core is built with {' '.join(tied)}: on another processor it may crash"
        findings.append(note(text, f"before it is copied elsewhere, {remedy}"))
    return findings
