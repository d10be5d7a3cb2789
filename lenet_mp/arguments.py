"""Values on the command line that several commands take; a wrong one is answered with how to write it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

PICTURES = (".png", ".svg", ".pdf")
"""Suffixes of files that can be drawn."""


def path(text: str) -> Path:
    """Read a path; an empty one, as of an unset variable, would mean the folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: name a file or folder, or write . for the folder you are in")
    return Path(text)


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Read an image size in pixels: ``250``, or ``250x200`` for height x width."""
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text, re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 250 or 250x200 (height x width)")
    return int(match[1]), int(match[2] or match[1])


def rate(text: str) -> float:
    """Read a learning rate: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no rate: write a number above 0, such as 1e-4")
    return value


def picture(text: str) -> Path:
    """Read the name of a picture to write: its suffix chooses the format, and none stands for ``.png``."""
    file = path(text)
    if file.suffix not in ("", *PICTURES) or not file.name:
        raise argparse.ArgumentTypeError(f"'{text}' is no picture that can be drawn: end it in {', '.join(PICTURES)}")
    return file if file.suffix else file.with_suffix(PICTURES[0])
