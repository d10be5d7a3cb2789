"""Progress of long jobs."""

import pytest

from lenet_mp import progress
from lenet_mp.progress import Progress, duration, size


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_every_few_seconds(clock, capsys):
    """Away from a terminal a line comes every five seconds, with speed and what is left of the time."""
    shown = Progress(1000, "prepare", "images")
    for _ in range(4):
        clock.now += 2
        shown.advance(50)
    assert capsys.readouterr().err == "prepare: 150 of 1,000 images, 25/s, 34.0 s left\n"
    assert shown.rate() == 25
    shown.close()


def test_other_ranks_only_measure(clock, capsys):
    """A progress that is not shown says nothing and still knows its speed."""
    silent = Progress(10, "prepare", "images", shown=False)
    clock.now += 10
    silent.advance(5)
    silent.close()
    assert capsys.readouterr().err == ""
    assert silent.rate() == 0.5


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    """On a terminal there is a bar."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = Progress(4, "prepare", "images")
    shown.advance(4)
    shown.close()
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (59.4, "59.4 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    """Durations are for people: two units at most, rounded."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (4240, "4.24 kB"), (999_600, "1 MB"),
        (394_700_000, "395 MB"), (11_870_000_000, "11.9 GB"), (2_345_678_000_000, "2,346 GB"),
    ],
)  # fmt: skip
def test_sizes(count, text):
    """A number of bytes is told in the unit that leaves one to three digits before the point."""
    assert size(count) == text
