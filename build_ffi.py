"""Build the C core, csrc/*.c, as the extension module ``lenet_mp._kernels`` (cffi, API mode).

setup.py names this file; ``pip install .`` runs it. csrc/lenet.h is both what cffi declares and what the C files
include.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = sorted(str(path.relative_to(HERE)) for path in (HERE / "csrc").glob("*.c"))
HEADERS = sorted(str(path.relative_to(HERE)) for suffix in ("h", "inc") for path in (HERE / "csrc").glob(f"*.{suffix}"))

COMPILE_ARGS = [
    "-std=gnu11",
    "-O3",
    "-fopenmp",
    # Where a multiply and an add become one rounding is written out in the source: left to the compiler,
    # instruction sets (and -std=c11 against gnu11) would give different bits. No -ffast-math, for the same reason.
    "-ffp-contract=off",
    # Neither changes a result: nobody reads errno or the floating-point exception flags.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-frecord-gcc-switches",  # this list, and what CFLAGS adds to it, for 'lenet-mp doctor'
    # No -march: csrc/isa.c chooses when it is loaded.
]
LINK_ARGS = ["-fopenmp", "-lm"]

PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


def explain_missing_compiler() -> str:
    """One line that says what to install, or an empty string where a program with OpenMP compiles and links."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE, encoding="ascii")
        command = [*compiler, "-fopenmp", str(source), "-o", str(Path(folder, "probe"))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError:
            return (f"lenet-mp needs a C compiler and found no '{compiler[0]}': install one, for example with "
                    "'apt install gcc libc6-dev' or 'dnf install gcc', or name it with CC=...")
    if done.returncode == 0:
        return ""
    reason = (done.stderr.strip().splitlines() or ["no message"])[0]
    return (f"lenet-mp needs a C compiler with OpenMP, and '{compiler[0]}' can not build with -fopenmp ({reason}): "
            "install gcc with libc6-dev, or clang with libomp-dev, or name another compiler with CC=...")


def make_ffibuilder() -> FFI:
    """Describe the extension module; ``SystemExit`` with one line where it can not be compiled here."""
    problem = explain_missing_compiler()
    if problem:
        raise SystemExit(problem)
    builder = FFI()
    builder.cdef((HERE / "csrc" / "lenet.h").read_text(encoding="utf-8"))
    builder.set_source(
        "lenet_mp._kernels",
        '#include <stddef.h>\n#include <stdint.h>\n#include "lenet.h"\n',
        sources=SOURCES,
        depends=HEADERS,
        include_dirs=["csrc"],
        extra_compile_args=COMPILE_ARGS,
        extra_link_args=LINK_ARGS,
    )
    return builder


ffibuilder = make_ffibuilder()

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
