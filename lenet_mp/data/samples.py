"""What lists and folders come to: samples of a data set to be, and what cannot be used of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that cannot be used: where it stands (``train.txt:17``, or a path) and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a split.

    Attributes
    ----------
    path : as the list gives it, or relative to the class folders' folder
    label : the class, from 0
    where : the list and line (or the path) that says so
    file : the file to open, once :func:`lenet_mp.data.checks.resolve` found it
    stamp : its size in bytes and time of change in nanoseconds
    """

    path: str
    label: int
    where: str
    file: str = ""
    stamp: tuple[int, int] = (0, 0)

    def problem(self, reason: str) -> Problem:
        """Say why this sample cannot be used."""
        return Problem(self.where, reason if self.where == self.path else f"{self.path}: {reason}")


@dataclass
class Collection:
    """All samples of a data set to be, by split, and what was found while they were gathered.

    Attributes
    ----------
    samples : by split, "train" first
    class_names : the position is the label
    named : whether the user named the classes, so that one may be empty
    problems : samples that cannot be used
    notices : worth knowing, nothing to stop for
    """

    samples: dict[str, list[Sample]]
    class_names: tuple[str, ...]
    named: bool = True
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
