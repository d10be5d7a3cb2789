"""Builds of the C core with one file changed, in seconds: only what includes it is compiled, for one instruction set.

A file of an instruction set takes most of the time, so of its table only those functions are compiled that the changed
header can have a part in (a header has a part in another one that uses a name which it defines, and so on); the others
come from the unchanged build. All tables of the object are copies of this one: what runs is what was changed.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sysconfig
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cffi import FFI

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FLAGS = ["-std=gnu11", "-O1", "-fopenmp", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-w"]
"""Those of build_ffi.py that decide results."""
ENTRY = re.compile(r"^\s*\.\w+ = (\w+),\n", re.MULTILINE)
"""A function in a table."""
INSTANCE = re.compile(r"([A-Z_]+)\(([\d, ]+)\)")
"""A convolution that has an instance of its own, and of which kind."""
DEFINED = re.compile(
    r"^\s*#\s*define\s+(\w+)"
    r"|^(?:\w[\w\s*()]*?[\s*])?(\w+)\("
    r"|^typedef[^;]*?(\w+)\s*(?:;|__attribute__)",
    re.MULTILINE,
)
"""A macro, a function or a type that a header defines."""
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
MERGE = """
#include <stdint.h>
#include <string.h>
extern const uint64_t base_table[], mutant_table[];
{tables}
__attribute__((constructor)) static void merge(void)
{{
    for (int i = 0; i < {words}; i++) {{
        const uint64_t word = mutant_table[i] ? mutant_table[i] : base_table[i];
        {assignments}
    }}
}}
"""


class BuildError(Exception):
    """What was changed does not compile."""


class Builder:
    """Builds in a copy of csrc/, with one convolution of each kind that has an instance of its own, or with all.

    Parameters
    ----------
    sources : Path
        csrc/; build_ffi.py is beside it.
    folder : Path
        Empty, for the copy and the objects.
    more : sequence of str
        Further arguments of the compiler.
    whole : bool
        Build all instances. That takes several times as long.

    Attributes
    ----------
    dropped : set of str
        Convolutions whose instance is left out, as ``kernel,stride,channels in,channels out``. They run through the
        general code, which rounds otherwise.
    """

    def __init__(self, sources: Path, folder: Path, more: Sequence[str] = (), *, whole: bool = False) -> None:
        self.dropped: set[str] = set()
        self.flags = [*FLAGS, *more]
        self.copy, self.objects = folder / "csrc", folder / "objects"
        shutil.copytree(sources, self.copy)
        self.objects.mkdir()
        if not whole:
            self._drop_instances(self.copy / "conv_shapes.inc")

    def _drop_instances(self, listing: Path) -> None:
        kept, kinds = [], set()
        for line in listing.read_text("utf-8").splitlines(keepends=True):
            instance = INSTANCE.match(line)
            if instance and instance[1] in kinds:
                self.dropped.add(instance[2].replace(" ", ""))
            else:
                kept.append(line)
                kinds |= {instance[1]} if instance else set()
        listing.write_text("".join(kept), "utf-8")

    @cached_property
    def isas(self) -> dict[str, str]:
        """Source file by instruction set, of those that this CPU has, as the installed core names them."""
        from lenet_mp._kernels import ffi, lib  # noqa: PLC0415 - it is enough to load it here

        names = []
        while (name := lib.lenet_isa_name(len(names))) != ffi.NULL:
            names.append(ffi.string(name).decode())
        return {name: f"{name}.c" for index, name in enumerate(names) if lib.lenet_isa_supported(index)}

    @cached_property
    def includes(self) -> dict[str, set[str]]:
        """Which headers each source file includes, directly or not."""
        found = {}
        for source in sorted(self.copy.glob("*.c")):
            command = ["gcc", "-MM", source.name]
            listed = subprocess.run(command, cwd=self.copy, capture_output=True, text=True, check=True)
            found[source.name] = set(re.findall(r"[\w.]+\.(?:h|inc)\b", listed.stdout))
        return found

    @cached_property
    def _all_isas(self) -> set[str]:
        """Source files that make a table, of all instruction sets."""
        return {name for name, headers in self.includes.items() if "all_lanes.h" in headers}

    def is_common(self, changed: str) -> bool:
        """Whether a file is part of what is the same for all instruction sets."""
        return any(changed in {s, *headers} for s, headers in self.includes.items() if s not in self._all_isas)

    def build(self, out: Path, isa: str, changed: str = "", text: str = "") -> bool:
        """Link ``out``, the extension module, with file ``changed`` being ``text``; whether its objects differ.

        BuildError if it does not compile. Where the objects are those of the unchanged file, nothing is linked.
        """
        users = [source for source, headers in self.includes.items() if changed in headers or changed == source]
        table = self.isas[isa]
        own = [source for source in users if source not in self._all_isas]
        whole = bool(own) or not changed
        if changed and not own and table not in users:
            return False
        entries = None if whole or changed == table else self._entries(changed)
        base = self._object(table, "base", None)
        linked = {s: self._object(s, "base", None) for s in self.includes if s not in self._all_isas}
        mutant, differs = base, not changed
        if changed:
            original = (self.copy / changed).read_text("utf-8")
            before = {source: linked[source] for source in own}
            if table in users:
                before[table] = base if entries is None else self._object(table, f"part-{changed}", entries)
            (self.copy / changed).write_text(text, "utf-8")
            try:
                after = {
                    s: self._compile(s, self.objects / f"mutant-{s}.o", entries if s == table else None) for s in before
                }
            finally:
                (self.copy / changed).write_text(original, "utf-8")
            differs = any(after[s].read_bytes() != before[s].read_bytes() for s in before)
            mutant = after.pop(table, base)
            linked |= after
        if differs:
            self._link(out, base, mutant, linked.values())
        return differs

    def _entries(self, changed: str) -> set[str]:
        """Functions of a table in which a changed header can have a part."""
        texts = {path.name: COMMENT.sub(" ", path.read_text("utf-8")) for path in self.copy.glob("*.h")}
        # kernels.h has members with the names of a table's functions; macros that are undefined again are local.
        known = {"", *ENTRY.findall(texts["all_lanes.h"]), *re.findall(r"#\s*undef\s+(\w+)", " ".join(texts.values()))}
        defined = {name: {n for found in DEFINED.findall(text) for n in found} - known for name, text in texts.items()}
        words = {name: set(re.findall(r"\w+", text)) for name, text in texts.items()}
        part, size = {changed}, 0
        while size < len(part):
            size = len(part)
            names = set().union(*(defined[name] for name in part))
            part |= {name for name in texts if words[name] & names and name != "all_lanes.h"}
        return set().union(*(words[name] for name in part))

    def _object(self, source: str, tag: str, entries: set[str] | None) -> Path:
        """Return the object of an unchanged file, compiled once."""
        out = self.objects / f"{tag}-{source}.o"
        return out if out.exists() else self._compile(source, out, entries)

    def _compile(self, source: str, out: Path, entries: set[str] | None) -> Path:
        listing = self.copy / "all_lanes.h"
        whole = listing.read_text("utf-8")
        if entries is not None:
            listing.write_text(ENTRY.sub(lambda m: m[0] if m[1] in entries else "", whole), "utf-8")
        try:
            command = ["gcc", *self.flags, "-I", str(self.copy), "-c", source, "-o", str(out)]
            done = subprocess.run(command, cwd=self.copy, capture_output=True, text=True, check=False)
        finally:
            listing.write_text(whole, "utf-8")
        if done.returncode:
            raise BuildError(done.stderr)
        return out

    @cached_property
    def _module(self) -> Path:
        """The object of what cffi makes of lenet.h."""
        ffi = FFI()
        ffi.cdef((self.copy / "lenet.h").read_text("utf-8"))
        ffi.set_source("lenet_mp._kernels", '#include <stddef.h>\n#include <stdint.h>\n#include "lenet.h"\n')
        source = self.objects / "module.c"
        with contextlib.redirect_stdout(io.StringIO()):
            ffi.emit_c_code(str(source))
        places = ["-I", str(self.copy), "-I", sysconfig.get_paths()["include"]]
        out = source.with_suffix(".o")
        subprocess.run(["gcc", *FLAGS, "-DPy_LIMITED_API", *places, "-c", source, "-o", out], check=True)
        return out

    def _table(self, path: Path) -> tuple[str, int]:
        """Name and bytes of the one table that an object of an instruction set offers."""
        listed = subprocess.run(["nm", "-gS", "--defined-only", path], capture_output=True, text=True, check=True)
        rows = [line.split() for line in listed.stdout.splitlines()]
        ((size, name),) = ((row[1], row[3]) for row in rows if not row[3].startswith("__"))  # sanitizers add some
        return name, int(size, 16)

    def _link(self, out: Path, base: Path, mutant: Path, others: Iterable[Path]) -> None:
        name, size = self._table(base)
        renamed = []
        for role, path in (("base", base), ("mutant", mutant)):
            renamed.append(self.objects / f"{role}.o")
            marks = ("", "__odr_asan.")  # the second is AddressSanitizer's
            changes = [f"--redefine-sym={mark}{name}={mark}{role}_table" for mark in marks]
            subprocess.run(["objcopy", *changes, path, renamed[-1]], check=True)
        merge = self.objects / "merge.c"
        names = [f"{name.rpartition('_')[0]}_{Path(s).stem}" for s in sorted(self._all_isas)]
        merge.write_text(
            MERGE.format(
                tables="\n".join(f"uint64_t {n}[{size // 8}];" for n in names),
                words=size // 8,
                assignments="\n        ".join(f"{n}[i] = word;" for n in names),
            )
        )
        command = ["gcc", "-shared", *self.flags, merge, self._module, *renamed, *others, "-lm", "-o", out]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(done.stderr)
