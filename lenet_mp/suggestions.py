"""What somebody may have meant who wrote a command or an option that is not there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

COMMANDS = {
    "bench": "benchmark",
    "check": "verify",
    "classify": "predict",
    "convert": "prepare",
    "diagnose": "doctor",
    "fit": "train",
    "infer": "predict",
    "info": "summary",
    "lr-find": "find-lr",
    "plot": "report",
    "score": "evaluate",
    "search": "tune",
    "test": "evaluate",
    "validate": "evaluate",
}
"""Other programs' words for commands."""
OPTIONS = {
    "early-stopping": "patience",
    "gpu": "",
    "grad-clip": "clip-norm",
    "gradient-clipping": "clip-norm",
    "input": "data",
    "learning-rate": "lr",
    "lr-scheduler": "schedule",
    "lr-warmup-epochs": "warmup",
    "name": "out",
    "output": "out",
    "output-dir": "out",
    "pretrained": "init-from",
    "save-dir": "out",
    "wd": "weight-decay",
    "workers": "",
}
"""Other programs' words for options; empty where there is nothing like it."""


def command(name: str, known: Collection[str]) -> str:
    """Return the command that ``name`` may stand for, or an empty text."""
    meant = COMMANDS.get(name.lower(), "")
    return meant if meant in known else nearest(name.lower(), known)


def option(name: str, known: Collection[str]) -> str:
    """Return the option that ``name``, such as ``--learning_rate=3``, may stand for, or an empty text.

    ``known`` are the long options, without their dashes; so is the answer.
    """
    word = name.lstrip("-").partition("=")[0].replace("_", "-").lower()
    if word in known:
        return word
    if word in OPTIONS:
        return OPTIONS[word] if OPTIONS[word] in known else ""
    begun = [other for other in known if len(word) > 1 and other.startswith(word)]
    return begun[0] if len(begun) == 1 else nearest(word, known)


def nearest(word: str, known: Collection[str]) -> str:
    """Return what is spelt most like ``word``, or an empty text."""
    return next(iter(difflib.get_close_matches(word, known, n=1)), "")
