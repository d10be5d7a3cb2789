"""Lists and classes.txt with bytes, signs and lines changed are refused, or give what stands in them, line by line.

Every line that says something must become one sample or one problem, and a sample must be the two ends of its line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaigns import mutators
from campaigns.fuzzing import MemoryFile, fuzz

from lenet_mp.data import classes, lists

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from campaigns.tally import Tally

    from lenet_mp.data.samples import Collection

SMALL, FULL = 10_000, 2_000_000

FILES = (
    b"a/1.jpg 0\na/2 b.jpg 1\n# comment\n\nb/3.png 2\nb/4.png 1\n",
    b"\xef\xbb\xbfcat 1.jpg cat\r\ndog/2.jpg dog\r\nx.png cat\r\n",
    "ü/é.jpg 3\n".encode() + b"caf\xe9.jpg 0\n/abs/x.jpg 1\n../up.png 2\n",
    b"1.png great white shark\n2.png shark\n3.png 2\n4.png 0\n",
)
CLASSES = (
    b"great white shark\nshark\ncat\n",
    b"0 cat\n1 dog\n2 great white\n",
    b"# names\nn01 tench, Tinca\nn02 goldfish\n",
)
DICTIONARY = (
    b"\n", b"\r\n", b"\r", b" ", b"  ", b"\t", b",", b";", b"\0", b"#", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf",
    b"-1", b"0", b"+1", b"007", b"65535", b"65536", b"999999999999999999", b"9" * 30, b"1" * 5000, b"1.0", b"1e3",
    b"\x0b", b"\x0c", b"\x1c", b"\x80", b"\x85", b"\xed\xa0\x80", *map(str.encode, "\u0663\uff12\u2028\u00a0\u3000"),
    b"../" * 20, b"/etc/passwd", b"~", b"$HOME", b"a" * 5000, b"great white shark", b"cat", b"cat1", b"a", b"a1",
)  # fmt: skip
RARELY = 0.3
"""Of the mutants so many come with names of the classes, changed as well."""


def run(size: int, seed: int, folder: Path) -> Tally:
    """Feed mutants to the reader of lists."""
    return fuzz("fuzz_lists", size, seed, folder)


def make(_folder: Path) -> Target:
    """Return the target of one process."""
    return Target()


class Target:
    """The reader of lists; a mutant is a list, and names of classes after a byte that says how long the list is."""

    def __init__(self) -> None:
        self._list, self._classes = MemoryFile(), MemoryFile()
        self._texts = [[(text, mutators.tokens(text)) for text in texts] for texts in (FILES, CLASSES)]

    def mutant(self, rng: random.Random) -> bytes:
        """Change words of a list, or bytes; and names of classes with it, now and then."""
        text = self._changed(rng, 0)
        names = self._changed(rng, 1) if rng.random() < RARELY else b""
        return len(text).to_bytes(4, "little") + text + names

    def read(self, mutant: bytes) -> None:
        """Read the list and compare it with its lines."""
        end = 4 + int.from_bytes(mutant[:4], "little")
        text, names = mutant[4:end], mutant[end:]
        self._list.fill(text)
        if names:
            self._classes.fill(names)
        found = lists.read_lists({"train": self._list.path}, classes_file=self._classes.path if names else None)
        wrong = classes.fault(found.class_names) if found.class_names else ""
        wrong = wrong or _difference(text, found, self._list.path.name)
        if wrong:
            raise AssertionError(f"wrong data accepted: {wrong}")

    def _changed(self, rng: random.Random, which: int) -> bytes:
        text, words = rng.choice(self._texts[which])
        if rng.random() < 0.6:
            return mutators.mutate_tokens(words, rng, DICTIONARY)
        return mutators.mutate(text, rng, FILES)


def _difference(text: bytes, found: Collection, name: str) -> str:
    """Compare with the text, cut into lines here once more; what is wrong, or nothing."""
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if b"\n" not in text:
        text = text.replace(b"\r", b"\n")
    lines = {f"{name}:{n}": line.strip(b" ") for n, line in enumerate(text.split(b"\n"), 1)}
    said = {where: line for where, line in lines.items() if line and line[:1] != b"#"}
    samples, problems = found.samples["train"], found.problems
    places = [sample.where for sample in samples] + [problem.where for problem in problems]
    if len(places) != len(said) or set(places) != said.keys():
        return f"{len(said)} lines became {len(samples)} samples and {len(problems)} problems"
    for sample in samples:
        line, path = said[sample.where], sample.path.encode(errors="surrogateescape")
        word = line[len(path) :].strip(b" ").decode(errors="surrogateescape")
        if not path or not word or not line.startswith(path) or line[len(path) : len(path) + 1] != b" ":
            return f"{line!r} became the path {path!r}"
        if b"\0" in path or b"\t" in path or not 0 <= sample.label < len(found.class_names):
            return f"{line!r} became {sample}"
        name = found.class_names[sample.label]
        number = word.removeprefix("+").isdecimal() and int(word) == sample.label
        if not (name == word or name.split(" ")[0] == word or number):
            return f"{line!r} became class {name!r}"
    return ""
