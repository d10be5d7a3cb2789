"""Model tables and options in TOML with bytes and words changed are refused in one line, or are what they say.

What is accepted is used as the commands use it: a table is compiled and written again, options become a run's.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from typing import TYPE_CHECKING

import tomli_w
from campaigns import mutators
from campaigns.fuzzing import MemoryFile, fuzz

from lenet_mp.errors import UsageError
from lenet_mp.networks import model_files
from lenet_mp.networks.models import MODELS
from lenet_mp.networks.network import compile_network
from lenet_mp.training import config
from lenet_mp.training.config import Config

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from campaigns.tally import Tally

SMALL, FULL = 2_000, 100_000

LAYER = b"[[layer]]\nkind = 'conv'\nchannels = 1\nkernel = 1\n"
DICTIONARY = [
    b"[[layer]]", b"[layer]", b"kind", b"channels", b"kernel", b"stride", b"padding", b"name", b"classes", b"image",
    b'"conv"', b'"dense"', b'"max_pool"', b'"subsample"', b'"average_pool"', b'"relu"', b'"activation"', b"=", b".",
    b"0", b"-1", b"1", b"65536", b"65537", b"1e308", b"1e999", b"nan", b"inf", b"-inf", b"true", b"0x" + b"f" * 400,
    b"9" * 300, b"9" * 5000, b"1" + b"_1" * 500, b"[", b"]", b"{", b"}", b"[" * 300, b"[" * 5000, b"{a=" * 300,
    b"a." * 90, b"a." * 9000, b'"""', b"'''", b"''", b"\n", b"\r\n", b"#", b"\0", b"07:32:00", b"1979-05-27T07:32:00Z",
    b'"\\u0000"', b'"\\uD800"', b'"' + b"x" * 3000 + b'"', b"\xff", b"\xef\xbb\xbf", b'model = "../../etc/passwd"',
    b"seed", b"lr", b'"5e-6*999999999"', b'"1,2,3"', b"momentum", b"epochs", b"augment", b'"flip"', b"epochs = 3",
    LAYER.replace(b"1", b"3") * 5, LAYER * 60,
]  # fmt: skip
WIDTH = 32
"""Images that tables are compiled for, so that most of them do not fit and the complaint is reached."""


def run(size: int, seed: int, folder: Path) -> Tally:
    """Feed mutants to both readers."""
    return fuzz("fuzz_toml", size, seed, folder)


def make(_folder: Path) -> Target:
    """Return the target of one process."""
    return Target()


class Target:
    """Both readers of TOML: a mutant's first byte says which one it is for."""

    def __init__(self) -> None:
        self._file = MemoryFile()
        models = [tomli_w.dumps(model_files.to_document(model)).encode() for model in MODELS.values()]
        options = [tomli_w.dumps(asdict(Config(**changes))).encode() for changes in config.RECIPES.values()]
        self._texts = {
            kind: [(text, mutators.tokens(text)) for text in texts] for kind, texts in ((b"M", models), (b"O", options))
        }

    def mutant(self, rng: random.Random) -> bytes:
        """Change words, or bytes."""
        which = rng.choice((b"M", b"O"))
        text, words = rng.choice(self._texts[which])
        if rng.random() < 0.75:
            return which + mutators.mutate_tokens(words, rng, DICTIONARY)
        return which + mutators.mutate(text, rng)

    def read(self, mutant: bytes) -> None:
        """Read it as the commands do."""
        self._file.fill(mutant[1:])
        if mutant[:1] == b"O":
            options = config.read_options(self._file.path)
            found = Config(**config.with_recipe(options))
            if any(getattr(found, name) != value for name, value in options.items()):
                raise AssertionError("wrong data accepted: an option has another value than the file gives")
            return
        model = model_files.read_model(self._file.path)
        stated = tomllib.loads(mutant[1:].decode(errors="surrogateescape"))
        if [row.kind.value for row in model.rows if row.activation == ""] != [
            row["kind"] for row in stated["layer"] if row["kind"] not in model_files.ACTIVATIONS
        ]:
            raise AssertionError("wrong data accepted: the table has other layers than the file")
        again = model_files.from_document(tomllib.loads(tomli_w.dumps(model_files.to_document(model))), "again")
        if again != model:
            raise AssertionError("wrong data accepted: written and read again it is another table")
        for shape in (model.input_shape, (WIDTH, WIDTH, 3)):
            try:
                compile_network(model, shape)
            except UsageError as error:
                if "\n" in str(error):
                    raise AssertionError("a complaint of several lines") from error
