"""What commands do when their standard output cannot be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from lenet_mp.cli import command


def test_a_full_disk_under_standard_output_is_told():
    """A command whose output goes to a full disk ends with 74 and one line that says so."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        command = [sys.executable, "-m", "lenet_mp.summary", "--model", "1"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74
    assert done.stderr.startswith("lenet-mp summary: error: cannot write the output: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT])
def test_a_failing_disk_under_standard_output_is_told(code, capfd):
    """Whatever way the disk below the output fails, it is one line and 74, not a traceback."""

    @command("planted")
    def main(_argv):
        raise OSError(code, os.strerror(code))

    before = os.dup(1)
    try:
        assert main([]) == 74
    finally:
        os.dup2(before, 1)  # what follows is shown again
        os.close(before)
    assert capfd.readouterr().err == (
        f"lenet-mp planted: error: cannot write the output: {os.strerror(code)}; "
        "direct it to another disk, or make room\n"
    )


def test_a_mistake_of_the_program_is_not_taken_for_a_full_disk():
    """An error about a file, which no part of the program expected, keeps its traceback."""

    @command("planted")
    def main(_argv):
        raise OSError(errno.EIO, "Input/output error", "some/file")

    with pytest.raises(OSError, match="some/file"):
        main([])
