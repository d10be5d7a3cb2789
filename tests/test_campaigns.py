"""The campaigns of scripts/campaign, in their small sizes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import programs
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = sorted(path.stem for path in (SCRIPTS / "campaigns").glob("*.py") if "\ndef run(" in path.read_text("utf-8"))


@pytest.fixture
def campaign(monkeypatch):
    """Return the script as a module; it extends the path itself."""
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    return importlib.import_module("campaign")


@pytest.mark.parametrize("name", [name.replace("_", "-") for name in NAMES])
def test_nothing_fails_in_the_small_campaign(name):
    """Something was tried, nothing failed; where the machine does not let it try, the campaign says why.

    In a process of its own: campaigns fork, limit memory and run tests themselves.
    """
    command = [sys.executable, str(SCRIPTS / "campaign.py"), name]
    done = subprocess.run(command, env=programs.environment(), capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    if last.startswith(f"{name}: skipped, "):
        pytest.skip(last)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last.split(",")[1] == " failed 0"
    assert not last.startswith(f"{name}: tried 0,")


def test_a_failure_is_told_and_counted(campaign, capsys):
    """A campaign of which an attempt failed ends with exit code 1 and tells how to repeat it."""

    class Broken:
        SMALL, FULL = 3, 30

        @staticmethod
        def run(size, seed, folder):
            tally = importlib.import_module("campaigns.tally").Tally()
            for number in range(size):
                tally.attempt(f"attempt {number} of seed {seed}" if number == 1 else "")
            assert not list(folder.iterdir())
            return tally

    tally, line = campaign.conduct("broken", Broken, "small", 7)
    assert (tally.tried, tally.failed) == (3, 1)
    assert line.startswith("broken: tried 3, failed 1 (seed 7, ")
    assert capsys.readouterr().out.splitlines()[0] == "broken: FAILED attempt 1 of seed 7"


def test_sizes_are_checked(campaign, capsys):
    """A size that is no size ends in one line and code 2."""
    with pytest.raises(SystemExit) as caught:
        campaign.main(["--size", "-3", *([NAMES[0].replace("_", "-")] if NAMES else ["all"])])
    assert caught.value.code == 2
    assert "is not small, full or a positive number" in capsys.readouterr().err
