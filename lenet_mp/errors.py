"""The package's exceptions: each names what is wrong, where, and what to do, and carries an exit code.

Every command ends with the ``exit_code`` of the error that stopped it, so that a shell script or a batch
system can tell a bad argument from bad data from a full disk. The codes follow ``sysexits.h`` where it has one.
"""


def printable(text: str) -> str:
    """Text that any terminal and log can take as one line: what is not UTF-8 or not printable is escaped."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return shown.encode("utf-8", "backslashreplace").decode()


class LenetError(Exception):
    """Root of everything that this package raises on purpose; its text is one line for the user.

    Names that come from files may hold line ends and signs that steer a terminal; they are shown escaped.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(LenetError, ValueError):
    """A bad option, configuration value or combination of them."""

    exit_code = 2


class GeometryError(UsageError):
    """Layer sizes that do not fit together; the text names the layer and the remedy."""


class ArrayError(LenetError, TypeError):
    """An array of the wrong dtype, shape or memory layout; the text names argument, expected and got."""


class DataError(LenetError, ValueError):
    """Lists, images or shards that cannot be used."""

    exit_code = 3


class CheckpointError(LenetError, ValueError):
    """A checkpoint that is damaged, or belongs to another model or data set."""

    exit_code = 4


class OutputError(LenetError, OSError):
    """A file or folder that cannot be written, or a disk that cannot be read."""

    exit_code = 74


class PeerError(LenetError, RuntimeError):
    """Another rank is lost, hangs or disagrees."""

    exit_code = 75


class DivergenceError(LenetError, ArithmeticError):
    """A loss or gradient that is not finite or out of range: the training diverged."""

    exit_code = 76
