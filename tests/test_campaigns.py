"""The campaigns of scripts/campaign, in their small sizes."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = sorted(path.stem for path in (SCRIPTS / "campaigns").glob("*.py") if "\ndef run(" in path.read_text("utf-8"))

OVERFLOW = """\
=================================================================
==31370==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x61b0000cd912 at pc 0x7f85 bp 0x7f85 sp 0x7f85
READ of size 16 at 0x61b0000cd912 thread T1
    #0 0x7f85e3761648 in _mm_loadu_si128 /usr/lib/gcc/x86_64-linux-gnu/12/include/emmintrin.h:703
    #1 0x7f85e3761648 in load_block /tmp/campaign/csrc/pixels.h:66
    #2 0x7f85e3761648 in transpose_row /tmp/campaign/csrc/pixels.h:109
    #3 0x7f85e37abee5 in read_image /tmp/campaign/csrc/front.c:208
    #4 0x7f85e37ba4d4 in forward /tmp/campaign/csrc/step.c:63

0x61b0000cd918 is located 0 bytes to the right of 1432-byte region [0x61b0000cd380,0x61b0000cd918)
"""
ODD = "store to misaligned address 0x62a00006c204 for type 'int64_t', which requires 8 byte alignment"
"""What gcc's sanitizers say of the planted mistakes, shortened."""


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


@pytest.mark.parametrize(
    ("bug", "report", "right"),
    [
        ("bounds", OVERFLOW, True),
        ("bounds", OVERFLOW.replace("heap-buffer-overflow", "unknown-crash"), True),
        ("bounds", OVERFLOW.replace("to the right of", "after"), True),
        ("bounds", OVERFLOW.replace("to the right of", "to the left of"), False),
        ("bounds", OVERFLOW.replace("heap-buffer-overflow", "heap-use-after-free"), False),
        ("bounds", OVERFLOW.replace("READ", "WRITE"), False),
        ("bounds", OVERFLOW.replace("front.c", "crashes.c"), False),
        ("bounds", OVERFLOW.replace("/csrc/", "/libgomp/"), False),
        ("bounds", OVERFLOW.replace("    #3", "allocated by thread T0 here:\n    #0"), False),
        ("bounds", "==7==ERROR: AddressSanitizer: SEGV on unknown address 0x0 (pc 0x1 bp 0x2 sp 0x3 T0)\n", False),
        ("undefined", f"step.c:177:23: runtime error: {ODD}", True),
        ("undefined", f"step.c:177:23: runtime error: {ODD}".replace("store to", "load of"), False),
        ("undefined", f"front.c:20:3: runtime error: {ODD}", False),
        ("undefined", "step.c:177:23: runtime error: signed integer overflow: 1 + 2147483647 cannot be ...", False),
    ],
)
def test_a_planted_mistake_is_found_only_by_a_report_of_it(campaign, bug, report, right):
    """Another kind of mistake, or one in another place, is no proof that a sanitizer sees the planted one."""
    assert campaign  # which puts the folder of the campaigns on the path
    assert importlib.import_module("campaigns.sanitizers").reported(bug, report) is right


def test_networks_whose_instance_is_left_out_may_give_other_bits(campaign):
    """All others must give the same, and the one in which the process ended is told."""
    assert campaign
    sanitizers = importlib.import_module("campaigns.sanitizers")
    wanted = subprocess.CompletedProcess([], 0, "7 aa 5,1,6,16 3,2,1,2\n8 bb\n9 cc 3,3,3,6\n10 dd\n", "")
    found = subprocess.CompletedProcess([], 1, "7 xx 5,1,6,16 3,2,1,2\n8 bb\n9 xx 3,3,3,6\n", "ERROR: planted")
    failures = {}
    sanitizers.compare(found, wanted, 7, "avx2", failures, {"5,1,6,16"})
    assert failures == {9: "network 9: other bits on avx2", 10: "network 10 on avx2: ERROR: planted"}


def test_one_instance_of_each_kind_is_kept(campaign, tmp_path):
    """The others are known by what random networks call them."""
    assert campaign
    c_builds = importlib.import_module("campaigns.c_builds")
    (tmp_path / "part").mkdir()
    (tmp_path / "whole").mkdir()
    part = c_builds.Builder(SCRIPTS.parent / "csrc", tmp_path / "part")
    whole = c_builds.Builder(SCRIPTS.parent / "csrc", tmp_path / "whole", whole=True)
    listing = (whole.copy / "conv_shapes.inc").read_text()
    assert listing == (SCRIPTS.parent / "csrc" / "conv_shapes.inc").read_text()
    assert not whole.dropped
    every = re.findall(r"^[A-Z_]+\((.*)\)", listing, re.MULTILINE)
    kept = re.findall(r"^[A-Z_]+\((.*)\)", (part.copy / "conv_shapes.inc").read_text(), re.MULTILINE)
    assert len(kept) == 2
    assert {shape.replace(" ", "") for shape in every if shape not in kept} == part.dropped


def test_sizes_are_checked(campaign, capsys):
    """A size that is no size ends in one line and code 2."""
    with pytest.raises(SystemExit) as caught:
        campaign.main(["--size", "-3", *([NAMES[0].replace("_", "-")] if NAMES else ["all"])])
    assert caught.value.code == 2
    assert "is not small, full or a positive number" in capsys.readouterr().err
